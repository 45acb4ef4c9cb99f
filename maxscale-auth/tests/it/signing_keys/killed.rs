//! Processes that rotate the keys all the time, and are killed at any moment.

use std::time::Duration;

use maxscale_core::clock::{Clock, ManualTime, Timestamp};
use maxscale_shard::sql;
use maxscale_tests::{Process, eventually};
use tokio::time::sleep;

use super::{keep, names};
use crate::support::{Bench, LIMIT, nodes_of, open, variable};

on_both!(processes_that_are_killed_leave_a_valid_set);

const URLS: &str = "MAXSCALE_TEST_SIGNING_KEYS_URLS";
const BEGAN: &str = "MAXSCALE_TEST_SIGNING_KEYS_BEGAN";

/// An hour of theirs is a hundredth of a second.
const FASTER: i64 = 360_000;

/// A clock that all processes share: the system's, made faster from `began` on.
struct Fast {
    began: Timestamp,
    clock: Clock,
    time: ManualTime,
}

impl Fast {
    fn since(began: Timestamp) -> Self {
        let (clock, time) = Clock::manual(began);
        let fast = Self { began, clock, time };
        fast.advance();
        fast
    }

    fn advance(&self) {
        let since = Clock::system().now().as_micros() - self.began.as_micros();
        let now = self.began.as_micros() + since * FASTER;
        self.time.set(Timestamp::from_micros(now));
    }
}

/// One of the processes; run by the test below and by nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of another test"]
async fn rotates_for_ever() {
    let (Some(urls), Some(began)) = (variable(URLS), variable(BEGAN)) else {
        return;
    };
    let fast = Fast::since(Timestamp::from_micros(began.parse().unwrap()));
    let urls: Vec<String> = urls.split(',').map(str::to_owned).collect();
    let fleet = open(nodes_of(&urls)).await;
    let kept = keep(fleet.router(), &fast.clock).await;
    loop {
        fast.advance();
        // A database that is busy for a moment.
        if let Err(error) = kept.look().await {
            println!("{error:?}");
        }
    }
}

fn start(urls: &str, began: Timestamp) -> Process {
    Process::builder(std::env::current_exe().unwrap())
        .args(["signing_keys::killed::rotates_for_ever", "--exact"])
        .args(["--ignored", "--nocapture"])
        .env(URLS, urls)
        .env(BEGAN, began.as_micros().to_string())
        .start()
}

async fn processes_that_are_killed_leave_a_valid_set(bench: Bench) {
    let urls = bench.urls.join(",");
    let began = Clock::system().now();
    let mut running: Vec<Process> = (0..3).map(|_| start(&urls, began)).collect();
    let version = async || {
        let mut versions = Vec::new();
        for node in bench.router().nodes().iter() {
            let read = sql("SELECT version FROM ms_signing_keys");
            let rows = node.database().fetch_all(read).await.unwrap();
            versions.extend(rows.iter().map(|row| row.get::<i64>("version").unwrap()));
        }
        assert!(versions.len() <= 1, "one row: {versions:?}");
        versions.pop().unwrap_or_default()
    };
    for round in 0..6 {
        let before = version().await;
        eventually(3 * LIMIT, async || version().await > before + 2).await;
        sleep(Duration::from_millis(u64::from(
            uuid::Uuid::new_v4().as_bytes()[0],
        )))
        .await;
        let at = round % running.len();
        assert!(running[at].is_running(), "{:?}", running[at].lines());
        running[at].kill();
        // Whoever reads it now finds one key that signs.
        let kept = keep(bench.router(), &Fast::since(began).clock).await;
        assert!((1..=3).contains(&names(&kept.keys()).len()));
        running[at] = start(&urls, began);
    }
    for process in &running {
        process.kill();
    }
}
