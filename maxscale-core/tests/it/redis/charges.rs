//! Calls that charge, each under a number of its own, and what was charged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use maxscale_core::redis::{Command, Redis, RedisError, Reply, Script};
use maxscale_tests::{Lateness, RedisServer, eventually};
use tokio::time::{Instant, interval};

use super::past::all;
use super::{SOON, TIMEOUT};

static CHARGE: Script = Script::by_deadline("return redis.call('HINCRBY', KEYS[1], ARGV[1], 1)");

/// How many callers there are at once, each with a key of its own.
const CALLERS: u32 = 24;

/// How often a caller calls.
const PACE: Duration = Duration::from_millis(2);

/// What came of the calls.
#[derive(Debug, Default)]
pub(super) struct Charges {
    acknowledged: u64,
    /// Without an answer: charged or not.
    unknown: u64,
    refused: u64,
    /// Acknowledged and perhaps not copied, as a primary was lost.
    uncopied: u64,
    /// Without what the machine let wait meanwhile.
    longest: Duration,
    /// The longest time without an acknowledgement, of any caller.
    longest_gap: Duration,
}

/// Tells while the calls go on how they do.
pub(super) struct Progress {
    acknowledged: Arc<AtomicU64>,
    uncopied: AtomicU64,
}

impl Progress {
    /// Waits until so many more are acknowledged.
    pub(super) async fn more(&self, count: u64) {
        let enough = self.acknowledged() + count;
        eventually(SOON, async || self.acknowledged() >= enough).await;
    }

    /// Loses a primary by `fault`. Of what was acknowledged, only that may be lost with
    /// it which came after all before was copied.
    pub(super) async fn losing(
        &self,
        primary: &RedisServer,
        servers: &[RedisServer],
        fault: impl Future<Output = ()>,
    ) {
        let before = self.acknowledged();
        let end = number(primary, "master_repl_offset:").await.unwrap();
        eventually(SOON, async || {
            for server in servers {
                let copied = number(server, "slave_repl_offset:").await;
                if copied >= Some(end) && follows(server, primary).await {
                    return true;
                }
            }
            false
        })
        .await;
        fault.await;
        // Each caller may have one more answer, which is not counted yet.
        let since = self.acknowledged() - before + u64::from(CALLERS);
        self.uncopied.fetch_add(since, Ordering::Relaxed);
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }
}

/// What stands behind `name` in what a server says of replication.
async fn number(server: &RedisServer, name: &str) -> Option<u64> {
    let info = all(server, "INFO replication").await;
    let (_, rest) = info.split_once(name)?;
    rest.lines().next()?.parse().ok()
}

async fn follows(server: &RedisServer, primary: &RedisServer) -> bool {
    let url = primary.url();
    let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
    number(server, "master_port:").await == port
}

fn key(caller: u32) -> String {
    format!("charges:{caller}")
}

/// Waits until what is written now is copied at once. A replica that has just
/// copied the whole gets news only once it has said so, after a second.
pub(super) async fn copied(redis: &Redis, servers: &[RedisServer]) {
    for caller in 0..CALLERS {
        let set = Command::new("SET").key(format!("{{{}}}", key(caller)));
        redis.command(set.arg("first").timeout(SOON)).await.unwrap();
    }
    for server in servers {
        eventually(SOON, async || {
            let info = all(server, "INFO replication").await;
            let (_, own) = info.split_once("master_repl_offset:")?;
            let own = format!(",offset={},", own.lines().next()?);
            (info.contains("role:slave") || info.contains(&own)).then_some(())
        })
        .await;
    }
}

impl Charges {
    /// Charges until `enough` is done, and ends only when every caller succeeds again.
    pub(super) async fn run(redis: &Redis, enough: impl AsyncFnOnce(&Progress)) -> Self {
        let (end, ended) = tokio::sync::watch::channel(false);
        let progress = Progress {
            acknowledged: Arc::default(),
            uncopied: AtomicU64::new(0),
        };
        let late = Arc::new(Lateness::watch());
        let callers = (0..CALLERS).map(|caller| {
            let (redis, ended, late) = (redis.clone(), ended.clone(), late.clone());
            let acknowledged = progress.acknowledged.clone();
            tokio::spawn(async move {
                let mut sum = Self::default();
                let ended = || {
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    *ended.borrow()
                };
                sum.call_until(&redis, caller, &late, ended).await;
                sum
            })
        });
        let callers: Vec<_> = callers.collect();
        enough(&progress).await;
        end.send_replace(true);
        let mut sum = Self {
            uncopied: progress.uncopied.into_inner(),
            ..Self::default()
        };
        for one in join_all(callers).await {
            sum.add(&one.unwrap());
        }
        sum
    }

    async fn call_until(
        &mut self,
        redis: &Redis,
        caller: u32,
        late: &Lateness,
        ended: impl Fn() -> bool,
    ) {
        let mut answered = Instant::now();
        let mut pace = interval(PACE);
        for number in 0_i64.. {
            pace.tick().await;
            let (start, before) = (Instant::now(), late.total());
            let reply = redis
                .script(CHARGE.call().key(key(caller)).arg(number))
                .await;
            let took = start.elapsed();
            let took = took.saturating_sub(late.total() - before);
            self.longest = self.longest.max(took);
            match reply {
                Ok(reply) => {
                    assert_eq!(reply, Reply::Int(1), "charged before");
                    self.acknowledged += 1;
                    self.longest_gap = self.longest_gap.max(answered.elapsed());
                    answered = Instant::now();
                    if ended() {
                        return;
                    }
                }
                Err(error) if error.may_have_run() => self.unknown += 1,
                Err(RedisError::Server { message }) => panic!("{message}"),
                Err(_) => self.refused += 1,
            }
        }
    }

    fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self.refused += other.refused;
        self.longest = self.longest.max(other.longest);
        self.longest_gap = self.longest_gap.max(other.longest_gap);
    }

    /// Compares with what is stored.
    ///
    /// A new primary may lack what the old one acknowledged last: Redis copies
    /// after it answers. But it never has more than was called for.
    pub(super) async fn judge(&self, redis: &Redis, title: &str) {
        let mut stored = 0;
        for caller in 0..CALLERS {
            let all = Command::new("HVALS").key(key(caller)).timeout(SOON);
            let all = redis.command(all).await.unwrap().into_array().unwrap();
            let once = Reply::Bytes("1".into());
            assert!(all.iter().all(|it| *it == once), "charged twice: {all:?}");
            stored += all.len() as u64;
        }
        let Self {
            acknowledged,
            unknown,
            refused,
            uncopied,
            longest,
            longest_gap,
        } = self;
        println!(
            "{title}: {acknowledged} acknowledged, {unknown} unknown, {refused} not sent, \
             {stored} stored; the longest call {longest:?}, resumed after {longest_gap:?}"
        );
        assert!(*refused > 0, "the calls did not notice");
        assert!(stored <= acknowledged + unknown);
        let lost = acknowledged.saturating_sub(stored);
        assert!(lost <= *uncopied, "{lost} acknowledged ones are lost");
        assert!(*longest < 2 * TIMEOUT, "{longest:?}");
    }
}
