//! The stale-read checker: three processes of eight tasks each read and change
//! the same values while messages get lost, processes freeze and Redis is
//! emptied; then every read is held against every change.
//!
//! A version register in a Redis of its own stands for the database. A change
//! raises it and then invalidates. What has to hold for a read that begins at
//! some moment:
//!
//! - A: it has every change whose invalidation had returned in its process;
//! - B: and in any other, 1.5 s before;
//! - C: and the one whose token it was given, at once;
//! - D: and whatever the same task saw before.
//!
//! No read fails, unless what stands for the database was out of reach. Two of
//! the processes use one version of the schema, the third another. None of
//! their clocks is asked: the engine knows spans of time and the store's clock.
//!
//! With a store whose fences do nothing the same check fails.

mod log;
mod node;
mod unfenced;

use std::path::{Path, PathBuf};
use std::time::Duration;

use maxscale_core::redis::{Command, Redis, RedisConfig, Reply};
use maxscale_tests::{Process, RedisCluster, RedisServer, eventually};
use tokio::time::sleep;

use crate::program::{self, connect, raise};
use crate::source::{BOUND, LIMIT};
use log::{Log, Report};

const NODES: usize = 3;

/// How long runs may find no old read where there have to be some.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Clone, Copy, Debug)]
struct Run {
    /// Reads of each process, at the least.
    reads: u64,
    /// How long it lasts at the least, and until each fault was there.
    least: Duration,
    /// How long it lasts at most, however few were read.
    longest: Duration,
    keys: u64,
    /// How long the source takes to answer, at most.
    slow: Duration,
    fenced: bool,
    /// What goes wrong, again and again.
    faults: &'static [Fault],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Every connection that listens is closed.
    Deaf,
    /// Everything in the store is gone.
    Flush,
    /// The store has more than it may keep, and drops what was not used lately.
    Evict,
    /// A process stands still for longer than anything is believed.
    Freeze,
    /// A master of the cluster is killed, and comes back when it has a successor.
    Failover,
}

const SMALL: Run = Run {
    reads: 10_000,
    least: Duration::from_secs(3),
    longest: Duration::from_secs(120),
    keys: 40,
    slow: Duration::from_millis(4),
    fenced: true,
    faults: &[Fault::Deaf, Fault::Evict, Fault::Flush],
};

/// The servers of a run.
struct Servers {
    truth: RedisServer,
    store: Store,
}

enum Store {
    Single(RedisServer),
    Cluster(RedisCluster),
}

// === impl Store ===

impl Store {
    fn url(&self) -> String {
        match self {
            Self::Single(server) => server.url(),
            Self::Cluster(cluster) => cluster.urls()[0].replace("redis://", "redis-cluster://"),
        }
    }

    /// Lets every server evict, and gives it more than it may keep.
    async fn overfill(&self) {
        let policy = ["SET", "maxmemory-policy", "allkeys-lru"];
        self.tell_all("CONFIG", &policy).await;
        self.tell_all("CONFIG", &["SET", "maxmemory", "8mb"]).await;
        self.tell_all("DEBUG", &["POPULATE", "10000", "other", "1024"])
            .await;
    }

    /// Sends a command to every server that answers, and returns the replies.
    async fn tell_all(&self, name: &'static str, args: &[&'static str]) -> Vec<Reply> {
        let urls = match self {
            Self::Single(server) => vec![server.url()],
            // A node of a cluster would be refused as a single server.
            Self::Cluster(cluster) => {
                let urls = cluster.urls().into_iter();
                urls.map(|url| url.replace("redis://", "redis-cluster://"))
                    .collect()
            }
        };
        let mut replies = Vec::new();
        for url in urls {
            let redis = open(&url);
            if redis.wait_ready(LIMIT).await {
                let command = Command::new(name).args(args.iter().copied());
                replies.extend(redis.command(command).await);
            }
        }
        replies
    }

    /// How many keys were dropped for want of room.
    async fn evicted(&self) -> u64 {
        let replies = self.tell_all("INFO", &["stats"]).await;
        let counts = replies.into_iter().filter_map(|reply| {
            let text = reply.into_bytes()?;
            let text = std::str::from_utf8(&text).ok()?;
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix("evicted_keys:")?.parse::<u64>().ok())
        });
        counts.sum()
    }
}

fn open(url: &str) -> Redis {
    Redis::open(
        RedisConfig::new(url)
            .unwrap()
            .timeout(Duration::from_secs(2)),
    )
}

async fn check(run: Run, servers: &Servers) -> Report {
    let folder = folder();
    let truth = connect(&servers.truth.url()).await;
    let nodes: Vec<_> = (0..NODES)
        .map(|number| start(run, number, servers, &folder))
        .collect();
    for node in &nodes {
        node.wait_for_line("ready", LIMIT).await;
    }
    raise(&truth, node::GO).await;
    let ended = async {
        for node in &nodes {
            node.wait_for_line("read ", run.longest + LIMIT).await;
        }
    };
    tokio::select! {
        () = ended => {}
        () = go_wrong(run, servers, &nodes, &truth) => unreachable!("it goes on and on"),
    }
    let logs = (0..NODES).map(|number| Log::read(&file(&folder, number)));
    let mut report = log::judge(&logs.collect::<Vec<_>>(), BOUND);
    report.evicted = servers.store.evicted().await;
    let _ = std::fs::remove_dir_all(&folder);
    report
}

