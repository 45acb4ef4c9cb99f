//! What a database says that it can do.

use maxscale_shard::{Database, Product, sql};
use maxscale_tests::{PgBouncer, PostgresServer};

use crate::support::{config, open, options};

/// A handle that has not asked yet.
fn handle(url: &str) -> Database {
    Database::open("asked", url, &options()).unwrap()
}

#[tokio::test]
async fn postgres_can_what_its_settings_allow() {
    let server = PostgresServer::start().await;
    let plain = handle(&server.url());

    let can = plain.capabilities().await.unwrap();

    assert_eq!(can.product, Product::Postgres);
    assert!(can.listen && can.session_locks && can.advisory_locks);
    assert!(!can.two_phase && !can.logical_replication, "{can:?}");

    for text in [
        "ALTER SYSTEM SET wal_level = logical",
        "ALTER SYSTEM SET max_prepared_transactions = 8",
    ] {
        plain.execute(sql(text)).await.unwrap();
    }
    server.restart().await;

    let more = handle(&server.url()).capabilities().await.unwrap();
    assert!(more.two_phase && more.logical_replication, "{more:?}");
    // It was asked once, and remembers.
    assert_eq!(plain.capabilities().await.unwrap(), can);
    server.stop().await;
    assert_eq!(plain.capabilities().await.unwrap(), can);
}

#[tokio::test]
async fn database_that_was_away_is_asked_again() {
    let server = PostgresServer::start().await;
    let database = handle(&server.url());
    server.stop().await;

    let away = database.capabilities().await.unwrap_err();
    assert!(away.is_unreachable(), "{away:?}");

    server.restart().await;
    let can = database.capabilities().await.unwrap();
    assert_eq!(can.product, Product::Postgres);
}

/// Only the way past it leads to a session of one's own.
#[tokio::test]
async fn pooler_takes_away_what_needs_a_session() {
    let server = PostgresServer::shared().await;
    let database = server.database().await;
    let pooler = PgBouncer::start(server).await;
    for parameter in ["pooler=prepared", "pooler=unprepared"] {
        let url = format!("{}?{parameter}", pooler.url_of(&database));
        let can = handle(&url).capabilities().await.unwrap();
        assert_eq!(can.product, Product::Postgres);
        assert!(!can.listen && !can.session_locks, "{parameter}: {can:?}");
        assert!(can.advisory_locks, "{parameter}: {can:?}");
    }

    let entry = format!("{}|{}", pooler.url_of(&database), database.url());
    let fleet = open(config(&[&entry])).await;
    let nodes = fleet.router().nodes();
    let node = &nodes[0];
    assert!(!node.database().capabilities().await.unwrap().listen);
    let can = node.primary().capabilities().await.unwrap();
    assert!(can.listen && can.session_locks, "{can:?}");
}

#[tokio::test]
async fn file_can_nothing_of_it() {
    let can = handle("sqlite:never-made.db").capabilities().await.unwrap();
    assert_eq!(can.product, Product::Sqlite);
    assert!(!can.listen && !can.session_locks && !can.advisory_locks);
    assert!(!can.two_phase && !can.logical_replication);
}
