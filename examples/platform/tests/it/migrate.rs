//! The command `migrate`.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use maxscale_shard::{Database, DatabaseOptions, sql};

use crate::service::Service;

/// A loaded machine with two cores takes a while for the first migrations.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs `migrate` on the embedded databases; gives its end, and what it printed.
async fn migrate(folder: &Path, args: &[&str]) -> (ExitStatus, String) {
    let process = Service::builder(folder).arg("migrate").args(args).start();
    let status = process.wait(LIMIT).await;
    (status, process.lines().join("\n"))
}

#[tokio::test]
async fn dry_run_prints_the_waves_and_makes_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let before = std::fs::read_dir(folder.path()).unwrap().count();

    let args = ["--dry-run", "--canary", "node-2", "--wave", "1"];
    let (status, told) = migrate(folder.path(), &args).await;

    assert!(status.success(), "{told}");
    for part in [
        "catalog, before all waves\n  maxscale-catalog/1",
        "wave 1, the canary\n  node-2: maxscale-shard/1",
        "wave 2\n  node-1: maxscale-shard/1",
        "CREATE TABLE ms_node (",
    ] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    let after = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(after, before);
}

#[tokio::test]
async fn change_by_hand_fails_the_check_until_it_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let (status, told) = migrate(folder.path(), &[]).await;
    assert!(status.success(), "{told}");
    assert!(told.contains("  node-1: ran maxscale-shard/1"), "{told}");
    let (status, told) = migrate(folder.path(), &["drift"]).await;
    assert!(status.success(), "{told}");
    for number in 1..=4 {
        let file = format!(".maxscale/node-{number}.db");
        let url = format!("sqlite:{}", folder.path().join(file).display());
        let database = Database::open("test", &url, &DatabaseOptions::default()).unwrap();
        let by_hand = "ALTER TABLE ms_node ADD COLUMN by_hand bigint";
        database.execute(sql(by_hand)).await.unwrap();
        database.close().await;
    }

    let (status, told) = migrate(folder.path(), &["drift"]).await;
    assert_eq!(status.code(), Some(1), "{told}");
    let line = "node-1: column by_hand of ms_node was added: bigint";
    assert!(told.contains(line), "{told}");
    assert!(told.contains("migrate drift --accept"), "{told}");

    let (status, told) = migrate(folder.path(), &["drift", "--accept"]).await;
    assert!(status.success(), "{told}");
    let (status, told) = migrate(folder.path(), &["drift"]).await;
    assert!(status.success(), "{told}");
}

#[tokio::test]
async fn canary_that_is_no_node_fails() {
    let folder = tempfile::tempdir().unwrap();
    let (status, told) = migrate(folder.path(), &["--canary", "nobody"]).await;
    assert_eq!(status.code(), Some(1), "{told}");
    let why = "the canary nobody is no node of this fleet";
    assert!(told.contains(why), "{told}");
}
