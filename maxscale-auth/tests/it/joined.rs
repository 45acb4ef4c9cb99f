//! Loads of many callers at once, and a sweep beside them, on a real Redis.

use std::collections::HashSet;
use std::pin::pin;

use futures_util::future::join_all;
use futures_util::poll;
use maxscale_auth::session::{RedisSessions, Session, SessionStore, Which, Why};
use maxscale_tests::eventually;

use crate::copies::{Copied, HOUR, begin, connect, copies, is_settled, is_there, key};
use crate::gated::Gated;
use crate::support::LIMIT;

const USERS: usize = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_at_once_go_together_and_each_gets_its_own_session() {
    let copied = Copied::new().await;
    let teller = copied.store();
    let mut sessions = Vec::new();
    for _ in 0..USERS {
        sessions.push(begin(&copied.bench, None, HOUR).await);
    }
    is_settled(&copied.bench).await;
    drop(teller);
    let redis = connect(&copied.servers[0].url()).await;
    let store = RedisSessions::builder(copied.bench.rows(), [redis])
        .sweep_every(HOUR)
        .wait(LIMIT)
        .build()
        .unwrap();
    for session in &sessions {
        copied.copy(&store, session).await;
    }
    // One that is nobody's, one without a copy, and one whose key is another's.
    sessions[3].id = copied.bench.ids.draw(sessions[3].user.shard());
    copied.ask("DEL", &[&key(sessions[5].user)]).await;
    copied.ask("DEL", &[&key(sessions[7].user)]).await;
    copied.ask("LPUSH", &[&key(sessions[7].user), "x"]).await;

    let mut monitor = copied.servers[0].monitor().await;
    copied.servers[0].pause();
    let load = |it: &Session| {
        let (store, user, id) = (store.clone(), it.user, it.id);
        async move { store.load(user, id).await.unwrap() }
    };
    let mut loads = pin!(join_all(sessions.iter().map(load)));
    assert!(poll!(&mut loads).is_pending());
    copied.servers[0].resume();
    for (nth, found) in loads.await.into_iter().enumerate() {
        let found = found.map(|(session, _)| (session.user, session.id));
        let wanted = (sessions[nth].user, sessions[nth].id);
        assert_eq!(found, (nth != 3).then_some(wanted), "{nth}");
    }
    // Each is a command, and all but the first few have a connection of their own.
    let heard = monitor.commands().await;
    let of = |name: &str| -> Vec<&str> {
        let lines = heard.iter().filter(|line| line.contains(name));
        lines.filter_map(|line| line.split(' ').nth(2)).collect()
    };
    let (reads, common) = (of("\"HMGET\""), of("\"EVALSHA\""));
    assert_eq!(reads.len(), USERS);
    let alone = reads.iter().filter(|it| common.contains(*it)).count();
    assert!((1..10).contains(&alone), "{alone} by the common connection");
    let places: HashSet<_> = reads.into_iter().collect();
    assert!((2..=3).contains(&places.len()), "{places:?}");
}

/// A reader that has claimed the user's hash and read the rows, and stands still.
struct Reader {
    store: RedisSessions<Gated>,
    rows: Gated,
    session: Session,
    found: tokio::task::JoinHandle<bool>,
}

impl Reader {
    async fn new(copied: &Copied) -> Self {
        let session = begin(&copied.bench, None, HOUR).await;
        let rows = Gated::new(copied.bench.rows());
        let redis = connect(&copied.servers[0].url()).await;
        let store = copies(&copied.bench, rows.clone(), [redis]);
        rows.close();
        let found = tokio::spawn({
            let (store, session) = (store.clone(), session.clone());
            async move { is_there(&store, &session).await }
        });
        eventually(LIMIT, async || rows.waiting() == 1).await;
        Self {
            store,
            rows,
            session,
            found,
        }
    }

    /// Has the copies told by somebody else of all that the rows know, and goes on.
    async fn goes_on_after_a_sweep(self, copied: &Copied) -> (RedisSessions<Gated>, Session) {
        let _teller = copied.store();
        is_settled(&copied.bench).await;
        self.rows.open();
        assert!(self.found.await.unwrap(), "so the rows said");
        (self.store, self.session)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sweep_lets_a_reader_store_what_knows_of_the_change() {
    let copied = Copied::new().await;
    let reader = Reader::new(&copied).await;
    let (_, session) = reader.goes_on_after_a_sweep(&copied).await;
    let fields = copied.ask("HLEN", &[&key(session.user)]).await;
    assert_eq!(fields.as_int(), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sweep_keeps_a_reader_from_storing_what_is_older() {
    let copied = Copied::new().await;
    let reader = Reader::new(&copied).await;
    // By a process that was killed before it told anybody.
    let rows = copied.bench.rows();
    let revoked = rows.revoke(reader.session.user, Which::All, Why::Ordered);
    revoked.await.unwrap();
    let (store, session) = reader.goes_on_after_a_sweep(&copied).await;
    let fields = copied.ask("HLEN", &[&key(session.user)]).await;
    assert_eq!(fields.as_int(), Some(0));
    assert!(!is_there(&store, &session).await);
}
