use maxscale_shard::{Database, DatabaseOptions, Engine, ShardError, sql};
use tokio::task::JoinSet;

use crate::support::{Nodes, note, noted, notes};

async fn setting(database: &Database, statement: &'static str, name: &str) -> String {
    let mut conn = database.writer().await.unwrap();
    let row = conn.fetch_one(sql(statement)).await.unwrap();
    (row.get::<String>(name)).unwrap_or_else(|_| row.get::<i64>(name).unwrap().to_string())
}

#[tokio::test]
async fn writer_keeps_what_it_acknowledged() {
    let (_nodes, database) = noted(Engine::Sqlite).await;

    assert_eq!(
        setting(&database, "PRAGMA synchronous", "synchronous").await,
        "2"
    );
    assert_eq!(
        setting(&database, "PRAGMA journal_mode", "journal_mode").await,
        "wal"
    );
    assert_eq!(
        setting(&database, "PRAGMA foreign_keys", "foreign_keys").await,
        "1"
    );
}

/// The settings belong to a connection, so one that was reopened has them too.
#[tokio::test]
async fn reopened_writer_keeps_what_it_acknowledged() {
    let (_nodes, database) = noted(Engine::Sqlite).await;
    drop(database.begin().await.unwrap());

    assert_eq!(
        setting(&database, "PRAGMA synchronous", "synchronous").await,
        "2"
    );
}

#[tokio::test]
async fn reader_refuses_to_write() {
    let (nodes, database) = noted(Engine::Sqlite).await;
    let mut reader = database.reader().await.unwrap();

    let refused = reader.execute(note(1, 1)).await.unwrap_err();

    assert!(
        matches!(refused, ShardError::Statement { .. }),
        "{refused:?}"
    );
    assert_eq!(notes(&nodes).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fresh_file_opens_for_eight_at_once() {
    for _ in 0..20 {
        let nodes = Nodes::fresh(Engine::Sqlite, 1).await;
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let url = nodes.urls[0].clone();
            tasks.spawn(async move {
                let options = DatabaseOptions::default();
                let database = Database::open("fresh", &url, &options).unwrap();
                database.reach().await
            });
        }
        for opened in tasks.join_all().await {
            opened.unwrap();
        }
    }
}

#[tokio::test]
async fn file_that_no_two_connections_would_share_is_refused() {
    for url in [
        "sqlite::memory:",
        "sqlite://:memory:",
        "sqlite:",
        "sqlite:a.db?mode=rwc",
    ] {
        let refused = Database::open("bad", url, &DatabaseOptions::default());
        assert!(
            matches!(refused, Err(ShardError::Url { .. })),
            "{url}: {refused:?}"
        );
    }
}
