//! Keys whose home is a row, and the shadows of those rows in other databases.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use maxscale_core::fact::{RegionId, VirtualShard};
use maxscale_core::keys::{KeyRing, Secret};
use maxscale_core::refusal::{Class, Classify};
use maxscale_shard::registry::{Home, Known, Registered, Registry, RegistryError, Shadow};
use maxscale_shard::{Database, Engine, Fleet, Router, ShardError, sql};
use maxscale_tests::{Process, eventually};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::dropped::{cut, random};
use crate::killed::order;
use crate::support::{LIMIT, Nodes, SHARDS, open, options};

on_both!(
    of_many_that_register_a_key_one_is_first_and_all_are_told_where,
    key_is_moved_by_who_knows_where_it_is_and_removed_for_all,
    shadow_misses_nothing_that_is_written_while_it_pulls,
    shadow_that_is_dropped_anywhere_or_killed_goes_on_where_it_was,
    shadow_of_a_directory_that_lost_commits_is_fetched_anew,
);

fn ring() -> KeyRing {
    KeyRing::new(1, Secret::new([1; 32])).unwrap()
}

fn registry(router: &Router) -> Registry {
    Registry::new(router.clone(), Arc::new(ring()), "customer")
}

fn home(shard: u32) -> Home {
    Home::new(VirtualShard::new(shard % SHARDS)).region(RegionId::new("eu").unwrap())
}

async fn scene(engine: Engine) -> (Nodes, Fleet, Nodes) {
    let nodes = Nodes::fresh(engine, 2).await;
    let fleet = open(nodes.config()).await;
    (nodes, fleet, Nodes::fresh(engine, 1).await)
}

async fn shadow(registry: &Registry, url: &str) -> (Shadow, Database) {
    let database = Database::open("shadow", url, &options()).unwrap();
    let shadow = Shadow::new(registry.clone(), database.clone()).batch(7);
    shadow.migrate().await.unwrap();
    (shadow, database)
}

/// A row as directory and shadow have it: by part and hash.
type Rows = BTreeMap<(i64, Vec<u8>), (i64, Option<String>, i64, bool)>;

async fn rows(database: &Database, text: &'static str, into: &mut Rows) {
    for row in database.fetch_all(sql(text)).await.unwrap() {
        let key = (row.get("part").unwrap(), row.get("key_hash").unwrap());
        let value = (
            row.get("home").unwrap(),
            row.get("region").unwrap(),
            row.get("revision").unwrap(),
            row.get("gone").unwrap(),
        );
        assert!(into.insert(key, value).is_none());
    }
}

async fn in_directory(router: &Router) -> Rows {
    let mut all = Rows::new();
    for node in router.nodes().iter() {
        let text =
            "SELECT shard_id AS part, key_hash, home, region, revision, gone FROM ms_registry";
        rows(node.database(), text, &mut all).await;
    }
    all
}

async fn in_shadow(database: &Database) -> Rows {
    let mut all = Rows::new();
    let text = "SELECT part, key_hash, home, region, revision, gone FROM ms_shadow";
    rows(database, text, &mut all).await;
    all
}

async fn of_many_that_register_a_key_one_is_first_and_all_are_told_where(engine: Engine) {
    let (_nodes, fleet, _) = scene(engine).await;
    let registry = registry(fleet.router());
    for round in 0..5 {
        let key = format!("legacy-{round}");
        let mut racing = JoinSet::new();
        for n in 0..32 {
            let (registry, key) = (registry.clone(), key.clone());
            racing.spawn(async move { (n, registry.register(&key, home(n)).await) });
        }
        let mut winners = Vec::new();
        let mut told = Vec::new();
        for (n, registered) in racing.join_all().await {
            match registered.unwrap() {
                Registered::Won(entry) => {
                    assert_eq!(*entry.home(), home(n));
                    winners.push(entry);
                }
                Registered::Taken(entry) => told.push(entry),
            }
        }
        assert_eq!(winners.len(), 1);
        assert!(told.iter().all(|entry| *entry == winners[0]), "{told:?}");
        let shard = registry.shard(&key).await.unwrap();
        assert_eq!(shard.id(), winners[0].home().shard());
    }
    // The key itself is nowhere.
    for row in in_directory(fleet.router()).await.into_keys() {
        assert_eq!(row.1.len(), 33);
    }
}

