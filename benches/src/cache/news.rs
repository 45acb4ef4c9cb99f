//! How soon other processes refuse what was invalidated here, against bare pub/sub.

use std::process::Stdio;
use std::time::Duration;

use fred::interfaces::PubsubInterface as _;
use fred::prelude::{Builder, Client, ClientLike as _, Config};
use maxscale_cache::{Cache, Invalidated};
use maxscale_core::BoxError;
use maxscale_measure::{Op, Plan, Report};
use maxscale_tests::RedisServer;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use super::listener::{self, CHANNEL, HEAR, LOAD, WATCH, id, now};
use super::{at, bar, median};

/// Processes beside this one.
const OTHERS: usize = 2;
/// A thousand a second.
const EVERY: Duration = Duration::from_millis(1);
/// The longest that a listener takes for one thing.
const LIMIT: Duration = Duration::from_secs(60);

struct Listener {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

pub(super) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let count = plan.pick(2_000, 100) as usize;
    let server = RedisServer::start().await;
    let cache = listener::cache(&server.url()).await?;
    let bare = Builder::from_config(Config::from_url(&server.url())?).build()?;
    bare.init().await?;
    let mut listeners = Vec::new();
    for _ in 0..OTHERS {
        listeners.push(Listener::start(&server.url(), count)?);
    }
    let (mut all, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..plan.pick(9, 1) {
        for it in &mut listeners {
            it.tell(LOAD).await?;
        }
        let ours = lags(&mut listeners, WATCH, invalidate_all(&cache, count)).await?;
        let theirs = lags(&mut listeners, HEAR, publish_all(&bare, count)).await?;
        ratios.push(at(&ours, 0.999) / at(&theirs, 0.999));
        all.extend(ours);
    }
    all.sort_unstable();
    let median = median(ratios);
    report.note(&format!(
        "cache.invalidation: {} seen, half within {:.2} ms, the last {:.2} ms",
        all.len(),
        at(&all, 0.5) * 1e3,
        at(&all, 1.0) * 1e3
    ));
    let name = "cache.invalidation_p99_ms";
    bar(report, name, at(&all, 0.99) * 1e3, Op::AtMost, 20.0);
    let name = "cache.invalidation_p999_vs_pubsub";
    bar(report, name, median, Op::AtMost, 3.0);
    Ok(())
}

/// How long it took until each listener had each piece of news, the shortest first.
/// `send` tells when each was sent.
async fn lags(
    listeners: &mut [Listener],
    way: &str,
    send: impl Future<Output = Result<Vec<u64>, BoxError>>,
) -> Result<Vec<Duration>, BoxError> {
    for it in &mut *listeners {
        it.tell(way).await?;
    }
    let sent = send.await?;
    let mut lags = Vec::new();
    for it in listeners {
        let seen = it.line().await?;
        let seen: Vec<u64> = seen.split_whitespace().flat_map(str::parse).collect();
        if seen.len() != sent.len() {
            return Err("a listener missed something".into());
        }
        let lag = |(seen, sent): (&u64, &u64)| Duration::from_micros(seen.saturating_sub(*sent));
        lags.extend(seen.iter().zip(&sent).map(lag));
    }
    lags.sort_unstable();
    Ok(lags)
}

async fn invalidate_all(cache: &Cache<String>, count: usize) -> Result<Vec<u64>, BoxError> {
    paced(count, |n| {
        let cache = cache.clone();
        async move {
            match cache.invalidate(&id(n)).await {
                Invalidated::Everywhere => Ok(()),
                Invalidated::HereOnly => Err("not confirmed".into()),
            }
        }
    })
    .await
}

async fn publish_all(bare: &Client, count: usize) -> Result<Vec<u64>, BoxError> {
    paced(count, |n| {
        let bare = bare.clone();
        // As long as ours.
        let message = format!("{:032}.{}", n, id(n));
        async move { Ok(bare.publish(CHANNEL, message).await?) }
    })
    .await
}

/// Starts `count` calls, one every so often, and tells when each was.
async fn paced<F>(count: usize, call: impl Fn(usize) -> F) -> Result<Vec<u64>, BoxError>
where
    F: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let (mut ticks, mut running) = (interval(EVERY), JoinSet::new());
    let mut begun = Vec::with_capacity(count);
    for n in 0..count {
        ticks.tick().await;
        begun.push(now());
        running.spawn(call(n));
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(begun)
}

// === impl Listener ===

impl Listener {
    fn start(url: &str, count: usize) -> Result<Self, BoxError> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["cache-listener", url, &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        Ok(Self {
            input: child.stdin.take().ok_or("no input")?,
            output: BufReader::new(output).lines(),
            _child: child,
        })
    }

    /// Tells it what to do, and waits until it is at it.
    async fn tell(&mut self, what: &str) -> Result<(), BoxError> {
        self.input.write_all(format!("{what}\n").as_bytes()).await?;
        self.line().await.map(drop)
    }

    async fn line(&mut self) -> Result<String, BoxError> {
        let line = timeout(LIMIT, self.output.next_line()).await??;
        Ok(line.ok_or("a listener ended")?)
    }
}