fn start(run: Run, number: usize, servers: &Servers, folder: &Path) -> Process {
    let file = file(folder, number);
    let (least, longest) = (run.least.as_millis(), run.longest.as_millis());
    let variables = [
        (node::TRUTH, servers.truth.url()),
        (node::STORE, servers.store.url()),
        (node::FILE, file.to_str().unwrap().to_owned()),
        (
            node::RUN,
            format!(
                "{number} {} {least} {longest} {} {} {}",
                run.reads,
                run.keys,
                run.fenced,
                run.slow.as_micros()
            ),
        ),
    ];
    program::start("checker::node::program_that_reads", &variables)
}

/// One fault after another, until it is dropped; the processes are told once each was
/// there.
async fn go_wrong(run: Run, servers: &Servers, nodes: &[Process], truth: &Redis) {
    let evicts = run.faults.contains(&Fault::Evict);
    let mut was_told = run.faults.is_empty();
    if was_told {
        raise(truth, node::ENOUGH).await;
    }
    for (round, fault) in (0..).zip(run.faults.iter().cycle()) {
        let was_all = round >= run.faults.len();
        if was_all && !was_told && (!evicts || servers.store.evicted().await > 0) {
            was_told = true;
            raise(truth, node::ENOUGH).await;
        }
        sleep(Duration::from_millis(700)).await;
        match fault {
            Fault::Deaf => {
                servers
                    .store
                    .tell_all("CLIENT", &["KILL", "TYPE", "pubsub"])
                    .await;
            }
            Fault::Flush => {
                servers.store.tell_all("FLUSHALL", &[]).await;
            }
            Fault::Evict => servers.store.overfill().await,
            Fault::Freeze => {
                let node = &nodes[round % NODES];
                signal(node, "STOP");
                sleep(BOUND + Duration::from_millis(500)).await;
                signal(node, "CONT");
            }
            Fault::Failover => fail_over(&servers.store, round).await,
        }
    }
    std::future::pending().await
}

async fn fail_over(store: &Store, round: usize) {
    let Store::Cluster(cluster) = store else {
        unreachable!("only a cluster fails over");
    };
    let key = round.to_string();
    let master = eventually(LIMIT, async || cluster.master_of(&key).await).await;
    master.kill().await;
    cluster.wait_until_served(Duration::from_secs(30)).await;
    sleep(Duration::from_secs(2)).await;
    master.restart().await;
}

fn signal(node: &Process, name: &str) {
    let group = format!("-{}", node.pid());
    let sent = std::process::Command::new("kill")
        .args([&format!("-{name}"), "--", &group])
        .status();
    assert!(sent.unwrap().success(), "SIG{name} was not sent");
}

fn folder() -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("maxscale-checker-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn file(folder: &Path, number: usize) -> PathBuf {
    folder.join(number.to_string())
}

async fn single() -> Servers {
    Servers {
        truth: RedisServer::start().await,
        store: Store::Single(RedisServer::start().await),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_read_of_three_processes_is_older_than_it_may_be() {
    let report = check(SMALL, &single().await).await;
    println!("{report}");
    assert_eq!((report.violations(), report.failed), (0, 0), "{report}");
    // Else nothing was put to the test.
    assert!(report.reads > 10_000 && report.changes > 100, "{report}");
    assert!(report.evicted > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn checker_finds_old_reads_where_fences_do_nothing() {
    let run = Run {
        fenced: false,
        // A busy machine changes little: what it does is to meet a load.
        least: Duration::from_secs(6),
        keys: 4,
        slow: Duration::from_millis(50),
        faults: &[],
        ..SMALL
    };
    // No run is sure to meet the race: as many as it takes.
    eventually(PATIENCE, async || {
        let report = check(run, &single().await).await;
        println!("{report}");
        if report.violations() > 0 {
            Ok(())
        } else {
            Err(report)
        }
    })
    .await;
}

const FULL: Run = Run {
    reads: 3_400_000,
    least: Duration::ZERO,
    longest: Duration::from_secs(900),
    keys: 150,
    slow: SMALL.slow,
    fenced: true,
    faults: &[Fault::Deaf, Fault::Evict, Fault::Flush, Fault::Freeze],
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten million reads take many minutes; CONTRIBUTING.md has the command"]
async fn none_of_ten_million_reads_is_older_than_it_may_be() {
    let report = check(FULL, &single().await).await;
    println!("{report}");
    assert_ten_million(&report);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two minutes, and until ten million were read; CONTRIBUTING.md has the command"]
async fn no_read_of_two_minutes_is_older_than_it_may_be() {
    let least = Duration::from_secs(120);
    let report = check(Run { least, ..FULL }, &single().await).await;
    println!("{report}");
    assert_ten_million(&report);
}

fn assert_ten_million(report: &Report) {
    assert_eq!(report.violations(), 0, "{report}");
    assert!(report.evicted > 0, "{report}");
    assert!(
        report.reads >= 10_000_000 && report.changes >= 100_000,
        "{report}"
    );
    assert!(report.close * 5 >= report.reads, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a cluster fails over again and again; CONTRIBUTING.md has the command"]
async fn no_read_is_older_than_it_may_be_though_masters_die() {
    let servers = Servers {
        truth: RedisServer::start().await,
        store: Store::Cluster(RedisCluster::start().await),
    };
    let run = Run {
        longest: Duration::from_secs(60),
        faults: &[Fault::Failover, Fault::Deaf, Fault::Evict, Fault::Freeze],
        ..FULL
    };
    let report = check(run, &servers).await;
    println!("{report}");
    assert_eq!(report.violations(), 0, "{report}");
}
