//! kill -9 of the platform under load: what it acknowledged is there.

use std::path::Path;
use std::time::{Duration, SystemTime};

use maxscale_tests::{Database, ProcessBuilder};
use tokio::time::{Instant, sleep};

use crate::journal::Journal;
use crate::servers::Servers;
use crate::service::Service;
use crate::users::{Book, Crowd, Dice, assert_kept, assert_measured, assert_whole};

/// As many as every run of the tests affords.
const FEW: usize = 3;
/// As many as the promise was made for.
const MANY: usize = 20;
const USERS: usize = 8;
/// Longer than what the last kill cut off waits for.
const LEASE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn what_was_acknowledged_outlives_kills_on_sqlite_files() {
    on_sqlite_files(FEW).await;
}

#[tokio::test]
async fn what_was_acknowledged_outlives_kills_on_postgres_and_redis() {
    on_postgres_and_redis(FEW).await;
}

#[tokio::test]
#[ignore = "takes minutes; CONTRIBUTING.md has the command"]
async fn what_was_acknowledged_outlives_20_kills_on_sqlite_files() {
    on_sqlite_files(MANY).await;
}

#[tokio::test]
#[ignore = "takes minutes; CONTRIBUTING.md has the command"]
async fn what_was_acknowledged_outlives_20_kills_on_postgres_and_redis() {
    on_postgres_and_redis(MANY).await;
}

async fn on_sqlite_files(kills: usize) {
    let folder = tempfile::tempdir().unwrap();
    let nodes = (1..=4).map(|number| {
        let file = folder.path().join(format!(".maxscale/node-{number}.db"));
        format!("sqlite://{}", file.display())
    });
    let journal = Journal::open(&nodes.collect::<Vec<_>>());
    survives(
        kills,
        || Service::builder(folder.path()),
        &journal,
        folder.path(),
    )
    .await;
}

async fn on_postgres_and_redis(kills: usize) {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start().await;
    let journal = Journal::open(&servers.nodes.each_ref().map(Database::url));
    survives(
        kills,
        || servers.builder(folder.path()),
        &journal,
        folder.path(),
    )
    .await;
}

async fn survives(
    kills: usize,
    builder: impl Fn() -> ProcessBuilder,
    journal: &Journal,
    folder: &Path,
) {
    let mut dice = Dice::printed();
    let mut books = Book::new(USERS);
    let mut service = Service::start(builder()).await;
    journal.begin().await;
    for kill in 1..=kills {
        let mut load = Crowd::start(service.base(), books, &mut dice);
        load.acknowledged(20 + dice.below(200)).await;
        // Nothing is waited for here: the moment of the kill is any.
        sleep(dice.moment(Duration::from_millis(50))).await;
        service.process.kill();
        let (acknowledged, told) = load.stopped().await;
        books = told;
        if kill % 3 == 0 {
            let starting = builder().start();
            sleep(dice.moment(Duration::from_secs(1))).await;
            starting.kill();
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the times of a journal are compared with it"
        )]
        let (start, clock) = (Instant::now(), SystemTime::now());
        service = Service::start(builder()).await;
        let found = assert_kept(service.base(), &mut books).await;
        eprintln!("kill {kill}: {acknowledged} acknowledged since the last; {found:?}");
        // What a kill cut off waits for its lease: of few kills, only the last
        // one's is waited for.
        if kill == kills || kills == MANY {
            assert_measured(start, &books).await;
            let last = journal.last_end().await;
            eprintln!(
                "the last job ended {:?} after the start",
                last.duration_since(clock)
            );
        }
    }
    let unsure = assert_whole(service.base(), &books).await;
    journal.all_ended(LEASE).await;
    service.process.terminate();
    let ended = service.process.wait(Duration::from_secs(30)).await;
    assert!(ended.success(), "{ended}");
    let totals = journal
        .assert_one_end_each(&folder.join(".maxscale/objects"))
        .await;
    eprintln!("{unsure} sign-ups without an answer; {totals:?}");
}
