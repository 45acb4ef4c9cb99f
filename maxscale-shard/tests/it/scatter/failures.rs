use std::time::Duration;

use maxscale_core::fact::{Deadline, VirtualShard};
use maxscale_core::refusal::{Class, Classify};
use maxscale_shard::scatter::{OnFailure, Scatter, ScatterError, Wanted};
use maxscale_shard::{Engine, ShardError, SlotState, sql};
use maxscale_tests::{Lateness, Proxy, Way};
use tokio::time::{Instant, timeout};

use super::fixture::{NODES, SHARDS, Things, by_id, ids, one_each, specs, things};
use crate::support::{LIMIT, Nodes, options};

on_both!(
    first_failure_ends_it_all,
    enough_answers_are_one_and_the_others_are_named,
    all_or_nothing_names_every_node_that_failed,
    frozen_shard_is_a_failure_of_its_node,
    nodes_that_fail_amid_their_rows_are_named,
);

async fn filled(engine: Engine) -> Things {
    let things = Things::fresh(engine).await;
    things.fill(&one_each()).await;
    things
}

/// Its rows are gone, and with them the table.
async fn break_node(things: &Things, at: usize) {
    things
        .node(at)
        .execute(sql("DROP TABLE thing"))
        .await
        .unwrap();
}

fn asked(things: &Things, on_failure: OnFailure) -> Scatter {
    things.router.scatter(self::things()).on_failure(on_failure)
}

/// How many answered, and who did not.
fn failed<T: std::fmt::Debug>(answer: Result<T, ScatterError>) -> (usize, Wanted, Vec<String>) {
    let ScatterError::Failed {
        answered,
        wanted,
        failures,
    } = answer.unwrap_err()
    else {
        panic!("it failed for another reason");
    };
    let mut nodes: Vec<String> = failures.iter().map(|f| f.node.to_string()).collect();
    nodes.sort();
    (answered, wanted, nodes)
}

async fn first_failure_ends_it_all(engine: Engine) {
    let things = filled(engine).await;
    break_node(&things, 2).await;
    let answer = asked(&things, OnFailure::FailFast).rows().await;
    assert_eq!(answer.as_ref().unwrap_err().class(), Class::Internal);
    assert_eq!(failed(answer).2, ["node-3"]);

    let mut merged = asked(&things, OnFailure::FailFast)
        .merge(&by_id())
        .await
        .unwrap();
    assert_eq!(failed(merged.next().await).2, ["node-3"]);
    assert!(merged.next().await.unwrap().is_none());
}

async fn enough_answers_are_one_and_the_others_are_named(engine: Engine) {
    let things = filled(engine).await;
    break_node(&things, 0).await;
    break_node(&things, 2).await;
    let wanted: Vec<u128> = (17..=32).chain(49..=64).collect();

    let enough = OnFailure::BestEffort { min_ok: 2 };
    let rows = asked(&things, enough).rows().await.unwrap();
    let answered: Vec<&str> = rows.value.iter().map(|rows| rows.node.as_str()).collect();
    assert_eq!(answered, ["node-2", "node-4"]);
    let mut missing: Vec<&str> = rows.failures.iter().map(|f| f.node.as_str()).collect();
    missing.sort_unstable();
    assert_eq!(missing, ["node-1", "node-3"]);

    let mut merged = asked(&things, enough).merge(&by_id()).await.unwrap();
    let mut found = Vec::new();
    while let Some(row) = merged.next().await.unwrap() {
        found.push(super::fixture::Thing::read(&row));
    }
    assert_eq!(ids(&found), wanted);
    assert_eq!(merged.failures().len(), 2);

    let more = OnFailure::BestEffort { min_ok: 3 };
    let (_, told, _) = failed(asked(&things, more).rows().await);
    assert_eq!(told, Wanted::AtLeast(3));
    let mut merged = asked(&things, more).merge(&by_id()).await.unwrap();
    assert_eq!(failed(merged.next().await).0, 2);
}

