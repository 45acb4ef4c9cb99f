//! One process of the checker: eight tasks that read and change.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use maxscale_cache::remote::RedisRemote;
use maxscale_cache::{Cache, CacheSpec, Hub, Invalidated, Token};
use maxscale_core::redis::{Command, Redis, RedisError, Reply};
use maxscale_tests::eventually;
use tokio::time::{Instant, sleep};

use super::log::{Event, Kind, Log};
use super::open;
use super::unfenced::Unfenced;
use crate::program::{connect, variable, wait_for};
use crate::source::LIMIT;

pub(super) const TRUTH: &str = "MAXSCALE_TEST_TRUTH";
pub(super) const STORE: &str = "MAXSCALE_TEST_STORE";
pub(super) const FILE: &str = "MAXSCALE_TEST_FILE";
pub(super) const RUN: &str = "MAXSCALE_TEST_RUN";

/// A flag: all are ready.
pub(super) const GO: &str = "go";

/// A flag: each fault was there.
pub(super) const ENOUGH: &str = "enough";

const TASKS: u64 = 8;

/// One in so many is a change, and as many reads go by a token.
const CHANGES: u64 = 90;

/// What a task needs.
#[derive(Clone)]
struct Work {
    truth: Redis,
    cache: Cache<u64>,
    keys: u64,
    /// Microseconds.
    slow: u64,
    left: Arc<AtomicU64>,
    /// Until then it goes on, though enough was read.
    least: Instant,
    /// And until each fault was there.
    enough: Arc<AtomicBool>,
    /// Then it ends, though more is left.
    end: Instant,
}

