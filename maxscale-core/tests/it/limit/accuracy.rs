//! How many requests several processes admit together, by their merged logs.
//!
//! A request was admitted at some moment between its two times, so what lies in a
//! window with both was admitted in that window. And one that was denied shows that all
//! was used: only such times count for how much is, as a machine that is busy may ask
//! for less than there is.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use maxscale_core::clock::Clock;
use maxscale_core::limit::{Policy, Quota, Rate, Source};
use maxscale_core::redis::{Redis, RedisConfig};
use maxscale_tests::RedisServer;
use tokio::process::Command;
use tokio::task::JoinSet;

use super::{both, through};
use crate::redis::SOON;

const ORDER: &str = "MAXSCALE_TEST_ADMIT";
const TASKS: usize = 8;
const LEASE: Duration = Duration::from_millis(500);

/// A part of the time, in microseconds: in which nobody was denied, not all was asked for.
const SLOT: i64 = 50_000;

/// So often a process is denied before it ends, however slow it is.
const DENIED: u32 = 50;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Strict,
    Leased,
    Quota,
}

const PER_SECOND: u32 = 400;
const BURST: u32 = 320;

impl Kind {
    fn policy(self) -> Policy {
        let rate = Rate::per_second(PER_SECOND).unwrap().burst(BURST).unwrap();
        match self {
            Self::Strict => Policy::new("strict", rate).unwrap().strict(),
            Self::Leased => Policy::new("leased", rate).unwrap().leased(LEASE).unwrap(),
            Self::Quota => {
                let quota = Quota::new(PER_SECOND, Duration::from_secs(1)).unwrap();
                Policy::new("quota", quota).unwrap()
            }
        }
    }

    /// How many any window of so many milliseconds may admit.
    fn bound(self, window: u32) -> usize {
        let rate = |millis: u32| PER_SECOND * millis / 1_000;
        let bound = match self {
            Self::Strict => BURST + rate(window),
            Self::Leased => BURST + rate(window + 500) + BURST / 8,
            Self::Quota => rate(window),
        };
        bound as usize
    }

    /// Of what could be admitted in a minute so much must be.
    fn used(self) -> f64 {
        match self {
            Self::Strict => 0.99,
            Self::Leased => 0.98,
            // One of ten slices is counted in full.
            Self::Quota => 0.9,
        }
    }

    fn parse(name: &str) -> Self {
        let kinds = [Self::Strict, Self::Leased, Self::Quota];
        let mut kinds = kinds.into_iter();
        kinds.find(|kind| format!("{kind:?}") == name).unwrap()
    }
}

/// A process that asks as often as it can, and writes down when it was admitted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of other tests"]
#[expect(
    clippy::disallowed_methods,
    reason = "how a test tells itself what to do"
)]
async fn process() {
    let Ok(order) = std::env::var(ORDER) else {
        return;
    };
    let mut order = order.split(' ');
    let mut next = || order.next().unwrap();
    let (url, kind, file) = (next(), Kind::parse(next()), next());
    let seconds: i64 = next().parse().unwrap();
    // Many processes share few cores here: what is slow is not down.
    let config = RedisConfig::new(url).unwrap().timeout(SOON);
    let redis = Redis::open(config);
    assert!(redis.wait_ready(SOON).await);
    let limits = both(through(redis));
    let clock = Clock::system();
    let end = clock.now().as_micros() + seconds * 1_000_000;
    let denied = Arc::new(AtomicU32::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (limits, clock, policy) = (limits.clone(), clock.clone(), kind.policy());
        let denied = denied.clone();
        tasks.spawn(async move {
            let mut asked = Vec::new();
            loop {
                let sent = clock.now().as_micros();
                if sent > end && denied.load(Relaxed) >= DENIED {
                    return asked;
                }
                let decision = limits.check(&policy, "all").await;
                assert_ne!(decision.source(), Source::Fallback);
                let is_allowed = decision.is_allowed();
                asked.push((sent, clock.now().as_micros(), is_allowed));
                if !is_allowed {
                    denied.fetch_add(1, Relaxed);
                    let wait = decision.retry_after().unwrap();
                    tokio::time::sleep(wait.min(Duration::from_millis(5))).await;
                }
            }
        });
    }
    let mut lines = String::new();
    for (sent, done, is_allowed) in tasks.join_all().await.into_iter().flatten() {
        lines += &format!("{sent} {done} {is_allowed}\n");
    }
    tokio::fs::write(file, lines).await.unwrap();
}