async fn key_is_moved_by_who_knows_where_it_is_and_removed_for_all(engine: Engine) {
    let (_nodes, fleet, near) = scene(engine).await;
    let registry = registry(fleet.router());
    let (shadow, _database) = shadow(&registry, &near.urls[0]).await;
    let unknown = registry.shard("acme").await.unwrap_err();
    assert_eq!(unknown.class(), Class::NotFound);
    assert!(shadow.find("acme").await.unwrap().age.is_none());

    let Registered::Won(first) = registry.register("acme", home(3)).await.unwrap() else {
        panic!("nobody else registers");
    };
    // Not pulled yet, and so asked for.
    assert_eq!(shadow.find("acme").await.unwrap().known, Known::Nothing);
    assert_eq!(shadow.shard("acme").await.unwrap().id().get(), 3);
    let pulled = shadow.pull().await.unwrap();
    assert_eq!((pulled.rows, pulled.complete), (1, true));
    let seen = shadow.find("acme").await.unwrap();
    assert_eq!(seen.known, Known::At(first.clone()));
    assert!(seen.age.is_some_and(|age| age < LIMIT));

    let moved = registry.relocate(&first, home(9)).await.unwrap();
    let changed = registry.relocate(&first, home(5)).await.unwrap_err();
    assert!(matches!(changed, RegistryError::Changed));
    assert_eq!(registry.find("acme").await.unwrap(), Some(moved.clone()));
    assert!(registry.remove("acme").await.unwrap());
    assert!(!registry.remove("acme").await.unwrap());
    assert_eq!(registry.find("acme").await.unwrap(), None);
    let changed = registry.relocate(&moved, home(5)).await.unwrap_err();
    assert!(matches!(changed, RegistryError::Changed));
    // The shadow is as old as it says.
    assert_eq!(shadow.find("acme").await.unwrap().known, Known::At(first));
    shadow.pull().await.unwrap();
    assert_eq!(shadow.find("acme").await.unwrap().known, Known::Gone);
    assert_eq!(shadow.find_or_ask("acme").await.unwrap(), None);
    let again = registry.register("acme", home(7)).await.unwrap();
    assert!(matches!(again, Registered::Won(_)));
    assert_eq!(shadow.pull().await.unwrap().rows, 1);
    assert_eq!(shadow.pull().await.unwrap().rows, 0);

    let empty = registry.register("", home(1)).await.unwrap_err();
    assert!(matches!(empty, RegistryError::Shard(ShardError::Key(_))));
    let beyond = Home::new(VirtualShard::new(SHARDS));
    let beyond = registry.register("b", beyond).await.unwrap_err();
    assert!(matches!(
        beyond,
        RegistryError::Shard(ShardError::OutOfRange { .. })
    ));
}

/// Each commit that writes a row takes a while that nobody can foretell.
async fn slow_commits(fleet: &Fleet) {
    for node in fleet.router().nodes().iter() {
        for text in [
            "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep(random() * 0.02); RETURN NULL; END $$",
            "CREATE CONSTRAINT TRIGGER linger AFTER INSERT OR UPDATE ON ms_registry
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION linger()",
        ] {
            node.database().execute(sql(text)).await.unwrap();
        }
    }
}

async fn shadow_misses_nothing_that_is_written_while_it_pulls(engine: Engine) {
    let (_nodes, fleet, near) = scene(engine).await;
    if engine == Engine::Postgres {
        slow_commits(&fleet).await;
    }
    let registry = registry(fleet.router());
    let (shadow, database) = shadow(&registry, &near.urls[0]).await;
    let pulls = Arc::new(AtomicU32::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let (registry, pulls) = (registry.clone(), pulls.clone());
        writers.spawn(async move {
            // Until there were some pulls beside it, however fast it writes.
            let written = |n: &u32| *n < 40 || pulls.load(Relaxed) < 4;
            for n in (0..).take_while(written) {
                // Of few keys, so that writers meet.
                let key = format!("customer-{}", (writer * 7 + n) % 60);
                match registry.register(&key, home(n)).await {
                    Ok(Registered::Taken(entry)) if n % 5 == 0 => {
                        let moved = registry.relocate(&entry, home(n + 1)).await;
                        assert!(matches!(moved, Ok(_) | Err(RegistryError::Changed)));
                    }
                    Ok(Registered::Taken(_)) if n % 7 == 0 => {
                        registry.remove(&key).await.unwrap();
                    }
                    registered => drop(registered.unwrap()),
                }
            }
        });
    }
    while !writers.is_empty() {
        shadow.pull().await.unwrap();
        pulls.fetch_add(1, Relaxed);
        while let Some(ended) = writers.try_join_next() {
            ended.unwrap();
        }
    }
    shadow.pull().await.unwrap();
    let (there, here) = (
        in_directory(fleet.router()).await,
        in_shadow(&database).await,
    );
    eprintln!(
        "{engine:?}: {} rows, {pulls:?} pulls beside the writers",
        there.len()
    );
    assert_eq!(there, here);
    assert!(there.len() >= 60 && pulls.load(Relaxed) > 3);
}

