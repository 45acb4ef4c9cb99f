//! Finding the shard of a key: pure arithmetic, so the time itself has a bar.

use std::hint::black_box;

use maxscale_core::BoxError;
use maxscale_core::clock::Clock;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::{Id, IdGenerator, KeyspaceTag};
use maxscale_measure::{Bar, Op, Plan, Report};
use maxscale_shard::telemetry::{LoadOptions, Telemetry};
use maxscale_shard::{DatabaseOptions, Keyspace, Router, Target, Vindex};
use md5::{Digest, Md5};

use super::reload::{entries, even};

const NODES: usize = 4;
const KEYS: usize = 4_096;

/// What routing costs: nothing is connected to.
pub(crate) fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let options = DatabaseOptions::default();
    let keyspace = Keyspace::new(KeyspaceTag::default(), 1024, Vindex::Md5)?;
    let open = |telemetry| {
        let (keyspace, entries) = (keyspace.clone(), entries(NODES)?);
        let opened = Router::open_with(keyspace, even(NODES)?, &entries, options, &telemetry);
        Ok::<_, BoxError>(opened?)
    };
    let router = open(Telemetry::new())?;
    let told = open(Telemetry::new().load(LoadOptions::new()))?;
    let ids = IdGenerator::new(Clock::system(), router.keyspace());
    let ids: Vec<Id> = (0..KEYS)
        .map(|_| ids.draw_anywhere(router.shards()))
        .collect();
    let texts: Vec<String> = ids.iter().map(Id::to_string).collect();
    // One call that fails would be measured as a fast one.
    for (id, text) in ids.iter().zip(&texts) {
        router.shard(id)?;
        router.shard(text)?;
    }

    by_id(plan, report, "shard.route_id_ns", &router, &ids);
    by_id(plan, report, "shard.route_id_load_ns", &told, &ids);
    by_md5(plan, report, &router, &texts);
    allocations(report, "shard.route_allocs", &router, &ids, &texts)?;
    allocations(report, "shard.route_load_allocs", &told, &ids, &texts)
}

fn by_id(plan: &Plan, report: &mut Report, name: &'static str, router: &Router, ids: &[Id]) {
    let route = |n: usize| router.shard(black_box(ids[n % KEYS])).is_ok();
    let map = router.topology();
    let bare = |n: usize| map.locate(black_box(ids[n % KEYS]).shard());
    let (ours, bare) = plan.best_of(route, bare);
    report.note(&format!("{name}: bare lookup in the map {bare:.1} ns"));
    report.bar(Bar {
        name,
        measured: ours,
        op: Op::AtMost,
        target: 100.0,
    });
}

fn by_md5(plan: &Plan, report: &mut Report, router: &Router, texts: &[String]) {
    let key = |n: usize| black_box(&texts[n % KEYS]);
    let route = |n| router.shard(key(n)).is_ok();
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

/// Keys of every kind, with a map that has overrides, so that every way is gone.
fn allocations(
    report: &mut Report,
    name: &'static str,
    router: &Router,
    ids: &[Id],
    texts: &[String],
) -> Result<(), BoxError> {
    let mut diverted = router.topology().change();
    for id in &ids[..16] {
        diverted = diverted.divert(id, Target::Shard(VirtualShard::new(7)));
    }
    router.reload(diverted.build()?, &entries(NODES)?)?;
    let all = || {
        for (id, text) in ids.iter().zip(texts) {
            let by_bits = router.shard(black_box(id)).is_ok();
            let by_text = router.shard(black_box(text)).is_ok();
            let by_uuid = router.shard(black_box(id.as_uuid())).is_ok();
            let by_number = router.route(black_box(42_i64)).is_ok();
            assert!(by_bits && by_text && by_uuid && by_number);
        }
    };
    // The first look of a thread at a map that may be swapped makes its note of it.
    all();
    let counted = allocation_counter::measure(all).count_total;
    let control = allocation_counter::measure(|| drop(black_box(Box::new(0)))).count_total;
    if control != 1 {
        return Err("the allocator that counts does not count".into());
    }
    #[expect(clippy::cast_precision_loss, reason = "a few, if any")]
    report.bar(Bar {
        name,
        measured: counted as f64,
        op: Op::Exactly,
        target: 0.0,
    });
    Ok(())
}