/// What all processes were told together.
#[derive(Default)]
struct Told {
    admitted: Vec<[i64; 2]>,
    /// In which slots somebody was denied.
    denied: BTreeSet<i64>,
}

async fn told(kind: Kind, processes: usize, seconds: u32, folder: &Path) -> Told {
    let server = RedisServer::start().await;
    let mut running = JoinSet::new();
    for n in 0..processes {
        let file = folder.join(format!("{kind:?}-{n}"));
        let order = format!("{} {kind:?} {} {seconds}", server.url(), file.display());
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["--ignored", "--exact", "limit::accuracy::process"])
            .env(ORDER, order)
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        running.spawn(async move {
            let ended = child.output().await.unwrap();
            let told = String::from_utf8_lossy(&ended.stdout).into_owned();
            assert!(ended.status.success(), "{told}");
            tokio::fs::read_to_string(file).await.unwrap()
        });
    }
    let logs = running.join_all().await;
    let mut all = Told::default();
    for line in logs.iter().flat_map(|log| log.lines()) {
        let mut words = line.split(' ');
        let mut time = || words.next().unwrap().parse::<i64>().unwrap();
        let times = [time(), time()];
        match words.next() {
            Some("true") => all.admitted.push(times),
            _ => drop(all.denied.insert(times[1] / SLOT)),
        }
    }
    all
}

/// The most that a window of so many milliseconds surely admitted.
fn most_in(millis: u32, admitted: &[[i64; 2]]) -> usize {
    let times = |which: usize| {
        let mut times: Vec<i64> = admitted.iter().map(|it| it[which]).collect();
        times.sort_unstable();
        times
    };
    let (sent, done) = (times(0), times(1));
    let window = i64::from(millis) * 1_000;
    let counts = sent.iter().enumerate().map(|(before, begin)| {
        let ended = done.partition_point(|done| *done <= begin + window);
        ended.saturating_sub(before)
    });
    counts.max().unwrap_or(0)
}

async fn stay_within(kind: Kind, processes: usize, seconds: u32) {
    let folder = tempfile::tempdir().unwrap();
    let Told { admitted, denied } = told(kind, processes, seconds, folder.path()).await;
    for millis in [1_000, 10_000, 60_000] {
        // Of a quota only its own window is promised.
        if millis > 1_000 * seconds || millis > 1_000 && matches!(kind, Kind::Quota) {
            continue;
        }
        let (most, bound) = (most_in(millis, &admitted), kind.bound(millis));
        println!("{kind:?}: at most {most} of {bound} in {millis} ms");
        assert!(most <= bound, "{most} in {millis} ms");
    }
    assert!(!denied.is_empty(), "all that was asked for was there");
    let possible = f64::from(PER_SECOND) * (denied.len() as i64 * SLOT) as f64 / 1e6
        + match kind {
            Kind::Quota => 0.0,
            _ => f64::from(BURST),
        };
    let used = admitted.len() as f64 / possible;
    println!("{kind:?}: {} of {possible:.0}, {used:.4}", admitted.len());
    // In a short run what is held up in the end has lost a part of it.
    let least = if seconds < 60 { 0.8 } else { kind.used() };
    assert!(used >= least, "{used}");
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_admit_no_more_than_promised() {
    for kind in [Kind::Strict, Kind::Leased, Kind::Quota] {
        stay_within(kind, 4, 3).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: four minutes; run by name with --ignored"]
async fn eight_processes_admit_no_more_than_promised_in_a_minute() {
    for kind in [Kind::Strict, Kind::Leased, Kind::Quota] {
        stay_within(kind, 8, 65).await;
    }
}
