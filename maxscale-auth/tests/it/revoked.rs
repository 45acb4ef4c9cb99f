//! A revoked session stays out, whatever is late, lost or restored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use maxscale_auth::session::{
    Reach, RedisSessions, Rotation, SecretHash, Session, SessionStore, SqlSessions, Touch, Which,
    Why,
};
use maxscale_core::redis::Redis;
use maxscale_shard::Engine;
use maxscale_tests::{Proxy, RedisSentinels, Way, eventually};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, yield_now};

use crate::copies::{Copied, HOUR, ask, begin, connect, copies, is_settled, is_there, key, text};
use crate::gated::Gated;
use crate::support::{Bench, LIMIT};

/// Ends all sessions of the session's user, everywhere.
async fn revoke(store: &impl SessionStore, session: &Session) {
    let revoked = store
        .revoke(session.user, Which::All, Why::Ordered)
        .await
        .unwrap();
    assert_eq!(revoked.ended, [session.id]);
    assert_eq!(revoked.reach, Reach::Everywhere);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocation_during_200_requests_is_final() {
    let copied = Copied::of(Bench::new(Engine::Postgres).await, 1).await;
    let stores = [copied.store(), copied.store()];
    for _ in 0..3 {
        let session = begin(&copied.bench, None, HOUR).await;
        let revoked = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicU32::new(0));
        let mut requests = JoinSet::new();
        for nth in 0..200 {
            let request = Request {
                store: stores[nth % 2].clone(),
                session: session.clone(),
                revoked: revoked.clone(),
                served: served.clone(),
            };
            requests.spawn(request.run(nth));
        }
        eventually(LIMIT, async || served.load(Ordering::SeqCst) > 400).await;
        revoke(&stores[0], &session).await;
        revoked.store(true, Ordering::SeqCst);
        requests.join_all().await;
        for store in &stores {
            assert!(!is_there(store, &session).await);
        }
    }
}

struct Request {
    store: RedisSessions<SqlSessions>,
    session: Session,
    revoked: Arc<AtomicBool>,
    served: Arc<AtomicU32>,
}

// === impl Request ===

