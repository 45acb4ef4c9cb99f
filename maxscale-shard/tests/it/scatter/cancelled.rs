use std::time::Duration;

use maxscale_shard::{Engine, Statement, sql};
use maxscale_tests::eventually;
use tokio::time::timeout;

use super::fixture::{NODES, Thing, Things, by_id, one_each, things};
use crate::support::{LIMIT, Nodes, options};

on_both!(
    dropped_merge_gives_its_places_back,
    next_that_is_dropped_has_taken_no_row,
);

/// The server alone would let a statement run for longer than any test.
async fn patient() -> Things {
    let nodes = Nodes::fresh(Engine::Postgres, NODES).await;
    let mut options = options();
    options.statement_timeout = Duration::from_secs(600);
    let things = Things::on(nodes, "id", options).await;
    things.fill(&one_each()).await;
    things
}

fn endless() -> Statement {
    sql("SELECT id, pg_sleep(600)::text AS s FROM thing WHERE shard_id = ANY($shards)")
}

/// How many legs the servers are at.
async fn running(things: &Things) -> i64 {
    let mut running = 0;
    for at in 0..NODES {
        let active = "SELECT count(*) AS n FROM pg_stat_activity
            WHERE datname = current_database() AND query LIKE '%pg_sleep(600)%'
            AND state = 'active' AND pid <> pg_backend_pid()";
        let row = things.node(at).fetch_optional(sql(active)).await.unwrap();
        running += row.unwrap().get::<i64>("n").unwrap();
    }
    running
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_scatter_ends_every_leg_in_its_server() {
    let things = patient().await;
    let asked = things
        .router
        .scatter(endless())
        .limit(Duration::from_secs(600));
    let task = tokio::spawn(asked.rows());
    eventually(LIMIT, async || running(&things).await == 4).await;
    task.abort();
    eventually(LIMIT, async || running(&things).await == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_merge_ends_every_leg_in_its_server() {
    let things = patient().await;
    let asked = things
        .router
        .scatter(endless())
        .limit(Duration::from_secs(600));
    let merged = asked.merge(&by_id()).await.unwrap();
    eventually(LIMIT, async || running(&things).await == 4).await;
    drop(merged);
    eventually(LIMIT, async || running(&things).await == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leg_that_is_too_late_ends_in_its_server() {
    let things = patient().await;
    let asked = things.router.scatter(endless());
    asked
        .clone()
        .limit(Duration::from_millis(300))
        .rows()
        .await
        .unwrap_err();
    let mut merged = asked
        .limit(Duration::from_millis(300))
        .merge(&by_id())
        .await
        .unwrap();
    merged.next().await.unwrap_err();
    eventually(LIMIT, async || running(&things).await == 0).await;
}

async fn many(engine: Engine) -> Things {
    let things = Things::fresh(engine).await;
    let thing = |n: u32| Thing {
        shard: n % 64,
        id: u128::from(n),
        ..Thing::default()
    };
    things
        .fill(&(0..4_000).map(thing).collect::<Vec<_>>())
        .await;
    things
}

/// Each has a place, a connection and rows that nobody will read.
async fn dropped_merge_gives_its_places_back(engine: Engine) {
    let things = many(engine).await;
    for taken in 0..20 {
        let order = by_id();
        let merged = things.router.scatter(self::things()).merge(&order);
        let mut merged = timeout(LIMIT, merged).await.unwrap().unwrap();
        for _ in 0..taken {
            timeout(LIMIT, merged.next())
                .await
                .unwrap()
                .unwrap()
                .unwrap();
        }
    }
    let rows = things.merged(&by_id()).await.unwrap();
    assert_eq!(rows.len(), 4_000);
}

async fn next_that_is_dropped_has_taken_no_row(engine: Engine) {
    let things = many(engine).await;
    // Where rows come faster than they are taken, none is waited for: once more.
    let mut rounds = 0..100;
    while rounds.next().is_some() {
        if dropped_on_the_way(&things).await > 0 {
            return;
        }
    }
    panic!("no row was waited for in 100 rounds");
}

/// Reads all, and drops each wait for a row; how many these were.
async fn dropped_on_the_way(things: &Things) -> u32 {
    let mut merged = things
        .router
        .scatter(self::things())
        .merge(&by_id())
        .await
        .unwrap();
    let (mut wanted, mut dropped) = (0, 0);
    loop {
        match timeout(Duration::ZERO, merged.next()).await {
            Ok(row) => match row.unwrap() {
                Some(row) => {
                    assert_eq!(Thing::read(&row).id, wanted);
                    wanted += 1;
                }
                None => break,
            },
            Err(_) => {
                dropped += 1;
                tokio::task::yield_now().await;
            }
        }
    }
    assert_eq!(wanted, 4_000);
    dropped
}
