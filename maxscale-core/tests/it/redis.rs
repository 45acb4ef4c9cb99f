//! The handle to Redis against real servers.

mod charges;
mod cluster;
pub(crate) mod log;
mod outage;
pub(crate) mod past;
mod script;
mod sentinel;
mod server;
mod subscription;
#[cfg(feature = "redis-tls")]
mod tls;
mod together;

use std::time::Duration;

use maxscale_core::control::BreakerConfig;
use maxscale_core::redis::{Arg, Command, Redis, RedisConfig, RedisError, Reply};
use maxscale_tests::{Lateness, RedisCluster, RedisServer};
use tokio::time::Instant;

pub(crate) const TIMEOUT: Duration = Duration::from_millis(250);
/// No promise: what is to happen happens by then, on a machine however busy.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// A timeout that a stall of the machine does not use up, of tests that wait for it.
pub(crate) const AMPLE: Duration = Duration::from_secs(2);

pub(crate) fn config(server: &RedisServer) -> RedisConfig {
    RedisConfig::new(&server.url()).unwrap().timeout(TIMEOUT)
}

pub(crate) fn cluster_config(cluster: &RedisCluster) -> RedisConfig {
    let urls = cluster.urls();
    let hosts: Vec<_> = urls.iter().map(|url| past::host(url)).collect();
    // Some of them are enough.
    let url = format!("redis-cluster://{}", hosts[..2].join(","));
    RedisConfig::new(&url).unwrap().timeout(TIMEOUT)
}

pub(crate) async fn connect(config: RedisConfig) -> Redis {
    let redis = Redis::open(config);
    assert!(redis.wait_ready(SOON).await, "redis is not ready");
    redis
}

/// For tests of what a timeout does.
pub(crate) async fn open(server: &RedisServer) -> Redis {
    connect(config(server)).await
}

/// For tests of what a longer timeout does too, where a step before must not fail.
pub(crate) async fn ample(server: &RedisServer) -> Redis {
    connect(config(server).timeout(AMPLE)).await
}

/// For tests of anything else, on a machine that is busy.
pub(crate) async fn patient(server: &RedisServer) -> Redis {
    connect(config(server).timeout(SOON)).await
}