struct Task {
    work: Work,
    chance: u64,
    seen: HashMap<u64, u64>,
    log: Log,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the program that other tests start"]
async fn program_that_reads() {
    let Some(run) = variable(RUN) else { return };
    let words: Vec<_> = run.split(' ').collect();
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    // A read fails only if this one does.
    let truth = connect(&variable(TRUTH).unwrap()).await;
    let store = open(&variable(STORE).unwrap());
    assert!(store.wait_ready(LIMIT).await);
    let hub = Hub::builder().remote_timeout(Duration::from_secs(2));
    let hub = hub.load_timeout(LIMIT);
    let remote = RedisRemote::new(store);
    let hub = match words[5] {
        "true" => hub.remote(remote).build(),
        _ => hub.remote(Unfenced(remote)).build(),
    };
    let version = 1 + u32::try_from(number(0) % 2).unwrap();
    let cache = hub.cache::<u64>(CacheSpec::new("register", version));
    // In use: what is loaded is found in L2.
    eventually(LIMIT, async || {
        let load = || async { Ok::<_, RedisError>(Some(1)) };
        cache.get_or_load("0", load).await.unwrap();
        cache.get("0").await.is_some() && hub.stats().gaps > 0
    })
    .await;
    println!("ready");
    wait_for(&truth, GO, LIMIT).await;
    let after = |millis| Instant::now() + Duration::from_millis(millis);
    let enough = Arc::new(AtomicBool::new(false));
    let (told, asked, longest) = (enough.clone(), truth.clone(), number(3));
    let hears = async move {
        wait_for(&asked, ENOUGH, Duration::from_millis(longest) + LIMIT).await;
        told.store(true, Ordering::Relaxed);
        std::future::pending().await
    };
    let work = Work {
        truth,
        cache,
        keys: number(4),
        slow: number(6),
        left: Arc::new(AtomicU64::new(number(1))),
        least: after(number(2)),
        enough,
        end: after(longest),
    };
    let tasks = (0..TASKS).map(|task| {
        let task = Task {
            work: work.clone(),
            chance: (number(0) * TASKS + task + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            seen: HashMap::new(),
            log: Log::default(),
        };
        tokio::spawn(task.run())
    });
    let mut log = Log::default();
    let done = tokio::select! {
        done = join_all(tasks) => done,
        () = hears => unreachable!("it goes on hearing"),
    };
    for done in done {
        log.0.extend(done.unwrap().0);
    }
    log.write(&PathBuf::from(variable(FILE).unwrap()));
    println!("read {} {:?}", log.0.len(), hub.stats());
}

// === impl Task ===

impl Task {
    async fn run(mut self) -> Log {
        while self.goes_on() {
            // Some keys are asked for far more often than others.
            let (a, b) = (self.draw(self.work.keys) + 1, self.draw(self.work.keys));
            let key = 1 + b % a;
            match self.draw(CHANGES) {
                0 => self.change(key).await,
                1 => self.read_by_token(key).await,
                _ => self.read(key).await,
            }
            // Hits never wait, and others need a thread too.
            tokio::task::yield_now().await;
        }
        self.log
    }

    /// Whether there is something to do yet, of which this takes one.
    fn goes_on(&self) -> bool {
        let (work, now) = (&self.work, Instant::now());
        let take = |left: u64| left.checked_sub(1);
        let taken = (work.left).fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        let enough = now >= work.least && work.enough.load(Ordering::Relaxed);
        now < work.end && (taken.is_ok() || !enough)
    }

    async fn read(&mut self, key: u64) {
        let at = now();
        let load = self.load(key);
        let read = self.work.cache.get_or_load(&key.to_string(), load).await;
        let Ok(Some(value)) = read else {
            return self.note(Kind::Failed, key, 0, at);
        };
        self.note(Kind::Read, key, *value, at);
        let seen = self.seen.entry(key).or_default();
        if *value < *seen {
            let kind = Kind::Backwards;
            self.note(kind, key, *value, at);
        } else {
            *seen = *value;
        }
    }

    async fn change(&mut self, key: u64) {
        let Ok(version) = self.truth("INCR", key, "v").await else {
            return;
        };
        let Some(version) = version.as_int() else {
            return;
        };
        let version = u64::try_from(version).unwrap();
        let id = key.to_string();
        let (done, token) = self.work.cache.invalidate_with_token(&id).await;
        let kind = match done {
            Invalidated::Everywhere => Kind::Changed,
            Invalidated::HereOnly => Kind::ChangedHere,
        };
        self.note(kind, key, version, now());
        let told = Command::new("SET").key(format!("t:{key}"));
        let told = told.arg(format!("{version} {token}"));
        let _ = self.work.truth.command(told).await;
    }

    async fn read_by_token(&mut self, key: u64) {
        let Ok(Reply::Bytes(told)) = self.truth("GET", key, "t").await else {
            return;
        };
        let told = std::str::from_utf8(&told).unwrap();
        let (version, token) = told.split_once(' ').unwrap();
        let (version, token): (u64, Token) = (version.parse().unwrap(), token.parse().unwrap());
        let at = now();
        let load = self.load(key);
        let cache = &self.work.cache;
        let read = cache.get_min_version(&key.to_string(), token, load).await;
        let Ok(Some(value)) = read else {
            return self.note(Kind::Failed, key, 0, at);
        };
        self.note(Kind::Read, key, *value, at);
        if *value < version {
            self.note(Kind::Older, key, *value, at);
        }
    }

    /// Reads the register, as slowly as a database may be.
    fn load(
        &mut self,
        key: u64,
    ) -> impl FnOnce() -> futures_util::future::BoxFuture<'static, Result<Option<u64>, RedisError>>
    + Send
    + use<> {
        let truth = self.work.truth.clone();
        let slow = Duration::from_micros(self.draw(self.work.slow));
        move || {
            Box::pin(async move {
                let get = Command::new("GET").key(format!("v:{key}"));
                let reply = truth.command(get).await?;
                sleep(slow).await;
                let text = reply.into_bytes().unwrap_or_else(|| "0".into());
                Ok(Some(std::str::from_utf8(&text).unwrap().parse().unwrap()))
            })
        }
    }

    async fn truth(&self, name: &'static str, key: u64, of: &str) -> Result<Reply, RedisError> {
        let command = Command::new(name).key(format!("{of}:{key}"));
        self.work.truth.command(command).await
    }

    fn note(&mut self, kind: Kind, key: u64, version: u64, at: u64) {
        self.log.0.push(Event {
            kind,
            key: u32::try_from(key).unwrap(),
            version: u32::try_from(version).unwrap(),
            at,
        });
    }

    /// A number below `end`.
    fn draw(&mut self, end: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        (self.chance >> 11) % end
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "processes on one machine compare it"
)]
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}
