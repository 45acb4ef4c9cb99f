//! Scripts, and what they must not do late.

use futures_util::future::join_all;
use maxscale_core::redis::{Command, Redis, RedisError, Reply, Script};
use maxscale_tests::{RedisServer, eventually};

use super::{AMPLE, SOON, patient};

const ADD: &str = "return redis.call('INCRBY', KEYS[1], ARGV[1])";

async fn sum(redis: &Redis) -> Option<Reply> {
    redis.command(Command::new("GET").key("sum")).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn script_runs_also_after_the_server_forgot_it() {
    for script in [Script::new(ADD), Script::by_deadline(ADD)] {
        let server = RedisServer::start().await;
        let redis = patient(&server).await;
        let add = || redis.script(script.call().key("sum").arg(2));

        assert_eq!(add().await.unwrap(), Reply::Int(2));
        let forget = Command::new("SCRIPT").arg("FLUSH");
        redis.command(forget).await.unwrap();
        assert_eq!(add().await.unwrap(), Reply::Int(4));
    }
}

/// Calls `script` while the server is paused; what it did once it goes on.
async fn after_a_pause(script: &Script) -> Reply {
    let server = RedisServer::start().await;
    // With a timeout of their own, which is short for this one: it keeps its connection.
    let redis = patient(&server).await;
    redis.script(script.call().key("sum").arg(0)).await.unwrap();
    server.pause();
    let call = || script.call().key("sum").arg(1).timeout(AMPLE);
    let calls = (0..50).map(|_| redis.script(call()));
    for reply in join_all(calls).await {
        let unknown = matches!(reply, Err(RedisError::Timeout { .. }));
        assert!(unknown, "{reply:?}");
    }
    server.resume();
    // Its connection is the same one, so whatever was sent ran before this.
    eventually(SOON, async || sum(&redis).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn script_by_deadline_does_nothing_after_its_callers_gave_up() {
    let did = after_a_pause(&Script::by_deadline(ADD)).await;
    assert_eq!(did, Reply::Bytes("0".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn script_without_a_deadline_may_run_late() {
    // The harm that deadlines are there for; without it the test above is empty.
    let did = after_a_pause(&Script::new(ADD)).await;
    assert_eq!(did, Reply::Bytes("50".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn lineage_is_the_same_for_all_and_another_after_a_restart() {
    let server = RedisServer::start().await;
    let (one, other) = (patient(&server).await, patient(&server).await);
    let told = Script::new("return ARGV[2]");
    let lineage = async |redis: &Redis| {
        let (reply, script) = redis.script_from(told.call().key("k").arg(1)).await.ok()?;
        let (_, command) = redis
            .command_from(Command::new("GET").key("k"))
            .await
            .ok()?;
        let bytes = script.get().to_be_bytes().to_vec();
        assert_eq!(reply, Reply::Bytes(bytes.into()));
        assert_eq!(script, command);
        Some(script)
    };
    let before = lineage(&one).await.unwrap();
    assert_eq!(lineage(&other).await, Some(before));

    server.restart().await;
    let after = eventually(SOON, async || lineage(&one).await).await;
    assert_ne!(after, before);
}
