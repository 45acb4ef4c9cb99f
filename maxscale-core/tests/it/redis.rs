use std::time::Duration;

use futures_util::future::join_all;
use maxscale_core::redis::{
    Arg, Event, Redis, RedisConfig, RedisError, Reply, Script, Subscription,
};
use maxscale_tests::{RedisServer, eventually};
use tokio::time::{Instant, timeout};

const TIMEOUT: Duration = Duration::from_millis(250);
const SOON: Duration = Duration::from_secs(5);
/// Scheduling on a loaded machine, on top of what is promised.
const SLACK: Duration = Duration::from_millis(100);

async fn open(server: &RedisServer) -> Redis {
    let config = RedisConfig::new(&server.url()).unwrap().timeout(TIMEOUT);
    let redis = Redis::open(config);
    assert!(redis.wait_ready(SOON).await, "redis is not ready");
    redis
}

async fn next(events: &mut Subscription) -> Event {
    timeout(SOON, events.next())
        .await
        .expect("an event in time")
        .expect("the subscription goes on")
}

async fn publish(redis: &Redis, message: &str) {
    redis
        .command("PUBLISH", vec!["news".into(), message.into()])
        .await
        .unwrap();
}

fn message(text: &'static str) -> Event {
    Event::Message(text.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_keep_their_form() {
    let server = RedisServer::start().await;
    let redis = open(&server).await;
    let binary = vec![0, 159, 146, 150];

    let set = vec!["key".into(), binary.clone().into()];
    assert_eq!(
        redis.command("SET", set).await.unwrap(),
        Reply::Bytes("OK".into())
    );
    let get = |key: &str| redis.command("MGET", vec!["key".into(), key.into()]);
    assert_eq!(
        get("absent").await.unwrap(),
        Reply::Array(vec![Reply::Bytes(binary.into()), Reply::Nil])
    );
    let incr = vec!["number".into(), Arg::Int(i64::MAX)];
    assert_eq!(
        redis.command("INCRBY", incr).await.unwrap(),
        Reply::Int(i64::MAX)
    );
    let error = redis.command("INCR", vec!["key".into()]).await.unwrap_err();
    assert!(matches!(error, RedisError::Server { .. }), "{error:?}");
    assert!(redis.is_up(), "an error from the server is an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn script_runs_also_after_the_server_forgot_it() {
    static ADD: Script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    let server = RedisServer::start().await;
    let redis = open(&server).await;
    let add = || redis.script(&ADD, vec!["sum".into()], vec![Arg::Int(2)]);

    assert_eq!(add().await.unwrap(), Reply::Int(2));
    redis.command("SCRIPT", vec!["FLUSH".into()]).await.unwrap();
    assert_eq!(add().await.unwrap(), Reply::Int(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_server_makes_no_call_wait_longer_than_twice_the_timeout() {
    let server = RedisServer::start().await;
    let redis = open(&server).await;
    server.pause();

    let call = async || {
        let start = Instant::now();
        let error = redis.command("GET", vec!["key".into()]).await.unwrap_err();
        (start.elapsed(), error)
    };
    let first = join_all((0..64).map(|_| call())).await;
    for (waited, error) in first {
        assert!(waited < 2 * TIMEOUT + SLACK, "{waited:?} {error:?}");
    }
    assert!(!redis.is_up(), "the breaker is open");

    // From here on nothing waits for the server.
    let start = Instant::now();
    for _ in 0..1_000 {
        let (_, error) = call().await;
        assert!(matches!(error, RedisError::Down), "{error:?}");
    }
    assert!(start.elapsed() < TIMEOUT, "{:?}", start.elapsed());

    server.resume();
    eventually(Duration::from_secs(2), async || redis.ping().await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_handle_notices_a_paused_server_by_itself() {
    let server = RedisServer::start().await;
    let redis = open(&server).await;
    server.pause();
    let mut up = redis.watch_up();
    timeout(SOON, up.wait_for(|up| !up)).await.unwrap().unwrap();
    server.resume();
    assert!(redis.wait_ready(Duration::from_secs(2)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_pause_ends_within_two_seconds_too() {
    let server = RedisServer::start().await;
    let redis = open(&server).await;
    server.pause();
    let start = Instant::now();
    // Past the time after which a silent connection is given up.
    eventually(Duration::from_secs(9), async || {
        start.elapsed() > Duration::from_secs(4)
    })
    .await;
    assert!(!redis.is_up());
    server.resume();
    assert!(redis.wait_ready(Duration::from_secs(2)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_restarted_server_is_used_again() {
    let server = RedisServer::start().await;
    let redis = open(&server).await;
    server.kill().await;
    eventually(SOON, async || !redis.is_up()).await;
    let start = Instant::now();
    assert!(matches!(redis.ping().await, Err(RedisError::Down)));
    assert!(start.elapsed() < TIMEOUT);

    server.restart().await;
    eventually(Duration::from_secs(2), async || redis.ping().await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handle_opened_before_its_server_connects_later() {
    let server = RedisServer::start().await;
    server.kill().await;
    let redis = Redis::open(RedisConfig::new(&server.url()).unwrap());
    assert!(matches!(redis.ping().await, Err(RedisError::Down)));
    server.restart().await;
    assert!(redis.wait_ready(Duration::from_secs(2)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_commands_are_in_flight_than_allowed() {
    let server = RedisServer::start().await;
    let config = RedisConfig::new(&server.url())
        .unwrap()
        .in_flight(2)
        .timeout(TIMEOUT);
    let redis = Redis::open(config);
    assert!(redis.wait_ready(SOON).await);
    server.pause();

    let errors = join_all((0..32).map(|_| redis.ping())).await;
    let sent = errors
        .iter()
        .filter(|e| e.as_ref().is_err_and(RedisError::may_have_run))
        .count();
    assert!((2..=4).contains(&sent), "{errors:?}");
    server.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_runs_twice_when_its_connection_breaks() {
    let server = RedisServer::start().await;
    let (redis, other) = (open(&server).await, open(&server).await);
    for round in 0..20 {
        let push = |n: i64| redis.command("RPUSH", vec!["log".into(), Arg::Int(round * 100 + n)]);
        let kill = vec!["KILL".into(), "TYPE".into(), "normal".into()];
        // Some run and lose their replies with the connection.
        let (replies, _) =
            tokio::join!(join_all((0..100).map(push)), other.command("CLIENT", kill));
        drop(replies);
        assert!(redis.wait_ready(SOON).await && other.wait_ready(SOON).await);
    }
    let range = vec!["log".into(), Arg::Int(0), Arg::Int(-1)];
    let log = redis.command("LRANGE", range).await.unwrap();
    let mut log: Vec<_> = log
        .into_array()
        .unwrap()
        .into_iter()
        .map(Reply::into_bytes)
        .collect();
    let len = log.len();
    log.sort_unstable();
    log.dedup();
    assert_eq!(log.len(), len, "each entry is there once");
}

#[tokio::test(flavor = "multi_thread")]
async fn subscription_tells_of_a_broken_connection() {
    let server = RedisServer::start().await;
    let redis = open(&server).await;
    let mut events = redis.subscribe("news");
    assert_eq!(next(&mut events).await, Event::Reconnected);
    publish(&redis, "one").await;
    assert_eq!(next(&mut events).await, message("one"));

    let kill = vec!["KILL".into(), "TYPE".into(), "pubsub".into()];
    redis.command("CLIENT", kill).await.unwrap();
    assert_eq!(next(&mut events).await, Event::Gap);
    assert_eq!(next(&mut events).await, Event::Reconnected);
    publish(&redis, "two").await;
    assert_eq!(next(&mut events).await, message("two"));
}

#[tokio::test(flavor = "multi_thread")]
async fn subscription_loses_no_message_silently() {
    let server = RedisServer::start().await;
    let redis = open(&server).await;
    let mut events = redis.subscribe("news");
    assert_eq!(next(&mut events).await, Event::Reconnected);

    for round in 0..100 {
        let publish = |n: i64| publish_number(&redis, 10 * round + n);
        join_all((0..5).map(publish)).await;
        let kill = vec!["KILL".into(), "TYPE".into(), "pubsub".into()];
        redis.command("CLIENT", kill).await.unwrap();
        join_all((5..10).map(publish)).await;

        let mut seen = Vec::new();
        loop {
            match next(&mut events).await {
                Event::Message(bytes) => seen.push(bytes),
                Event::Gap => break,
                Event::Reconnected => panic!("reconnected without a gap"),
            }
        }
        // No message is missing before the gap.
        let sent: Vec<_> = (0..seen.len())
            .map(|n| (10 * round + i64::try_from(n).unwrap()).to_string())
            .collect();
        assert_eq!(seen, sent);
        assert_eq!(next(&mut events).await, Event::Reconnected);
    }
}

async fn publish_number(redis: &Redis, number: i64) {
    redis
        .command("PUBLISH", vec!["news".into(), Arg::Int(number)])
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_reader_is_told_of_a_gap() {
    let server = RedisServer::start().await;
    let redis = open(&server).await;
    let mut events = redis.subscribe("news");
    assert_eq!(next(&mut events).await, Event::Reconnected);
    for _ in 0..40 {
        join_all((0..250).map(|n| publish_number(&redis, n))).await;
    }
    publish(&redis, "last").await;

    let (mut messages, mut gaps) = (0, 0);
    loop {
        match next(&mut events).await {
            event if event == message("last") => break,
            Event::Message(_) => messages += 1,
            Event::Gap => gaps += 1,
            Event::Reconnected => panic!("the connection stood"),
        }
    }
    assert!(
        gaps > 0 && messages < 10_000,
        "{gaps} gaps, {messages} messages"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_handle_and_dropped_subscription_leave_no_connection() {
    let server = RedisServer::start().await;
    let (redis, other) = (open(&server).await, open(&server).await);
    let mut events = other.subscribe("news");
    assert_eq!(next(&mut events).await, Event::Reconnected);
    let connections = async || {
        let list = redis.command("CLIENT", vec!["LIST".into()]).await.unwrap();
        let list = list.into_bytes().unwrap();
        list.iter().filter(|b| **b == b'\n').count()
    };
    assert_eq!(connections().await, 3);
    other.close().await;
    assert!(matches!(other.ping().await, Err(RedisError::Down)));
    drop(events);
    eventually(SOON, async || connections().await == 1).await;
}
