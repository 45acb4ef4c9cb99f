//! Taking a new map: what it costs while nobody else is served by this thread.

use std::time::Duration;

use maxscale_core::BoxError;
use maxscale_core::fact::VirtualShard;
use maxscale_measure::{Bar, Op, Plan, Report};
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::{
    DatabaseOptions, Keyspace, NodeId, Router, SlotMove, Topology, TopologyError,
};
use tokio::time::Instant;

/// 1,024 virtual shards on as many nodes: each on its own, the most there can be.
const NODES: usize = 1024;

pub(crate) fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let (entries, options) = (entries(NODES)?, DatabaseOptions::default());
    let router = Router::open(Keyspace::default(), even(NODES)?, &entries, options)?;
    let mut times = Vec::new();
    for round in 0..plan.pick(1_000, 10) {
        let (one, two) = (node(1)?, node(2)?);
        let (from, to) = if round % 2 == 0 {
            (one, two)
        } else {
            (two, one)
        };
        let shard = VirtualShard::new(0);
        let step = SlotMove { shard, from, to };
        let next = router.topology().change().apply([&step]).build()?;
        let start = Instant::now();
        router.reload(next, &entries)?;
        times.push(start.elapsed());
    }
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    report.note(&format!(
        "shard.reload_1024_ms: 1024 virtual shards on {NODES} nodes, median of {}, the worst {:.3} ms",
        times.len(),
        ms(worst)
    ));
    report.bar(Bar {
        name: "shard.reload_1024_ms",
        measured: ms(median),
        op: Op::AtMost,
        target: 1.0,
    });
    Ok(())
}

fn node(number: usize) -> Result<NodeId, TopologyError> {
    NodeId::new(&format!("node-{number}"))
}

/// `node-1` and so on, which nobody connects to.
pub(crate) fn entries(count: usize) -> Result<Vec<NodeSpec>, BoxError> {
    let entry = |at: usize| NodeSpec::parse(&format!("sqlite:/nowhere/{at}.db"), at);
    Ok((1..=count).map(entry).collect::<Result<_, _>>()?)
}

/// 1,024 virtual shards on `count` nodes.
pub(crate) fn even(count: usize) -> Result<Topology, TopologyError> {
    let nodes: Result<Vec<NodeId>, _> = (1..=count).map(node).collect();
    Topology::even(nodes?, 1024)
}
