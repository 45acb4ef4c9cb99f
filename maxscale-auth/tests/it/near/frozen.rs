//! A process that is stopped (`SIGSTOP`) while another ends a session that it remembers.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use maxscale_auth::session::{Sessions, SqlSessions, Which, Why};
use maxscale_core::clock::{Clock, Timestamp};
use maxscale_core::id::{IdGenerator, KeyspaceTag};
use maxscale_shard::Engine;
use maxscale_tests::{Process, RedisServer, eventually};
use tokio::time::sleep;

use super::{BOUND, hub};
use crate::activity::PROOF;
use crate::support::{Bench, LIMIT, keys, nodes_of, open, variable};

const NODES: &str = "MAXSCALE_TEST_NODES";
const REDIS: &str = "MAXSCALE_TEST_REDIS";
const TOKEN: &str = "MAXSCALE_TEST_TOKEN";

/// Microseconds, as both processes count them.
#[expect(clippy::disallowed_methods, reason = "two processes compare it")]
fn now() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_micros()
}

#[tokio::test]
#[ignore = "the program that another test starts"]
async fn program_that_recognises() {
    let Some(nodes) = variable(NODES) else { return };
    let urls: Vec<String> = nodes.split(' ').map(str::to_owned).collect();
    let fleet = open(nodes_of(&urls)).await;
    let (clock, _) = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000));
    let ids = Arc::new(IdGenerator::new(clock.clone(), KeyspaceTag::default()));
    let rows = SqlSessions::new(fleet.router().clone(), clock.clone());
    let sessions = Sessions::builder(rows, keys(), ids)
        .clock(clock)
        .near(&hub(&variable(REDIS).unwrap()).await)
        .build();
    let token = sessions.read(&variable(TOKEN).unwrap()).unwrap();
    loop {
        let began = now();
        let served = sessions.recognise(&token).await.unwrap().is_some();
        println!("{} {began}", if served { "served" } else { "refused" });
        sleep(Duration::from_millis(2)).await;
    }
}

fn began(line: &str) -> u128 {
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_that_was_stopped_serves_no_revoked_session() {
    let server = RedisServer::start().await;
    let bench = Bench::new(Engine::Sqlite).await;
    let sessions = Sessions::builder(bench.rows(), bench.keys.clone(), bench.ids.clone())
        .clock(bench.clock.clone())
        .near(&hub(&server.url()).await)
        .build();
    let user = bench.ids.draw_anywhere(16);
    for stopped in [BOUND / 2, BOUND * 3 / 2, BOUND * 4] {
        let token = sessions.begin(user, PROOF, "").await.unwrap();
        let name = "near::frozen::program_that_recognises";
        let program = std::env::current_exe().unwrap();
        let program = Process::builder(program)
            .args(["--exact", name, "--ignored", "--nocapture"])
            .env(NODES, bench.urls.join(" "))
            .env(REDIS, server.url())
            .env(TOKEN, &token)
            .start();
        program.wait_for_line("served", LIMIT).await;
        // It has heard the feed by then, and remembers.
        sleep(2 * BOUND).await;
        program.pause();
        let revoked = sessions.revoke(user, Which::All, Why::Ordered).await;
        let acknowledged = now();
        assert_eq!(revoked.unwrap().ended.len(), 1);
        sleep(stopped).await;
        program.resume();
        program.wait_for_line("refused", LIMIT).await;
        let lines = program.stdout();
        let served = lines.iter().filter(|line| line.contains("served"));
        let last = served.map(|line| began(line)).max().unwrap();
        let late = last.saturating_sub(acknowledged);
        println!("stopped for {stopped:?}: served for {late} µs after the acknowledgement");
        assert!(late < BOUND.as_micros(), "{late} µs");
        let refused = |line: &&String| line.contains("refused");
        let refusals = || program.stdout().iter().filter(refused).count();
        eventually(LIMIT, async || refusals() > 20).await;
        let lines = program.stdout();
        let first = lines
            .iter()
            .position(|line| line.contains("refused"))
            .unwrap();
        let again = lines[first..].iter().any(|line| line.contains("served"));
        assert!(!again, "it came back");
        program.kill();
    }
}
