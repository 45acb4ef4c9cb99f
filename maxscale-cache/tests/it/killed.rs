//! Misses of one key in four processes, and the one that loads is killed.

use std::time::Duration;

use futures_util::future::join_all;
use maxscale_core::redis::{Command, Redis, RedisError};
use maxscale_tests::{Process, RedisServer, eventually};
use tokio::time::sleep;

use crate::program::{self, connect, patient, raise, variable, wait_for, wait_until_in_use};
use crate::source::{LIMIT, LONG};

const STORE: &str = "MAXSCALE_TEST_STORE";
const FATE: &str = "MAXSCALE_TEST_FATE";

/// Callers of each process.
const CALLERS: usize = 2_500;

/// How long the survivors may wait: for what is left of a lease, and a load.
const WAIT: Duration = Duration::from_secs(60);

/// Loads the key after all others do, or hangs if it is the first of a run in
/// which the first one is killed.
#[expect(clippy::print_stdout, reason = "the test waits for it")]
async fn load(redis: Redis) -> Result<Option<u64>, RedisError> {
    let loads = redis.command(Command::new("INCR").key("loads")).await?;
    println!("loading");
    if loads.as_int() == Some(1) && variable(FATE).as_deref() == Some("killed") {
        std::future::pending::<()>().await;
    }
    // Others come meanwhile.
    sleep(Duration::from_millis(300)).await;
    Ok(Some(7))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the program that other tests start"]
async fn program_that_misses() {
    let Some(url) = variable(STORE) else { return };
    let redis = connect(&url).await;
    let hub = patient(connect(&url).await).load_timeout(WAIT).build();
    wait_until_in_use(&hub).await;
    println!("ready");
    wait_for(&redis, "go", LIMIT).await;
    let cache = hub.cache::<u64>(LONG);
    let reads = (0..CALLERS).map(|_| {
        let (cache, redis) = (cache.clone(), redis.clone());
        tokio::spawn(async move { cache.get_or_load("hot", || load(redis)).await })
    });
    let reads: Vec<_> = reads.collect();
    println!("asked");
    for value in join_all(reads).await {
        assert_eq!(*value.unwrap().unwrap().unwrap(), 7);
    }
    println!("read all");
}

/// Four processes that miss the same key at once.
struct Four {
    processes: Vec<Process>,
    redis: Redis,
    /// Held for its drop.
    _server: RedisServer,
}

// === impl Four ===

impl Four {
    async fn start(fate: &str) -> Self {
        let server = RedisServer::start().await;
        let redis = connect(&server.url()).await;
        let variables = [(STORE, server.url()), (FATE, fate.to_owned())];
        let start = || program::start("killed::program_that_misses", &variables);
        let processes: Vec<_> = (0..4).map(|_| start()).collect();
        for process in &processes {
            process.wait_for_line("ready", WAIT).await;
        }
        raise(&redis, "go").await;
        Self {
            processes,
            redis,
            _server: server,
        }
    }

    async fn loads(&self) -> Option<i64> {
        let loads = Command::new("GET").key("loads");
        let loads = self.redis.command(loads).await.unwrap().into_bytes()?;
        std::str::from_utf8(&loads).unwrap().parse().ok()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn misses_in_four_processes_make_one_load() {
    let four = Four::start("spared").await;
    for process in &four.processes {
        process.wait_for_line("read all", WAIT).await;
    }
    assert_eq!(four.loads().await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn process_killed_while_it_loads_costs_one_more_load() {
    let mut four = Four::start("killed").await;
    for process in &four.processes {
        process.wait_for_line("asked", WAIT).await;
    }
    let is_loading = |it: &Process| it.stdout().iter().any(|line| line == "loading");
    let leader = eventually(LIMIT, async || four.processes.iter().position(is_loading)).await;
    let leader = four.processes.swap_remove(leader);
    assert_eq!(four.loads().await, Some(1));
    leader.kill();
    for process in &four.processes {
        process.wait_for_line("read all", WAIT).await;
    }
    assert_eq!(four.loads().await, Some(2));
}
