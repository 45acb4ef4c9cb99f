use std::ffi::OsStr;
use std::path::Path;
use std::{env, fs, thread};

use maxscale_shard::{Database, DatabaseOptions, Engine, ShardError, sql};
use maxscale_tests::Process;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::{LIMIT, note, noted, notes};

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

const FOLDER: &str = "MAXSCALE_TEST_CHILD_FOLDER";
const NAME: &str = "MAXSCALE_TEST_CHILD_NAME";
const PROCESSES: usize = 8;

/// This very test, run by eight processes that meet before each of the files.
#[tokio::test]
async fn fresh_file_opens_for_eight_processes_at_once() {
    if let (Some(folder), Some(name)) = (env::var_os(FOLDER), env::var_os(NAME)) {
        for round in 0..30 {
            meet(&Path::new(&folder).join(format!("round-{round}")), &name);
            let url = format!("sqlite:{}/{round}.db", Path::new(&folder).display());
            let database = Database::open("fresh", &url, &DatabaseOptions::default()).unwrap();
            database.reach().await.unwrap();
        }
        return;
    }
    let folder = TempDir::new().unwrap();
    let processes: Vec<Process> = (0..PROCESSES)
        .map(|number| {
            Process::builder(env::current_exe().unwrap())
                .args([
                    "--exact",
                    "sqlite::fresh_file_opens_for_eight_processes_at_once",
                ])
                .env(FOLDER, folder.path())
                .env(NAME, number.to_string())
                .start()
        })
        .collect();

    for process in processes {
        let ended = process.wait(2 * LIMIT).await;
        assert!(ended.success(), "{}", process.lines().join("\n"));
    }
}

fn meet(place: &Path, name: &OsStr) {
    fs::create_dir_all(place).unwrap();
    fs::write(place.join(name), "").unwrap();
    let start = Instant::now();
    while fs::read_dir(place).unwrap().count() < PROCESSES {
        assert!(start.elapsed() < LIMIT, "the others did not come");
        thread::yield_now();
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
