//! When sessions were used last, in a store that takes it or does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use maxscale_auth::session::{
    Level, MemorySessions, Methods, Proof, SessionPolicy, SessionStore, Sessions,
};
use maxscale_core::clock::{Clock, ManualTime, Timestamp};
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::{Id, IdGenerator, KeyspaceTag};
use maxscale_tests::eventually;
use tokio::sync::Semaphore;

use crate::counting::Counting;
use crate::support::{LIMIT, keys};

pub(crate) const PROOF: Proof = Proof {
    level: Level::Aal1,
    methods: Methods::PASSWORD,
};

/// A handle to sessions in memory, on a clock that stands still.
pub(crate) struct Desk {
    pub(crate) memory: MemorySessions,
    pub(crate) store: Counting,
    pub(crate) sessions: Sessions,
    pub(crate) ids: Arc<IdGenerator>,
    pub(crate) clock: Clock,
    pub(crate) time: ManualTime,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let (clock, time) = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000));
        let ids = IdGenerator::new(clock.clone(), KeyspaceTag::default());
        let (ids, memory) = (Arc::new(ids), MemorySessions::new(clock.clone()));
        let store = Counting::new(memory.clone());
        let builder = Sessions::builder(store.clone(), keys(), ids.clone());
        let sessions = builder.clock(clock.clone()).build();
        Self {
            memory,
            store,
            sessions,
            ids,
            clock,
            time,
        }
    }

    pub(crate) fn user(&self) -> Id {
        self.ids.draw(VirtualShard::new(3))
    }

    pub(crate) async fn begin(&self) -> String {
        self.sessions.begin(self.user(), PROOF, "").await.unwrap()
    }

    async fn uses(&self, text: &str) {
        let token = self.sessions.read(text).unwrap();
        self.sessions.recognise(&token).await.unwrap().unwrap();
    }
}

fn touch_every() -> Duration {
    SessionPolicy::default().touch_every
}

#[tokio::test(start_paused = true)]
async fn requests_of_a_minute_are_one_write_that_none_of_them_waits_for() {
    let desk = Desk::new();
    let token = desk.begin().await;
    desk.time.advance(touch_every());
    // The store takes no touch: a request that waited for it would never end.
    let gate = desk.store.hold_touches();
    for _ in 0..500 {
        desk.uses(&token).await;
    }
    gate.add_permits(Semaphore::MAX_PERMITS);
    eventually(LIMIT, async || desk.store.touched().len() == 1).await;
    for _ in 0..500 {
        desk.uses(&token).await;
    }
    desk.sessions.shutdown().await.unwrap();
    let touched = desk.store.touched();
    assert_eq!(touched.len(), 1, "{touched:?}");
    assert_eq!(touched[0].at, desk.clock.now());
}

#[tokio::test(start_paused = true)]
async fn session_that_lasts_shortly_is_noted_more_often() {
    let desk = Desk::new();
    let mut brief = SessionPolicy::default();
    brief.idle = Duration::from_secs(20);
    let sessions = Sessions::builder(desk.store.clone(), keys(), desk.ids.clone())
        .clock(desk.clock.clone())
        .policy(brief)
        .build();
    let token = sessions.begin(desk.user(), PROOF, "").await.unwrap();
    let token = sessions.read(&token).unwrap();
    for _ in 0..20 {
        desk.time.advance(Duration::from_secs(6));
        assert!(sessions.recognise(&token).await.unwrap().is_some());
        sessions.shutdown().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn many_do_not_wait_for_the_time() {
    let desk = Desk::new();
    let mut tokens = Vec::new();
    for _ in 0..1_000 {
        tokens.push(desk.begin().await);
    }
    desk.time.advance(touch_every());
    let began = tokio::time::Instant::now();
    for token in &tokens {
        desk.uses(token).await;
    }
    eventually(LIMIT, async || desk.store.touched().len() == 1_000).await;
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn what_the_store_did_not_take_is_tried_again() {
    let desk = Desk::new();
    let token = desk.begin().await;
    desk.time.advance(touch_every());
    desk.store.refuse_touches(true);
    desk.uses(&token).await;
    desk.sessions.shutdown().await.unwrap_err();
    assert!(desk.store.touched().is_empty());
    desk.store.refuse_touches(false);
    eventually(LIMIT, async || desk.store.touched().len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn task_ends_with_its_owner() {
    let desk = Desk::new();
    let token = desk.begin().await;
    desk.time.advance(touch_every());
    desk.uses(&token).await;
    let gone = Arc::new(AtomicBool::new(false));
    desk.store.tell_drop(gone.clone());
    drop(desk);
    eventually(LIMIT, async || gone.load(Ordering::SeqCst)).await;
}

#[tokio::test]
async fn late_note_brings_no_revoked_session_back() {
    let desk = Desk::new();
    let token = desk.begin().await;
    desk.time.advance(touch_every());
    desk.uses(&token).await;
    let read = desk.sessions.read(&token).unwrap();
    let principal = desk.sessions.recognise(&read).await.unwrap().unwrap();
    use maxscale_auth::session::{Which, Why};
    let (user, id) = (principal.user(), principal.session());
    let revoked = desk.sessions.revoke(user, Which::All, Why::Ordered).await;
    assert_eq!(revoked.unwrap().ended, [id]);
    desk.sessions.shutdown().await.unwrap();
    assert_eq!(desk.store.load(user, id).await.unwrap(), None);
    assert_eq!(desk.sessions.recognise(&read).await.unwrap(), None);
}
