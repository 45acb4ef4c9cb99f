//! Five hundred logins at once: what they take of the memory, and what is left for
//! others. A program of its own, and so the only test while it runs.

#![expect(clippy::unwrap_used, reason = "this is a test, its helpers too")]

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use argon2::{Argon2, Params};
use maxscale_auth::{AuthError, PasswordPool, PasswordPoolConfig};
use maxscale_tests::Lateness;
use peak_alloc::PeakAlloc;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const MIB: usize = 1 << 20;

/// What one hash takes.
const COST: usize = 19 * MIB;

const LOGINS: usize = 500;

/// Kibibytes and passes of a hash in the naive way: as much work as one of the pool's,
/// in a fifth of the memory, as 500 times 19 MiB are more than a machine may have.
const NAIVE: (u32, u32) = (4_096, 10);

/// How often each is measured. What else the machine does can only make a ping later, so
/// the smallest figure of each side is the one that tells most about it.
const ROUNDS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_logins_take_no_more_memory_than_the_threads_and_leave_others_alone() {
    let (mut pooled, mut naive) = (Duration::MAX, Duration::MAX);
    for round in 0..ROUNDS {
        let idle = Pings::start();
        sleep(Duration::from_millis(500)).await;
        let idle = idle.stop().await;
        // Before the naive way has taken any memory.
        let beside_pool = flood_of_the_pool(round == 0).await;
        let beside_naive = naive_flood().await;
        eprintln!(
            "p99 of a ping: {idle:?} idle, {beside_pool:?} beside the pool, \
             {beside_naive:?} beside the naive way"
        );
        pooled = pooled.min(beside_pool);
        naive = naive.min(beside_naive);
    }
    assert!(pooled * 5 <= naive, "{pooled:?}, {naive:?} without a bound");
}

/// Logs in by the pool, looks what memory that took if it is to be `weighed`; the p99 of
/// pings beside it.
async fn flood_of_the_pool(weighed: bool) -> Duration {
    let config = PasswordPoolConfig::default();
    let (threads, wait) = (config.threads, config.wait);
    let pool = PasswordPool::new(config).await.unwrap();
    let stored = stored(&pool).await;
    // Not what the pool keeps from its start.
    let (heap, resident) = (
        HEAP.current_usage().saturating_sub(threads * COST),
        resident(),
    );
    HEAP.reset_peak_usage();
    let lateness = Lateness::watch();
    let pings = Pings::start();
    let mut logins = JoinSet::new();
    for _ in 0..LOGINS {
        let (pool, stored) = (pool.clone(), stored.clone());
        logins.spawn(async move {
            let begun = Instant::now();
            (
                pool.verify("not the password", Some(&stored)).await,
                begun.elapsed(),
            )
        });
    }
    let (mut verified, mut refused, mut longest) = (0, 0, Duration::ZERO);
    while let Some(login) = logins.join_next().await {
        match login.unwrap() {
            (Ok(login), _) => {
                assert!(!login.right);
                verified += 1;
            }
            (Err(AuthError::Busy), took) => {
                refused += 1;
                longest = longest.max(took);
            }
            (Err(error), _) => panic!("{error}"),
        }
    }
    let (pinged, late) = (pings.stop().await, lateness.total());
    let peak = HEAP.peak_usage() - heap;
    let grown = resident_peak().saturating_sub(resident);
    eprintln!(
        "{threads} threads: {verified} verified, {refused} refused after {longest:?} at most; \
         {peak} bytes of heap, {grown} more resident"
    );
    assert_eq!(verified + refused, LOGINS);
    assert!(verified >= threads && refused > 0);
    // Generous: this machine does other things too.
    let bound = wait + Duration::from_secs(5) + late;
    assert!(longest < bound, "{longest:?}");
    if weighed {
        // The callers have futures and passwords.
        assert!(peak <= threads * COST + 4 * MIB, "{peak}");
        assert!(grown <= threads * COST + 32 * MIB, "{grown}");
    }
    pool.shutdown().await;
    pinged
}

/// Hashes each on a blocking thread of its own, in memory of its own.
async fn naive_flood() -> Duration {
    let pings = Pings::start();
    let mut logins = JoinSet::new();
    for _ in 0..LOGINS {
        logins.spawn_blocking(|| {
            let mut output = [0; 32];
            let salt = b"sixteen bytes of";
            let (memory, passes) = NAIVE;
            let params = Params::new(memory, passes, 1, None).unwrap();
            let hashed = Argon2::from(params).hash_password_into(b"a password", salt, &mut output);
            hashed.unwrap();
        });
    }
    while let Some(login) = logins.join_next().await {
        login.unwrap();
    }
    pings.stop().await
}

async fn stored(pool: &PasswordPool) -> Arc<str> {
    let policy = pool.policy();
    let password = policy.check(
        "correct horse battery",
        &Default::default(),
        Default::default(),
    );
    pool.hash(password.unwrap()).await.unwrap().into()
}

/// Another route: a request each millisecond, with a tenth of one of work. They come
/// when they are due, also while earlier ones wait: else a stall would be one late request
/// instead of all that were due in it, and hide.
struct Pings {
    stop: Arc<AtomicBool>,
    client: thread::JoinHandle<()>,
    route: JoinHandle<Vec<Duration>>,
}

// === impl Pings ===

impl Pings {
    #[expect(
        clippy::disallowed_methods,
        reason = "a thread that is not the runtime's"
    )]
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (send, mut requests) = mpsc::unbounded_channel::<Instant>();
        let stopped = stop.clone();
        let client = thread::spawn(move || {
            let mut due = Instant::now();
            while !stopped.load(Ordering::SeqCst) {
                due += Duration::from_millis(1);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                send.send(due).unwrap();
            }
        });
        let route = tokio::spawn(async move {
            let mut times = Vec::new();
            while let Some(due) = requests.recv().await {
                let work = async { black_box(Sha256::digest([0; 16 * 1_024])) };
                tokio::spawn(work).await.unwrap();
                times.push(due.elapsed());
            }
            times
        });
        Self {
            stop,
            client,
            route,
        }
    }

    /// What 99 of 100 took at most.
    async fn stop(self) -> Duration {
        self.stop.store(true, Ordering::SeqCst);
        let mut times = self.route.await.unwrap();
        self.client.join().unwrap();
        times.sort();
        times[times.len() - 1 - times.len() / 100]
    }
}

fn resident() -> usize {
    of_process("VmRSS")
}

fn resident_peak() -> usize {
    of_process("VmHWM")
}

/// A number of bytes that the system counts for this process.
fn of_process(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.unwrap().parse::<usize>().unwrap() * 1_024
}