async fn filled(registry: &Registry, keys: u32) {
    for n in 0..keys {
        registry
            .register(&format!("customer-{n}"), home(n))
            .await
            .unwrap();
    }
}

const URLS: &str = "MAXSCALE_TEST_SHADOW";

/// Pulls until it is killed; run by the test below and by nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of another test"]
async fn puller() {
    let Some(urls) = order(URLS) else {
        return;
    };
    let urls: Vec<&str> = urls.split(',').collect();
    let fleet = open(crate::support::config(&urls[1..])).await;
    let (shadow, _database) = shadow(&registry(fleet.router()), urls[0]).await;
    let shadow = shadow.batch(1);
    loop {
        shadow.pull().await.unwrap();
    }
}

async fn shadow_that_is_dropped_anywhere_or_killed_goes_on_where_it_was(engine: Engine) {
    let (nodes, fleet, near) = scene(engine).await;
    let registry = registry(fleet.router());
    let (shadow, database) = shadow(&registry, &near.urls[0]).await;
    filled(&registry, 60).await;
    let mut dropped = 0;
    // On a busy machine answers come in few polls: then it is done once more.
    while dropped <= 10 {
        for polls in 0..40 {
            let pull = cut(polls, random().is_multiple_of(2), shadow.pull());
            dropped += u32::from(timeout(LIMIT, pull).await.unwrap().is_none());
        }
    }
    assert!(dropped > 10, "{dropped}");
    let there = in_directory(fleet.router()).await;
    // What is there is true, however much of it.
    for (key, value) in in_shadow(&database).await {
        assert_eq!(there[&key], value);
    }
    shadow.pull().await.unwrap();
    assert_eq!(in_shadow(&database).await, there);

    shadow.forget().await.unwrap();
    let mut urls = vec![near.urls[0].clone()];
    urls.extend(nodes.urls.iter().cloned());
    let mut part_way = 0;
    for _ in 0..4 {
        let before = in_shadow(&database).await.len();
        let process = Process::builder(std::env::current_exe().unwrap())
            .args(["registry::puller", "--exact", "--ignored"])
            .env(URLS, urls.join(","))
            .start();
        // Somewhere in the middle of what is left.
        eventually(LIMIT, async || {
            let now = in_shadow(&database).await.len();
            now > before || now == there.len()
        })
        .await;
        sleep(Duration::from_millis(random() % 8)).await;
        process.kill();
        let held = in_shadow(&database).await;
        part_way += u32::from(held.len() < there.len());
        assert!(held.iter().all(|(key, value)| there[key] == *value));
    }
    eprintln!("{engine:?}: {part_way} of 4 killed on the way");
    shadow.pull().await.unwrap();
    assert_eq!(in_shadow(&database).await, there);
}

async fn shadow_of_a_directory_that_lost_commits_is_fetched_anew(engine: Engine) {
    let (_nodes, fleet, near) = scene(engine).await;
    let registry = registry(fleet.router());
    let (shadow, database) = shadow(&registry, &near.urls[0]).await;
    filled(&registry, 30).await;
    shadow.pull().await.unwrap();
    // As a failover to a replica does that had not got them.
    for node in fleet.router().nodes().iter() {
        for text in [
            "DELETE FROM ms_registry WHERE revision > 1",
            "UPDATE ms_registry_counter SET last = 1",
        ] {
            node.database().execute(sql(text)).await.unwrap();
        }
    }
    shadow.pull().await.unwrap();
    let there = in_directory(fleet.router()).await;
    assert!(there.len() < 30);
    assert_eq!(in_shadow(&database).await, there);
}