impl Request {
    /// Comes again and again, and five times more after the revocation.
    async fn run(self, nth: usize) {
        let (user, id) = (self.session.user, self.session.id);
        let (mut at, mut left) = (self.session.created_at, 5);
        while left > 0 {
            let revoked = self.revoked.load(Ordering::SeqCst);
            let found = self.store.load(user, id).await.unwrap();
            assert!(!revoked || found.is_none(), "served after its end");
            left -= u32::from(revoked);
            self.served.fetch_add(1, Ordering::SeqCst);
            at = at.after(Duration::from_secs(500));
            let touch = Touch {
                user,
                session: id,
                at,
            };
            self.store.touch(&[touch]).await.unwrap();
            if let (0, Some((session, _))) = (nth % 50, found) {
                let rotation = Rotation {
                    expected: session.version,
                    secret_hash: SecretHash::new([3; 32]),
                    grace_until: at,
                    level: session.level,
                    methods: session.methods,
                    authenticated_at: session.authenticated_at,
                };
                self.store.rotate(user, id, &rotation).await.unwrap();
            }
            yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_that_comes_back_with_older_data_brings_nothing_back() {
    let copied = Copied::new().await;
    let (session, other) = (copied.begun().await, copied.begun().await);
    let stores = [copied.store(), copied.store()];
    // What follows is lost with the server.
    copied.ask("CONFIG", &["SET", "appendonly", "no"]).await;
    revoke(&stores[0], &session).await;
    assert_eq!(copied.keys().await.len(), 1);
    is_settled(&copied.bench).await;
    copied.servers[0].kill().await;
    copied.servers[0].restart().await;

    let redis = connect(&copied.servers[0].url()).await;
    let keys = ask(&redis, "DBSIZE", &[]).await;
    assert_eq!(keys.as_int(), Some(2), "the copy is back");
    for store in [&stores[0], &stores[1], &copied.store()] {
        assert!(!is_there(store, &session).await);
        assert!(is_there(store, &other).await);
    }
    // Also when Redis is used again.
    eventually(LIMIT, async || {
        assert!(!is_there(&stores[1], &session).await);
        let stats = text(ask(&redis, "INFO", &["commandstats"]).await);
        stats.contains("cmdstat_hmget")
    })
    .await;
    for store in &stores {
        assert!(!is_there(store, &session).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_to_a_replica_that_did_not_hear_brings_nothing_back() {
    let bench = Bench::new(Engine::Sqlite).await;
    let sentinels = RedisSentinels::start().await;
    let hosts: Vec<String> = sentinels
        .urls()
        .iter()
        .map(|it| it.replace("redis://", ""))
        .collect();
    let url = format!(
        "redis-sentinel://{}/{}",
        hosts.join(","),
        RedisSentinels::NAME
    );
    let redis = connect(&url).await;
    let stores =
        [&redis, &connect(&url).await].map(|it| copies(&bench, bench.rows(), [it.clone()]));
    let session = begin(&bench, None, HOUR).await;
    assert!(is_there(&stores[0], &session).await);
    let [primary, replica] = sentinels.servers() else {
        panic!("there are two")
    };
    let hlen = format!("HLEN {}", key(session.user));
    eventually(LIMIT, async || {
        assert!(is_there(&stores[0], &session).await);
        raw(&replica.url(), &hlen).await == ":2"
    })
    .await;

    // The replica is refused when it connects again, and so hears nothing more.
    assert_eq!(
        raw(&replica.url(), "CONFIG SET masterauth none").await,
        "+OK"
    );
    assert_eq!(raw(&replica.url(), "CLIENT KILL TYPE master").await, ":1");
    revoke(&stores[0], &session).await;
    assert_eq!(raw(&primary.url(), &hlen).await, ":0");
    assert_eq!(raw(&replica.url(), &hlen).await, ":2", "it has the copy");
    is_settled(&bench).await;
    primary.kill().await;

    let follows = async || {
        assert!(!is_there(&stores[0], &session).await);
        let role = ask_role(&redis).await;
        role.is_some_and(|role| role.contains("role:master"))
    };
    eventually(3 * LIMIT, follows).await;
    for store in &stores {
        assert!(!is_there(store, &session).await);
    }
}

/// What the server that is the primary now says of itself.
async fn ask_role(redis: &Redis) -> Option<String> {
    let info = maxscale_core::redis::Command::new("INFO").arg("replication");
    redis.command(info).await.ok().map(text)
}

/// The first line of the answer, from a server whatever it is.
async fn raw(url: &str, command: &str) -> String {
    let address = url.strip_prefix("redis://").unwrap();
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    let line = format!("{command}\r\n");
    stream.write_all(line.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_line(&mut answer).await.unwrap();
    answer.trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_hydration_is_refused() {
    let copied = Copied::new().await;
    let session = begin(&copied.bench, None, HOUR).await;
    let gated = Gated::new(copied.bench.rows());
    let redis = connect(&copied.servers[0].url()).await;
    let slow = copies(&copied.bench, gated.clone(), [redis]);
    let store = copied.store();

    gated.close();
    let late = tokio::spawn({
        let (slow, session) = (slow.clone(), session.clone());
        async move { is_there(&slow, &session).await }
    });
    // It has read the rows, and stands still.
    eventually(LIMIT, async || gated.waiting() == 1).await;
    revoke(&store, &session).await;
    // Nobody else will look after it.
    is_settled(&copied.bench).await;
    gated.open();
    assert!(late.await.unwrap(), "it was asked before the end");

    assert!(!is_there(&store, &session).await);
    assert!(!is_there(&slow, &session).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_whose_process_died_is_told_by_another() {
    let copied = Copied::new().await;
    let session = copied.begun().await;
    // All that a process leaves that is killed after its commit.
    let rows = copied.bench.rows();
    let _ = rows
        .revoke(session.user, Which::All, Why::Ordered)
        .await
        .unwrap();

    let store = copied.store();
    eventually(LIMIT, async || !is_there(&store, &session).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_reach_redis_says_so_and_reads_the_rows() {
    let copied = Copied::new().await;
    let proxy = Proxy::start(copied.servers[0].url()).await;
    let apart = copied.store_by(&proxy.url()).await;
    let session = copied.begun().await;
    assert!(is_there(&apart, &session).await);
    proxy.refuse().await;
    proxy.cut(maxscale_tests::Cut::Reset).await;

    let revoked = apart
        .revoke(session.user, Which::All, Why::Ordered)
        .await
        .unwrap();
    assert_eq!(revoked.ended, [session.id]);
    assert_eq!(revoked.reach, Reach::Stored);
    assert!(!is_there(&apart, &session).await);
    proxy.heal().await;
    // The copy may still be there when the way is free again.
    for _ in 0..50 {
        assert!(!is_there(&apart, &session).await);
        yield_now().await;
    }
    let other = copied.store();
    eventually(LIMIT, async || !is_there(&other, &session).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_that_cannot_be_dropped_is_not_read() {
    let copied = Copied::new().await;
    let (store, other) = (copied.store(), copied.store());
    let session = copied.begun().await;
    is_settled(&copied.bench).await;
    copied.ask("ACL", &["SETUSER", "default", "-del"]).await;
    let revoked = store.revoke(session.user, Which::All, Why::Ordered).await;
    assert_eq!(revoked.unwrap().reach, Reach::Stored);
    assert!(is_there(&other, &session).await, "the copy is there");
    for _ in 0..20 {
        assert!(!is_there(&store, &session).await);
    }
    copied.ask("ACL", &["SETUSER", "default", "+del"]).await;
    eventually(LIMIT, async || !is_there(&other, &session).await).await;
    is_settled(&copied.bench).await;
    assert!(!is_there(&store, &session).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answer_that_is_lost_is_taken_for_none() {
    let copied = Copied::new().await;
    let proxy = Proxy::start(copied.servers[0].url()).await;
    let config = maxscale_core::redis::RedisConfig::new(&proxy.url()).unwrap();
    let redis = Redis::open(config.timeout(Duration::from_millis(500)));
    assert!(redis.wait_ready(LIMIT).await);
    let store = copies(&copied.bench, copied.bench.rows(), [redis]);
    let session = copied.begun().await;
    proxy.black_hole(Way::ToClient);
    let revoked = store
        .revoke(session.user, Which::All, Why::Ordered)
        .await
        .unwrap();
    assert_eq!(revoked.reach, Reach::Stored);
    assert!(!is_there(&store, &session).await);
    proxy.heal().await;
    assert!(!is_there(&copied.store(), &session).await, "it was dropped");
}
