//! A process that accepts values is killed at any moment, again and again, and
//! its successor opens the same journal: files, or a stream whose server is
//! killed too now and then.
//!
//! Values of an id are numbers that rise, over all processes. What has to hold
//! in the end:
//!
//! - no id has less than the last value that was acknowledged;
//! - of no id a lower value was taken after a higher one;
//! - no version ever stood for two values;
//! - what the database refuses is a dead letter, and in nobody's way.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use maxscale_cache::behind::BehindError;
use maxscale_tests::{RedisServer, eventually};
use tokio::time::sleep;

use super::database::{BAD, Database};
use super::place::Place;
use crate::program::{start, variable};
use crate::source::LIMIT;

const DATABASE: &str = "MAXSCALE_TEST_DATABASE";
const ACKS: &str = "MAXSCALE_TEST_ACKS";
const ROUND: &str = "MAXSCALE_TEST_ROUND";

const TASKS: u64 = 4;
const KEYS: u64 = 5;

/// Accepts values for as long as it lives, and says which were acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the program that other tests start"]
async fn program_that_accepts() {
    let Some(url) = variable(DATABASE) else {
        return;
    };
    let place = Place::told().unwrap();
    let round: u64 = variable(ROUND).unwrap().parse().unwrap();
    let database = Database::connect(&url, "program").await;
    let behind = database.open(&place.ack()).await;
    println!("ready {:?}", behind.replayed());
    let acks = PathBuf::from(variable(ACKS).unwrap());
    let acks = File::options().create(true).append(true).open(acks);
    let acks = Arc::new(acks.unwrap());
    let is_stream = matches!(place, Place::Stream(_));
    let tasks = (0..TASKS).map(|task| {
        let (behind, acks) = (behind.clone(), acks.clone());
        tokio::spawn(async move {
            for value in round * 1_000_000.. {
                let id = match (task, value % 7) {
                    (0, 0) => BAD.to_owned(),
                    _ => format!("{task}-{}", value % KEYS),
                };
                match behind.put(&id, value).await {
                    Ok(_) => {}
                    // Its server is away.
                    Err(BehindError::Journal(_)) if is_stream => {
                        sleep(Duration::from_millis(5)).await;
                        continue;
                    }
                    Err(error) => panic!("{error:?}"),
                }
                // One write, which a kill does not tear.
                let line = format!("{id} {value}\n");
                (&*acks).write_all(line.as_bytes()).unwrap();
            }
        })
    });
    join_all(tasks).await;
}

/// How many values were acknowledged so far.
fn count(acks: &Path) -> usize {
    let lines = std::fs::read_to_string(acks).unwrap_or_default();
    lines.lines().count()
}

/// What was done, in words. The server of a stream is killed in every fifth round.
async fn kill_again_and_again(kills: u64, place: &Place, server: Option<&RedisServer>) -> String {
    let (rows, folder) = (RedisServer::start().await, tempfile::tempdir().unwrap());
    let acks = folder.path().join("acks.txt");
    let (mut torn, mut servers) = (0, 0);
    let start = |round: u64| {
        let variables = [
            (DATABASE, rows.url()),
            place.variable(),
            (ACKS, acks.to_str().unwrap().to_owned()),
            (ROUND, round.to_string()),
        ];
        start("behind::killed::program_that_accepts", &variables)
    };
    for round in 1..=kills {
        let process = start(round);
        // Any moment will do: every fourth time one while it still opens.
        let moment = Duration::from_millis(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56);
        if !round.is_multiple_of(4) {
            let ready = process.wait_for_line("ready", LIMIT * 3).await;
            torn += u64::from(!ready.contains("torn: 0"));
        }
        if let Some(server) = server
            && round % 5 == 1
        {
            let before = count(&acks);
            eventually(LIMIT, async || count(&acks) > before).await;
            server.kill().await;
            server.restart().await;
            servers += 1;
            // It goes on by itself.
            let before = count(&acks);
            eventually(LIMIT, async || count(&acks) > before).await;
        }
        sleep(moment).await;
        assert!(process.is_running(), "{:?}", process.lines());
        process.kill();
    }
    // Where disks are slow, few values were accepted between kills.
    let process = start(kills + 1);
    eventually(LIMIT, async || {
        let acks = std::fs::read_to_string(&acks).unwrap_or_default();
        acks.lines().count() > usize::try_from(kills * 10).unwrap() && acks.contains(BAD)
    })
    .await;
    process.kill();
    let database = Database::connect(&rows.url(), "last").await;
    let behind = database.open(&place.ack()).await;
    behind.shutdown(LIMIT * 3).await.unwrap();

    let (acks, told) = check(&acks, &database).await;
    let letters = database.taken(BAD).await.len();
    assert!(letters > 0);
    format!(
        "{kills} kills, {servers} of the server, {acks} acknowledged, {told} written, \
         {torn} torn ends, {letters} dead letters"
    )
}

/// Holds what the database has against what was acknowledged. How many values
/// that were, and how many were written.
async fn check(acks: &Path, database: &Database) -> (u64, u64) {
    let lines = std::fs::read_to_string(acks).unwrap();
    let mut acknowledged = HashMap::<&str, u64>::new();
    for line in lines.lines() {
        let (id, value) = line.split_once(' ').unwrap();
        let last = acknowledged.entry(id).or_default();
        *last = (*last).max(value.parse().unwrap());
    }
    assert!(acknowledged.contains_key(BAD));
    let mut told = 0;
    for (id, last) in &acknowledged {
        let taken = database.taken(id).await;
        let has = taken.last().copied().unwrap_or(0);
        assert!(
            has >= *last,
            "{id}: {last} was acknowledged, {has} is there"
        );
        assert!(
            taken.is_sorted_by(|a, b| a < b || (*id == BAD && a == b)),
            "{id}: {taken:?}"
        );
        assert_eq!(database.field(id, "contradiction").await, None, "{id}");
        told += database.field(id, "told").await.unwrap_or(0);
    }
    let acks = u64::try_from(lines.lines().count()).unwrap();
    (acks, told)
}

async fn kill_with_files(kills: u64) -> String {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Folder(folder.path().to_owned());
    kill_again_and_again(kills, &place, None).await
}

async fn kill_with_a_stream(kills: u64) -> String {
    let server = RedisServer::start_durable().await;
    let place = Place::Stream(server.url());
    kill_again_and_again(kills, &place, Some(&server)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_acknowledged_is_lost_or_reordered_by_kills() {
    println!("{}", kill_with_files(8).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_stream_acknowledged_is_lost_or_reordered_by_kills() {
    println!("{}", kill_with_a_stream(6).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two hundred kills take half a minute; CONTRIBUTING.md has the command"]
async fn nothing_that_was_acknowledged_is_lost_or_reordered_by_two_hundred_kills() {
    println!("{}", kill_with_files(200).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two hundred kills take minutes; CONTRIBUTING.md has the command"]
async fn nothing_that_a_stream_acknowledged_is_lost_or_reordered_by_two_hundred_kills() {
    println!("{}", kill_with_a_stream(200).await);
}
