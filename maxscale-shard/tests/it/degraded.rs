//! Starts while databases are away.

use std::time::Duration;

use maxscale_core::Chain;
use maxscale_core::fact::VirtualShard;
use maxscale_shard::fleet::{FleetConfig, FleetError};
use maxscale_shard::{
    Database, DatabaseOptions, Engine, Fleet, Router, ShardError, Statement, sql,
};
use maxscale_tests::{PostgresServer, Proxy, Way, eventually, free_port};
use tokio::time::{Instant, timeout};

use crate::support::{LIMIT, NOTES, Nodes, SHARDS, config, note};

/// As a service would have it: a second for a connection, half a minute for the start.
fn patient(entries: &[&str]) -> FleetConfig {
    config(entries)
        .options(DatabaseOptions::default())
        .wait(Duration::from_secs(30))
}

fn key_of_second(router: &Router) -> Result<(), ShardError> {
    router
        .virtual_shard(VirtualShard::new(SHARDS - 1))
        .map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_is_down_is_refused_until_it_is_back() {
    let first = Nodes::fresh(Engine::Postgres, 1).await;
    let server = PostgresServer::start().await;
    let second = server.database().await.url();
    server.stop().await;

    let start = Instant::now();
    let fleet = Fleet::open(patient(&[&first.urls[0], &second]))
        .await
        .unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    let router = fleet.router();
    let here = router.virtual_shard(VirtualShard::new(0)).unwrap();
    here.execute(note(0, 0)).await.unwrap();
    let away = key_of_second(router).unwrap_err();
    assert!(matches!(&away, ShardError::NotReady { node } if node.as_str() == "node-2"));
    assert!(away.is_unreachable());

    server.restart().await;
    eventually(LIMIT, async || key_of_second(router)).await;
    // It was migrated on the way.
    let there = router.virtual_shard(VirtualShard::new(SHARDS - 1)).unwrap();
    there.execute(note(1, 1)).await.unwrap();
}

/// The connection is accepted and nothing answers: worse than refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_hangs_delays_the_start_no_more_than_one_that_is_down() {
    let first = Nodes::fresh(Engine::Postgres, 1).await;
    let server = PostgresServer::start().await;
    let second = server.database().await.url();
    server.pause();

    let start = Instant::now();
    let fleet = Fleet::open(patient(&[&first.urls[0], &second]))
        .await
        .unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    assert!(key_of_second(fleet.router()).is_err());

    server.resume();
    eventually(LIMIT, async || key_of_second(fleet.router())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_comes_back_with_a_foreign_database_is_never_ready() {
    let nodes = Nodes::fresh(Engine::Postgres, 1).await;
    let server = PostgresServer::start().await;
    let (second, foreign) = (server.database().await.url(), server.database().await.url());
    Fleet::open(patient(&[&foreign]))
        .await
        .unwrap()
        .close()
        .await;
    server.stop().await;
    let fleet = Fleet::open(patient(&[&nodes.urls[0], &foreign]))
        .await
        .unwrap();

    server.restart().await;

    // A node of the same server is reached while the foreign one is refused.
    let witness = Nodes::fresh(Engine::Postgres, 1).await;
    Fleet::open(patient(&[&witness.urls[0], &second]))
        .await
        .unwrap();
    let ready = async {
        while key_of_second(fleet.router()).is_err() {
            tokio::task::yield_now().await
        }
    };
    assert!(timeout(Duration::from_secs(2), ready).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn catalog_that_stays_away_ends_the_start_soon_after_the_wait() {
    let url = format!("postgres://nobody:hunter2@127.0.0.1:{}/x", free_port());
    let wait = Duration::from_secs(2);

    // By default on a node, or in a database of its own.
    let (node, apart) = (Nodes::fresh(Engine::Postgres, 1).await, &url);
    for config in [patient(&[&url]), patient(&[&node.urls[0]]).catalog(apart)] {
        let start = Instant::now();
        let refused = Fleet::open(config.wait(wait)).await.unwrap_err();

        let took = start.elapsed();
        assert!(
            matches!(refused, FleetError::NoCatalog { .. }),
            "{refused:?}"
        );
        assert!((wait..3 * wait).contains(&took), "{took:?}");
        let text = Chain(&refused).to_string();
        // Why, in the system's words, and no secret.
        assert!(text.contains("refused"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        assert!(!format!("{refused:?}").contains("hunter2"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_stay_away_end_the_start_soon_after_the_wait() {
    let catalog = Nodes::fresh(Engine::Postgres, 1).await;
    let urls =
        [free_port(), free_port()].map(|port| format!("postgres://nobody@127.0.0.1:{port}/x"));
    let wait = Duration::from_secs(2);

    let start = Instant::now();
    let config = patient(&[&urls[0], &urls[1]])
        .catalog(&catalog.urls[0])
        .wait(wait);
    let refused = Fleet::open(config).await.unwrap_err();

    let took = start.elapsed();
    assert!(matches!(refused, FleetError::NoNode { .. }), "{refused:?}");
    assert!((wait..3 * wait).contains(&took), "{took:?}");
    assert!(
        Chain(&refused).to_string().contains("refused"),
        "{}",
        Chain(&refused)
    );
}

/// Else a list in another order would make a second fleet while the catalog is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_second_catalog_is_made_while_the_first_is_away() {
    let server = PostgresServer::start().await;
    let other = Nodes::fresh(Engine::Postgres, 1).await;
    let (a, b) = (
        format!("a={}", server.database().await.url()),
        format!("b={}", other.urls[0]),
    );
    Fleet::open(patient(&[&a, &b])).await.unwrap().close().await;
    server.stop().await;

    let reordered = patient(&[&b, &a]).wait(Duration::from_secs(2));
    let refused = Fleet::open(reordered).await.unwrap_err();

    assert!(
        matches!(refused, FleetError::NoCatalog { .. }),
        "{refused:?}"
    );
    let table = sql("SELECT 1 AS n FROM pg_tables WHERE tablename = 'ms_keyspace'");
    assert!(
        other
            .database()
            .await
            .fetch_all(table)
            .await
            .unwrap()
            .is_empty()
    );
    server.restart().await;
    Fleet::open(patient(&[&b, &a])).await.unwrap();
}

/// A database behind a proxy, with two connections and half a second per statement.
async fn behind_a_proxy() -> (Proxy, Database) {
    let target = PostgresServer::shared().await.url();
    let proxy = Proxy::start(&target).await;
    let mut options = DatabaseOptions::default();
    options.connections = 2;
    options.statement_timeout = Duration::from_millis(500);
    let database = Database::open("hanging", &proxy.url(), &options).unwrap();
    (proxy, database)
}

fn one() -> Statement {
    sql("SELECT 1 AS one")
}

#[tokio::test]
async fn statement_without_an_answer_is_given_up_soon_after_its_limit() {
    let (proxy, database) = behind_a_proxy().await;
    let mut conn = database.writer().await.unwrap();
    conn.fetch_all(one()).await.unwrap();
    proxy.black_hole(Way::ToClient);

    let start = Instant::now();
    let given_up = timeout(LIMIT, conn.fetch_all(one())).await.unwrap();
    assert!(given_up.unwrap_err().is_unreachable());
    let took = start.elapsed();
    let limit = Duration::from_millis(500);
    assert!(
        (limit..limit + Duration::from_secs(3)).contains(&took),
        "{took:?}"
    );
}

/// As when clients go away because nothing comes.
#[tokio::test]
async fn statements_dropped_without_an_answer_keep_no_place_in_the_pool() {
    let (proxy, database) = behind_a_proxy().await;
    let mut conns = [
        database.writer().await.unwrap(),
        database.writer().await.unwrap(),
    ];
    for conn in &mut conns {
        conn.fetch_all(one()).await.unwrap();
    }
    proxy.black_hole(Way::ToClient);
    for conn in &mut conns {
        let dropped = timeout(Duration::from_millis(50), conn.fetch_all(one())).await;
        assert!(dropped.is_err());
    }
    drop(conns);

    // Whoever has a place connects anew.
    eventually(LIMIT, async || {
        let _ = database.reader().await;
        proxy.connections() > 2
    })
    .await;
}

#[test]
fn settings_show_no_password() {
    let config = config(&["postgres://u:hunter2@h/d"])
        .catalog("postgres://u:hunter2@h/c")
        .migrations(NOTES);
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
}
