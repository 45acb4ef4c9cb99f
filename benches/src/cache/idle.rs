//! What Redis hears of a process whose cache nobody uses.

use std::time::Duration;

use maxscale_core::BoxError;
use maxscale_measure::{Op, Plan, Report};
use maxscale_tests::RedisServer;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

use super::{bar, listener};

pub(super) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let server = RedisServer::start().await;
    let _cache = listener::cache(&server.url()).await?;
    // What comes once, at the start, is over.
    sleep(Duration::from_secs(plan.pick(5, 1).into())).await;
    let seconds = plan.pick(20, 2);
    let heard = commands(&server.url(), Duration::from_secs(seconds.into())).await?;
    let name = "cache.idle_redis_per_second";
    let each = f64::from(heard) / f64::from(seconds);
    bar(report, name, each, Op::AtMost, 5.0);
    Ok(())
}

/// How many commands come within `span`, those of scripts not counted.
async fn commands(url: &str, span: Duration) -> Result<u32, BoxError> {
    let address = url.strip_prefix("redis://").ok_or("no address")?;
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"MONITOR\r\n").await?;
    let mut lines = BufReader::new(stream).lines();
    // It says that it listens.
    lines.next_line().await?;
    let (end, mut heard) = (Instant::now() + span, 0);
    while let Ok(line) = timeout_at(end, lines.next_line()).await {
        let line = line?.ok_or("the server ended")?;
        heard += u32::from(!line.contains(" lua] "));
    }
    Ok(heard)
}