async fn all_or_nothing_names_every_node_that_failed(engine: Engine) {
    let things = filled(engine).await;
    break_node(&things, 1).await;
    break_node(&things, 3).await;
    let told = (
        2,
        Wanted::All,
        vec!["node-2".to_owned(), "node-4".to_owned()],
    );
    assert_eq!(
        failed(asked(&things, OnFailure::AllOrNothing).rows().await),
        told
    );

    let mut merged = asked(&things, OnFailure::AllOrNothing)
        .merge(&by_id())
        .await
        .unwrap();
    assert_eq!(failed(merged.next().await), told);
}

async fn frozen_shard_is_a_failure_of_its_node(engine: Engine) {
    let things = filled(engine).await;
    let frozen = VirtualShard::new(20);
    let map = things
        .router
        .topology()
        .change()
        .state(20..21, SlotState::Frozen);
    let map = map.build().unwrap();
    things
        .router
        .reload(map, &specs(&things.nodes.urls))
        .unwrap();

    let enough = OnFailure::BestEffort { min_ok: 3 };
    let rows = asked(&things, enough).rows().await.unwrap();
    assert_eq!(rows.value.len(), 3);
    assert_eq!(rows.failures[0].node.as_str(), "node-2");
    let ShardError::Frozen { shard, .. } = rows.failures[0].source else {
        panic!("{:?}", rows.failures);
    };
    assert_eq!(shard, frozen);
    assert_eq!(
        failed(asked(&things, OnFailure::FailFast).rows().await).2,
        ["node-2"]
    );
    // Who asks for others does not mind.
    let others = (0..16).map(VirtualShard::new);
    asked(&things, OnFailure::FailFast)
        .among(others)
        .rows()
        .await
        .unwrap();
}

async fn nodes_that_fail_amid_their_rows_are_named(engine: Engine) {
    let things = filled(engine).await;
    let many = (0..600).map(|n: i64| super::fixture::Thing {
        shard: 0,
        id: 1_000 + n.unsigned_abs() as u128,
        // Read as an integer until the last one.
        n: (n < 599).then_some(n),
        ..super::fixture::Thing::default()
    });
    things.put(0, &many.collect::<Vec<_>>()).await;
    let order = maxscale_shard::scatter::OrderBy::new([
        maxscale_shard::scatter::OrderKey::asc("id", maxscale_shard::scatter::KeyType::Uuid),
        maxscale_shard::scatter::OrderKey::asc("n", maxscale_shard::scatter::KeyType::I64),
    ]);
    let enough = OnFailure::BestEffort { min_ok: 3 };
    let mut merged = asked(&things, enough).merge(&order.unwrap()).await.unwrap();
    let mut count = 0;
    while merged.next().await.unwrap().is_some() {
        count += 1;
    }
    // The rows of the others, and of the first node those before it failed.
    assert!((64..64 + 599).contains(&count), "{count}");
    assert_eq!(merged.failures().len(), 1);
    assert!(matches!(
        merged.failures()[0].source,
        ShardError::Column { .. }
    ));
}

/// The first node is behind a proxy.
async fn proxied() -> (Proxy, Things) {
    let mut nodes = Nodes::fresh(Engine::Postgres, NODES).await;
    let proxy = Proxy::start(&nodes.urls[0]).await;
    nodes.urls[0] = proxy.url();
    let things = Things::on(nodes, "id", options()).await;
    things.fill(&one_each()).await;
    (proxy, things)
}

