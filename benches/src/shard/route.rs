//! Finding the shard of a key: pure arithmetic, so the time itself has a bar.

use std::hint::black_box;

use maxscale_core::BoxError;
use maxscale_core::clock::Clock;
use maxscale_core::id::{Id, IdGenerator};
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::{Fleet, FleetConfig, Router, Vindex};
use md5::{Digest, Md5};

use crate::bar::{Bar, Op, Report};
use crate::rounds::Plan;

const NODES: usize = 4;
const KEYS: usize = 4_096;

pub(crate) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let mut nodes = Vec::new();
    for number in 1..=NODES {
        let file = folder.path().join(format!("node-{number}.db"));
        let url = format!("sqlite:{}", file.display());
        nodes.push(NodeSpec::parse(&url, number)?);
    }
    let fleet = Fleet::open(FleetConfig::new(nodes)).await?;
    let router = fleet.router();
    let ids = IdGenerator::new(Clock::system(), router.keyspace());
    let ids: Vec<Id> = (0..KEYS)
        .map(|_| ids.draw_anywhere(router.shards()))
        .collect();
    // One call that fails would be measured as a fast one.
    for id in &ids {
        router.shard(*id)?;
    }

    by_id(plan, report, router, &ids);
    by_md5(plan, report, router, &ids);
    fleet.close().await;
    Ok(())
}

fn by_id(plan: &Plan, report: &mut Report, router: &Router, ids: &[Id]) {
    let route = |n: usize| router.shard(black_box(ids[n % KEYS])).is_ok();
    let bare = |n: usize| router.topology().locate(black_box(ids[n % KEYS]).shard());
    let (ours, bare) = plan.best_of(route, bare);
    report.note(&format!(
        "shard.route_id_ns: bare lookup in the map {bare:.1} ns"
    ));
    report.bar(Bar {
        name: "shard.route_id_ns",
        measured: ours,
        op: Op::AtMost,
        target: 100.0,
    });
}

fn by_md5(plan: &Plan, report: &mut Report, router: &Router, ids: &[Id]) {
    let keys: Vec<String> = ids.iter().map(Id::to_string).collect();
    let key = |n: usize| black_box(keys[n % KEYS].as_str());
    let route = |n| {
        let shard = Vindex::Md5.shard(key(n), router.shards());
        shard.is_ok_and(|shard| router.virtual_shard(shard).is_ok())
    };
    let (ours, bare) = plan.best_of(route, |n| Md5::digest(key(n)));
    report.note(&format!(
        "shard.route_md5_ns: bare md5 of the same 36 bytes {bare:.1} ns"
    ));
    report.bar(Bar {
        name: "shard.route_md5_ns",
        measured: ours,
        op: Op::AtMost,
        target: 500.0,
    });
}
