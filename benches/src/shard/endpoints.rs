//! What thousands of endpoints cost that are used one after another: a pool
//! each, whose connections are closed when they idle.

use std::fs;
use std::time::Duration;

use maxscale_core::BoxError;
use maxscale_core::fact::VirtualShard;
use maxscale_measure::{Bar, Op, Plan, Report};
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::{DatabaseOptions, Keyspace, Router, Topology, Vindex, sql};
use maxscale_tests::{PostgresServer, eventually};

/// One server under so many URLs, each a virtual shard.
const ENDPOINTS: u32 = 4_096;

/// MiB for all of them.
const TARGET: f64 = 64.0;

/// How long the last connections may take to be gone.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs first of its process: what others gave back would be used again unseen.
pub(crate) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let count = plan.pick(ENDPOINTS, 64);
    let database = PostgresServer::shared().await.database().await;
    let mut options = DatabaseOptions::default();
    options.idle_timeout = Duration::from_millis(50);
    // The code is there, and the runtime, before anything counts.
    use_each(&router(&database.url(), 4, options)?).await?;

    let before = resident()?;
    let router = router(&database.url(), count, options)?;
    let opened = resident()?;
    let peak = use_each(&router).await?.max(opened);
    let open = "SELECT count(*) - 1 AS open FROM pg_stat_activity
        WHERE datname = current_database()";
    let asked = router.nodes()[0].database().clone();
    eventually(LIMIT, async || {
        let row = asked.fetch_optional(sql(open)).await.ok().flatten();
        row.and_then(|row| row.get::<i64>("open").ok()) == Some(0)
    })
    .await;
    let after = resident()?;

    let name = format!("shard.endpoints_{count}_mib");
    let mib = |kib: u64| kib.saturating_sub(before) as f64 / 1024.0;
    report.note(&format!(
        "{name}: from {:.1} MiB; {:.1} more when opened, {:.1} at most, {:.1} when all were closed",
        before as f64 / 1024.0,
        mib(opened),
        mib(peak),
        mib(after)
    ));
    report.bar(Bar {
        name: &name,
        measured: mib(peak),
        op: Op::AtMost,
        target: TARGET * f64::from(count) / f64::from(ENDPOINTS),
    });
    Ok(())
}

fn router(url: &str, count: u32, options: DatabaseOptions) -> Result<Router, BoxError> {
    let parameter = if url.contains('?') { '&' } else { '?' };
    let mut nodes = Vec::new();
    for at in 1..=count as usize {
        let url = format!("{url}{parameter}application_name=endpoint-{at}");
        nodes.push(NodeSpec::parse(&url, at)?);
    }
    let names = nodes.iter().map(|node| node.id().clone()).collect();
    let keyspace = Keyspace::new(Default::default(), count, Vindex::Id)?;
    let map = Topology::even(names, count)?;
    Ok(Router::open(keyspace, map, &nodes, options)?)
}

/// Uses each endpoint once; gives the most that was resident, in KiB.
async fn use_each(router: &Router) -> Result<u64, BoxError> {
    let mut most = 0;
    for number in 0..router.shards() {
        let shard = router.virtual_shard(VirtualShard::new(number))?;
        shard.fetch_all(sql("SELECT 1 AS one")).await?;
        if number % 16 == 0 {
            most = most.max(resident()?);
        }
    }
    Ok(most.max(resident()?))
}

/// This process's resident memory, in KiB.
fn resident() -> Result<u64, BoxError> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("the kernel does not tell VmRSS")?.parse()?)
}