/// Nodes that do not hang answer in that time. A longer one is over before its end the
/// second time: by then the node is known to be away.
const BOUND: Duration = Duration::from_millis(500);
/// For a machine that is busy.
const SOON: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_hangs_costs_its_bound_and_no_more() {
    let (proxy, things) = proxied().await;
    proxy.black_hole(Way::ToClient);
    let enough = OnFailure::BestEffort { min_ok: 3 };

    let (start, late) = (Instant::now(), Lateness::watch());
    let rows = asked(&things, enough).limit(BOUND).rows().await.unwrap();
    let (took, most) = (start.elapsed(), SOON + late.total());
    assert!((BOUND..most).contains(&took), "{took:?}, {late:?}");
    assert_eq!(rows.value.len(), 3);
    assert_eq!(rows.failures[0].node.as_str(), "node-1");
    assert_eq!(rows.failures[0].source.class(), Class::Timeout);

    let (start, late) = (Instant::now(), Lateness::watch());
    let mut merged = asked(&things, enough)
        .limit(BOUND)
        .merge(&by_id())
        .await
        .unwrap();
    let mut count = 0;
    while merged.next().await.unwrap().is_some() {
        count += 1;
    }
    let (took, most) = (start.elapsed(), SOON + late.total());
    assert!((BOUND..most).contains(&took), "{took:?}, {late:?}");
    assert_eq!((count, merged.failures().len()), (48, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_scatter_ends_at_its_deadline() {
    let (proxy, things) = proxied().await;
    proxy.black_hole(Way::ToClient);
    let deadline = || Deadline::at(Instant::now() + BOUND);

    let (start, late) = (Instant::now(), Lateness::watch());
    let asked = || things.router.scatter(self::things()).limit(LIMIT);
    assert_eq!(
        failed(asked().deadline(deadline()).rows().await).2,
        ["node-1"]
    );
    let mut merged = asked().deadline(deadline()).merge(&by_id()).await.unwrap();
    assert_eq!(failed(merged.next().await).2, ["node-1"]);
    let (took, most) = (start.elapsed(), SOON * 2 + late.total());
    assert!((BOUND * 2..most).contains(&took), "{took:?}, {late:?}");
}

/// Legs that wait for a place on it do not keep others from theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_hangs_keeps_nobody_from_the_others() {
    let (proxy, things) = proxied().await;
    proxy.black_hole(Way::ToClient);
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let asked = things.router.scatter(self::things()).limit(LIMIT);
            tokio::spawn(asked.rows())
        })
        .collect();
    let others = || (SHARDS / 4..SHARDS).map(VirtualShard::new);
    for _ in 0..20 {
        let asked = things.router.scatter(self::things()).among(others());
        let asked = asked.limit(SOON);
        let rows = timeout(LIMIT, asked.rows()).await.unwrap().unwrap();
        assert_eq!(rows.value.len(), 3);
    }
    for task in waiting {
        task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_and_jobs_have_connections_while_scatters_take_all_they_may() {
    let nodes = Nodes::fresh(Engine::Postgres, NODES).await;
    let mut options = options();
    // No leg ends, so that no other takes its place.
    options.statement_timeout = Duration::from_secs(600);
    let things = Things::on(nodes, "id", options).await;
    things.fill(&one_each()).await;
    let slow = sql("SELECT id, pg_sleep(60)::text AS s FROM thing WHERE shard_id = ANY($shards)");
    let waiting: Vec<_> = (0..20)
        .map(|_| tokio::spawn(things.router.scatter(slow.clone()).limit(LIMIT * 3).rows()))
        .collect();
    let active = "SELECT count(*) AS n FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE '%pg_sleep(60)%' AND state = 'active'
        AND pid <> pg_backend_pid()";
    for at in 0..NODES {
        let two = async || {
            let row = things
                .node(at)
                .fetch_optional(sql(active))
                .await
                .unwrap()
                .unwrap();
            row.get::<i64>("n").unwrap() >= 2
        };
        maxscale_tests::eventually(LIMIT, two).await;
    }
    // Two of the four places that background work has are left, and all others.
    for at in 0..NODES {
        let left = async {
            let background = things.node(at).background();
            let two = (background.reader().await, background.reader().await);
            two.0.and(two.1).and(things.node(at).reader().await)
        };
        timeout(SOON, left).await.unwrap().unwrap();
    }
    for task in waiting {
        task.abort();
    }
}
