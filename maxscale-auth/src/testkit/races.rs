//! What holds when calls come at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use maxscale_core::clock::Timestamp;
use maxscale_core::id::Id;
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;

use super::{Suite, begin, load, most, new, ok, revoke, secret, touch};
use crate::session::{Created, Rotation, Session, SessionStore, Which};

/// Each race is run so often: one that is lost rarely is lost all the same.
const ROUNDS: u32 = 12;
const AT_ONCE: u8 = 8;
/// How many reads come before a revocation, and as many after it.
const READS: u32 = 24;

impl<S: SessionStore, F: Fn() -> Id> Suite<S, F> {
    pub(super) async fn races(&self) {
        for _ in 0..ROUNDS {
            self.one_of_racing_creates_is_stored().await;
            self.racing_creates_keep_within_capacity().await;
            self.one_of_racing_exchanges_wins().await;
        }
        for round in 0..ROUNDS {
            self.revocation_absorbs(round).await;
        }
    }

    async fn one_of_racing_creates_is_stored(&self) {
        let session = self.session(self.draw());
        let created = self
            .at_once(|store, nth| {
                let mut session = session.clone();
                session.secret_hash = secret(nth);
                async move {
                    let created = ok(store.create(&new(&session), most(5)).await);
                    (created != Created::Exists).then_some(session)
                }
            })
            .await;
        let mut stored = created.into_iter().flatten();
        let first = stored.next().expect("one of them is stored");
        assert_eq!(stored.next(), None, "two of one id");
        for store in [self.one(), self.other()] {
            assert_eq!(load(store, &first).await.as_ref(), Some(&first));
        }
    }

    async fn racing_creates_keep_within_capacity(&self) {
        const MOST: usize = 3;
        let user = self.draw();
        let sessions: Vec<Session> = (0..AT_ONCE).map(|_| self.session(user)).collect();
        let ended = self
            .at_once(|store, nth| {
                let session = sessions[usize::from(nth)].clone();
                async move {
                    let created = store.create(&new(&session), most(3)).await;
                    match ok(created) {
                        Created::Stored { ended } => ended,
                        Created::Exists => panic!("{} is no new id", session.id),
                    }
                }
            })
            .await;
        let ended: Vec<Id> = ended.into_iter().flatten().collect();
        let mut live = 0;
        for session in &sessions {
            let found = load(self.other(), session).await.is_some();
            assert_ne!(found, ended.contains(&session.id), "{}", session.id);
            live += usize::from(found);
        }
        assert_eq!(live, MOST);
    }

    async fn one_of_racing_exchanges_wins(&self) {
        let session = self.begun(self.draw()).await;
        let won = self
            .at_once(|store, nth| {
                let rotation = self.rotation(1, 10 + nth);
                let (user, id) = (session.user, session.id);
                async move {
                    let rotated = ok(store.rotate(user, id, &rotation).await);
                    rotated.then_some(rotation)
                }
            })
            .await;
        let won: Vec<Rotation> = won.into_iter().flatten().collect();
        assert_eq!(won.len(), 1, "{won:?}");
        let found = load(self.other(), &session).await.expect("it is there");
        assert_eq!(found.secret_hash, won[0].secret_hash);
        assert_eq!(found.version, 2);
        let previous = found.previous.map(|it| it.secret_hash);
        assert_eq!(previous, Some(session.secret_hash));
    }

    /// Everything that could bring a session back runs before, while and after it is
    /// revoked. No read that begins after the answer finds it.
    async fn revocation_absorbs(&self, round: u32) {
        let session = self.begun(self.draw()).await;
        let race = Arc::new(Race::new(session.clone(), self.now));
        let mut tasks = JoinSet::new();
        for store in &self.stores {
            tasks.spawn(race.clone().read(store.clone()));
            tasks.spawn(race.clone().touch(store.clone()));
            tasks.spawn(race.clone().rotate(store.clone(), self.rotation(1, 9)));
            tasks.spawn(race.clone().create(store.clone()));
        }
        // Other changes of the same user.
        let others: Vec<Session> = (0..4).map(|_| self.session(session.user)).collect();
        tasks.spawn(race.clone().begin(self.stores[1].clone(), others));

        race.reads(READS, &mut tasks).await;
        let which = match round % 2 {
            0 => Which::One(session.id),
            _ => Which::All,
        };
        let ended = revoke(self.one(), session.user, which).await;
        race.revoked.store(true, Ordering::SeqCst);
        assert!(ended.contains(&session.id));
        race.reads(READS, &mut tasks).await;
        race.over.store(true, Ordering::SeqCst);
        tasks.join_all().await;
        for store in [self.one(), self.other()] {
            assert_eq!(load(store, &session).await, None, "round {round}");
        }
    }

    /// Makes the calls on both handles in turn, each in a task of its own, and waits for all.
    async fn at_once<T, C>(&self, call: impl Fn(Arc<S>, u8) -> C) -> Vec<T>
    where
        C: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let mut calls = JoinSet::new();
        for nth in 0..AT_ONCE {
            let store = self.stores[usize::from(nth % 2)].clone();
            calls.spawn(call(store, nth));
        }
        calls.join_all().await
    }
}

/// A session that will be revoked, and what is known of it.
struct Race {
    session: Session,
    now: Timestamp,
    reads: AtomicU32,
    revoked: AtomicBool,
    over: AtomicBool,
}

// === impl Race ===

impl Race {
    fn new(session: Session, now: Timestamp) -> Self {
        Self {
            session,
            now,
            reads: AtomicU32::new(0),
            revoked: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::SeqCst)
    }

    /// Waits until there were so many more reads, or a task has failed.
    async fn reads(&self, more: u32, tasks: &mut JoinSet<()>) {
        let count = self.reads.load(Ordering::SeqCst) + more;
        while self.reads.load(Ordering::SeqCst) < count {
            if let Some(Err(failed)) = tasks.try_join_next() {
                panic!("{failed}");
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn read<S: SessionStore>(self: Arc<Self>, store: Arc<S>) {
        while self.goes_on() {
            let revoked = self.revoked.load(Ordering::SeqCst);
            let found = load(&*store, &self.session).await;
            assert!(!revoked || found.is_none(), "a revoked session was read");
            self.reads.fetch_add(1, Ordering::SeqCst);
            yield_now().await;
        }
    }

    async fn touch<S: SessionStore>(self: Arc<Self>, store: Arc<S>) {
        let mut at = self.now;
        while self.goes_on() {
            at = at.after(Duration::from_secs(600));
            touch(&*store, &self.session, at).await;
            yield_now().await;
        }
    }

    async fn rotate<S: SessionStore>(self: Arc<Self>, store: Arc<S>, mut rotation: Rotation) {
        let (user, id) = (self.session.user, self.session.id);
        while self.goes_on() {
            let revoked = self.revoked.load(Ordering::SeqCst);
            let rotated = ok(store.rotate(user, id, &rotation).await);
            assert!(!revoked || !rotated, "a revoked session was exchanged");
            rotation.expected = rotation.expected % 20 + 1;
            yield_now().await;
        }
    }

    async fn create<S: SessionStore>(self: Arc<Self>, store: Arc<S>) {
        while self.goes_on() {
            let created = ok(store.create(&new(&self.session), most(100)).await);
            assert_eq!(created, Created::Exists);
            yield_now().await;
        }
    }

    async fn begin<S: SessionStore>(self: Arc<Self>, store: Arc<S>, others: Vec<Session>) {
        for other in others {
            begin(&*store, &other).await;
            yield_now().await;
        }
    }
}