/// Closes the connections of one kind.
fn kill(kind: &str) -> Command {
    Command::new("CLIENT").args(["KILL", "TYPE", kind])
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_keep_their_form() {
    let server = RedisServer::start().await;
    let redis = patient(&server).await;
    let binary = vec![0, 159, 146, 150];

    let set = Command::new("SET").key("key").arg(binary.clone());
    assert_eq!(redis.command(set).await.unwrap(), Reply::Bytes("OK".into()));
    let get = Command::new("MGET").key("key").key("absent");
    assert_eq!(
        redis.command(get).await.unwrap(),
        Reply::Array(vec![Reply::Bytes(binary.into()), Reply::Nil])
    );
    let incr = Command::new("INCRBY").key("number").arg(i64::MAX);
    assert_eq!(redis.command(incr).await.unwrap(), Reply::Int(i64::MAX));
    let error = redis.command(Command::new("INCR").key("key")).await;
    assert!(matches!(error, Err(RedisError::Server { .. })), "{error:?}");
    assert!(redis.is_up(), "an error from the server is an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn pipeline_gives_each_reply_or_error_in_order() {
    let server = RedisServer::start().await;
    let redis = patient(&server).await;
    let mut commands: Vec<_> = (0..1_000)
        .map(|n: i64| Command::new("RPUSH").key("list").arg(n))
        .collect();
    commands.insert(500, Command::new("INCR").key("list"));

    let mut replies = redis.pipeline(commands).await;
    let wrong = replies.remove(500);
    assert!(matches!(wrong, Err(RedisError::Server { .. })), "{wrong:?}");
    for (reply, length) in replies.into_iter().zip(1..) {
        assert_eq!(reply.unwrap(), Reply::Int(length));
    }
    let last = Command::new("LRANGE").key("list").arg(-3).arg(-1);
    let last = redis.command(last).await.unwrap().into_array().unwrap();
    assert_eq!(last, ["997", "998", "999"].map(|n| Reply::Bytes(n.into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn call_has_its_own_timeout() {
    let server = RedisServer::start().await;
    // Its own would not end before all is asked.
    let redis = patient(&server).await;
    server.pause();
    let (start, late) = (Instant::now(), Lateness::watch());
    let short = Command::new("GET").key("key");
    let short = short.timeout(Duration::from_millis(20));
    let error = redis.command(short).await.unwrap_err();
    assert!(matches!(error, RedisError::Timeout { .. }), "{error:?}");
    let took = start.elapsed();
    assert!(took < TIMEOUT / 2 + late.total(), "{took:?}, {late:?}");
    assert!(redis.is_up(), "one short call is no outage");
    server.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_time_and_no_number_is_too_large() {
    let server = RedisServer::start().await;
    let breaker = BreakerConfig {
        failures: u32::MAX,
        probe_every: Duration::MAX,
    };
    let config = config(&server)
        .timeout(Duration::MAX)
        .connect_timeout(Duration::MAX)
        .in_flight(usize::MAX)
        .breaker(breaker);
    let redis = connect(config).await;
    redis.ping().await.unwrap();
    let get = Command::new("GET").key("key").timeout(Duration::MAX);
    assert_eq!(redis.command(get).await.unwrap(), Reply::Nil);
}

#[tokio::test(flavor = "multi_thread")]
async fn command_is_tried_as_often_as_it_may_and_no_more() {
    let server = RedisServer::start().await;
    let (redis, other) = (patient(&server).await, patient(&server).await);
    // Often, as the handle may not know yet that its connection is gone.
    let rounds = [(1, false)].into_iter().chain([(3, true); 30]);
    for (attempts, survives) in rounds {
        // It blocks until its connection is killed under it.
        let wait = Command::new("BLPOP").key("empty").arg(0);
        let wait = wait.attempts(attempts);
        let feed = async {
            let blocked = async || {
                let info = Command::new("INFO").arg("clients");
                let info = other.command(info).await.unwrap().into_bytes().unwrap();
                String::from_utf8_lossy(&info).contains("blocked_clients:1")
            };
            maxscale_tests::eventually(SOON, blocked).await;
            other.command(kill("normal")).await.unwrap();
            if survives {
                maxscale_tests::eventually(SOON, blocked).await;
                let push = Command::new("RPUSH").key("empty").arg("x");
                other.command(push).await.unwrap();
            }
        };
        let (reply, ()) = tokio::join!(redis.command(wait), feed);
        assert_eq!(reply.is_ok(), survives, "{attempts} attempts: {reply:?}");
        assert!(redis.wait_ready(SOON).await);
    }
}

/// How many of these pings were sent to the server.
fn sent(replies: &[Result<Reply, RedisError>]) -> usize {
    let unknown = |it: &&Result<_, RedisError>| it.as_ref().is_err_and(RedisError::may_have_run);
    replies.iter().filter(unknown).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_commands_are_in_flight_than_allowed() {
    let server = RedisServer::start().await;
    let redis = connect(config(&server).timeout(AMPLE).in_flight(2)).await;
    server.pause();
    let pings = vec![Command::new("PING"); 32];
    let replies = redis.pipeline(pings).await;
    assert_eq!(sent(&replies), 2, "{replies:?}");
    server.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_were_given_up_stay_in_flight_until_they_are_answered() {
    let server = RedisServer::start().await;
    let redis = connect(config(&server).timeout(SOON).in_flight(8)).await;
    server.pause();
    let mut given_up = 0;
    for _ in 0..32 {
        // Dropped before its timeout, so that no error tells of it.
        let call = redis.command(Command::new("INCR").key("count"));
        given_up += usize::from(tokio::time::timeout(TIMEOUT / 25, call).await.is_err());
    }
    assert!(given_up >= 8, "{given_up}");
    server.resume();
    assert!(redis.wait_ready(SOON).await);
    let count = async || {
        let get = redis.command(Command::new("GET").key("count")).await;
        get.ok()?.into_bytes()
    };
    let ran = maxscale_tests::eventually(SOON, count).await;
    assert_eq!(ran, "8", "more were sent than may be in flight");
    // And all places are free again.
    let pings = vec![Command::new("PING"); 8];
    for reply in redis.pipeline(pings).await {
        assert_eq!(reply.unwrap(), Reply::Bytes("PONG".into()));
    }
    let again = redis.command(Command::new("SET").key("count").arg(Arg::Int(0)));
    again.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn command_that_follows_is_sent_on_the_same_connection_after_a_reply() {
    let server = RedisServer::start().await;
    let redis = patient(&server).await;
    let id = || Command::new("CLIENT").arg("ID");
    let ids = redis.command(id().then(id())).await.unwrap();
    let ids = ids.into_array().unwrap();
    assert!(ids[0].as_int().is_some() && ids[0] == ids[1], "{ids:?}");

    let push = || Command::new("RPUSH").key("list").arg("x");
    redis.command(push()).await.unwrap();
    let error = redis.command(Command::new("INCR").key("list").then(push()));
    let error = error.await.unwrap_err();
    assert!(matches!(error, RedisError::Server { .. }), "{error:?}");

    // There is no replica, and it waits for one without an end.
    let wait = Command::new("WAIT").arg(1).arg(0);
    let both = push().then(wait).timeout(AMPLE);
    let both = redis.command(both).await.unwrap();
    assert_eq!(both, Reply::Array(vec![Reply::Int(2), Reply::Nil]));
}
