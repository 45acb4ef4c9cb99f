//! How many reads a replica takes off the primary.

use std::time::Duration;

use maxscale_core::BoxError;
use maxscale_core::fact::VirtualShard;
use maxscale_measure::{Bar, Op, Plan, Report};
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::{
    DatabaseOptions, Keyspace, ReadPolicy, Router, ShardError, Topology, TxOptions, Vindex, Work,
    sql,
};
use maxscale_tests::{PostgresServer, eventually};
use tokio::time::{Instant, sleep_until};

const LIMIT: Duration = Duration::from_secs(20);

/// How far the replica is behind.
const BEHIND: Duration = Duration::from_millis(500);

/// How old a user's own write is when the user reads.
const OLD: Duration = Duration::from_secs(1);

/// Of the reads whose watermark is a second old, the part that a replica answers
/// which is half a second behind.
pub(crate) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let (rounds, reads) = (plan.pick(20, 1), plan.pick(500, 20));
    let primary = PostgresServer::start().await;
    let replica = primary.replica().await;
    replica.delay_replay(BEHIND).await;
    let router = router(&primary, &replica)?;
    let shard = router.virtual_shard(VirtualShard::new(0))?;
    let table = "CREATE TABLE visit (shard_id integer, id bigint, PRIMARY KEY (shard_id, id))";
    shard.execute(sql(table)).await?;
    let by_replica = async |policy| {
        let read = shard.read(TxOptions::new().policy(policy), |tx| {
            Work::new(async move { tx.fetch_one(sql("SELECT pg_is_in_recovery() AS it")).await })
        });
        read.await?.get::<bool>("it")
    };
    let any = ReadPolicy::Replica { max_lag: LIMIT };
    eventually(LIMIT, async || by_replica(any).await.unwrap_or(false)).await;

    let mut offloaded = 0_u32;
    for round in 0..rounds {
        let write = shard.write(TxOptions::new().with_watermark(), |tx| {
            let row = sql("INSERT INTO visit (shard_id, id) VALUES (0, $1)").bind(round);
            Work::new(async move { tx.execute(row).await })
        });
        let done: Result<_, ShardError> = write.await;
        let mark = done?.watermark.ok_or("a commit without a watermark")?;
        sleep_until(Instant::now() + OLD).await;
        for _ in 0..reads {
            offloaded += u32::from(by_replica(ReadPolicy::AtLeast(mark)).await?);
        }
    }
    report.bar(Bar {
        name: "shard.replica_offload",
        measured: f64::from(offloaded) / f64::from(rounds * reads),
        op: Op::AtLeast,
        target: 0.6,
    });
    Ok(())
}

fn router(primary: &PostgresServer, replica: &PostgresServer) -> Result<Router, BoxError> {
    let mut nodes = vec![NodeSpec::parse(&primary.url(), 1)?];
    NodeSpec::attach(&mut nodes, &format!("node-1={}", replica.url()), 1)?;
    let names = nodes.iter().map(|node| node.id().clone()).collect();
    let keyspace = Keyspace::new(Default::default(), 1, Vindex::Id)?;
    let map = Topology::even(names, 1)?;
    Ok(Router::open(
        keyspace,
        map,
        &nodes,
        DatabaseOptions::default(),
    )?)
}
