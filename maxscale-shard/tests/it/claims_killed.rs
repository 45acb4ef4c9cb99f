//! Many processes race for the same values and are killed at any moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use maxscale_core::clock::Clock;
use maxscale_core::id::{Id, IdGenerator, KeyspaceTag};
use maxscale_core::keys::{KeyRing, Secret};
use maxscale_shard::{
    Claims, Engine, Fleet, FleetConfig, Migration, MigrationSet, Router, ShardError, sql,
};
use maxscale_tests::{Process, eventually};
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

use crate::support::{LIMIT, Nodes, config, open};

on_both!(values_have_one_owner_each_however_often_their_claimants_are_killed);

/// The accounts that own the values: nothing in their tables keeps them apart.
const ACCOUNTS: MigrationSet = MigrationSet {
    owner: "test-accounts",
    steps: &[Migration {
        version: 1,
        name: "accounts",
        postgres: "CREATE TABLE account (shard_id integer, id uuid, value bigint, PRIMARY KEY (shard_id, id))",
        sqlite: "CREATE TABLE account (shard_id INTEGER, id BLOB, value INTEGER, PRIMARY KEY (shard_id, id))",
    }],
};

const PROCESSES: usize = 4;
const TASKS: usize = 16;
const LEASE: Duration = Duration::from_millis(500);
const URLS: &str = "MAXSCALE_TEST_CLAIM_URLS";
const VALUES: &str = "MAXSCALE_TEST_CLAIM_VALUES";

fn fleet(urls: &[&str]) -> FleetConfig {
    config(urls).migrations(ACCOUNTS)
}

fn claims(router: &Router) -> Claims {
    let keys = KeyRing::new(1, Secret::new([1; 32])).unwrap();
    Claims::new(router.clone(), Arc::new(keys), "email").lease(LEASE)
}

/// Owns one value, or loses it to somebody else, or to an error.
async fn take(claims: &Claims, router: &Router, owner: Id, value: i64) -> Option<()> {
    let claim = claims.reserve(&value.to_string(), owner).await.ok()?;
    let write = async {
        let shard = router.shard(owner)?;
        let mut tx = shard.begin().await?;
        let row = sql("INSERT INTO account (shard_id, id, value) VALUES ($1, $2, $3)");
        let row = row.bind(shard.id()).bind(owner).bind(value);
        tx.execute(row).await?;
        // An error leaves the transaction uncommitted.
        let marked = claims.write_in(&mut tx, &claim).await;
        marked.map_err(|_| ShardError::NotReady {
            node: shard.node().id().clone(),
        })?;
        tx.commit().await
    };
    write.await.ok()?;
    claims.confirm(&claim).await.ok()
}

/// One of the processes; run by the test below and by nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of another test"]
#[expect(
    clippy::disallowed_methods,
    reason = "how one test tells another process of it what to do"
)]
async fn claimant() {
    let (Ok(urls), Ok(values)) = (std::env::var(URLS), std::env::var(VALUES)) else {
        return;
    };
    let values: i64 = values.parse().unwrap();
    let fleet = open(fleet(&urls.split(',').collect::<Vec<_>>())).await;
    let router = fleet.router();
    let ids = Arc::new(IdGenerator::new(Clock::system(), KeyspaceTag::default()));
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (claims, router, ids) = (claims(router), router.clone(), ids.clone());
        tasks.spawn(async move {
            let start = i64::try_from(task).unwrap() * values / 64;
            for step in 0..values {
                let value = (start + step) % values;
                // Until somebody has it.
                while claims
                    .find(&value.to_string())
                    .await
                    .ok()
                    .flatten()
                    .is_none()
                {
                    let owner = ids.draw_anywhere(router.shards());
                    if take(&claims, &router, owner, value).await.is_none() {
                        sleep(Duration::from_millis(5)).await;
                    }
                }
            }
        });
    }
    tasks.join_all().await;
}

fn start(nodes: &Nodes, values: i64) -> Process {
    Process::builder(std::env::current_exe().unwrap())
        .args(["claims_killed::claimant", "--exact", "--ignored"])
        .env(URLS, nodes.urls.join(","))
        .env(VALUES, values.to_string())
        .start()
}

/// The owners in the directory, and in the tables of accounts.
async fn owners(fleet: &Fleet, values: i64) -> (BTreeMap<i64, Uuid>, Vec<(i64, Uuid)>) {
    let claims = claims(fleet.router());
    let mut directory = BTreeMap::new();
    for value in 0..values {
        let owner = claims.find(&value.to_string()).await.unwrap();
        directory.insert(value, owner.unwrap().as_uuid());
    }
    let mut accounts = Vec::new();
    for node in fleet.router().nodes().iter() {
        let rows = node
            .database()
            .fetch_all(sql("SELECT value, id FROM account"));
        for row in rows.await.unwrap() {
            accounts.push((row.get("value").unwrap(), row.get("id").unwrap()));
        }
    }
    accounts.sort_unstable();
    (directory, accounts)
}

async fn left(fleet: &Fleet, text: &'static str) -> i64 {
    let mut sum = 0;
    for node in fleet.router().nodes().iter() {
        let row = node.database().fetch_optional(sql(text)).await.unwrap();
        sum += row.unwrap().get::<i64>("n").unwrap();
    }
    sum
}

async fn race(engine: Engine, mut values: i64, kills: usize) {
    let nodes = Nodes::fresh(engine, 2).await;
    let urls: Vec<&str> = nodes.urls.iter().map(String::as_str).collect();
    let fleet = open(fleet(&urls)).await;
    let mut running: Vec<Process> = (0..PROCESSES).map(|_| start(&nodes, values)).collect();
    let (mut in_the_act, few) = (0, values);
    for kill in 0.. {
        if kill >= kills {
            // They were done before the first kill: there is more to do.
            if in_the_act > 0 || kill > 20 * kills {
                break;
            }
            values += few;
        }
        let dice = Uuid::new_v4();
        let [at, pause, ..] = dice.as_bytes();
        sleep(Duration::from_millis(100 + 2 * u64::from(*pause))).await;
        let at = usize::from(*at) % PROCESSES;
        in_the_act += usize::from(running[at].is_running());
        running[at].kill();
        running[at] = start(&nodes, values);
    }
    // A process that comes to its end has seen an owner for each value.
    for process in &running {
        assert!(
            process.wait(30 * LIMIT).await.success(),
            "{:?}",
            process.lines()
        );
    }
    eprintln!("{engine:?}: {values} values, {in_the_act} kills before the end");
    assert!(in_the_act > 0);

    let claims = claims(fleet.router());
    eventually(LIMIT, async || {
        for node in fleet.router().nodes().iter() {
            claims.reconcile(node).await.unwrap();
        }
        let open = left(&fleet, "SELECT count(*) AS n FROM ms_claim WHERE NOT held").await;
        let marks = "SELECT count(*) AS n FROM ms_claim_mark WHERE state <> 1";
        open + left(&fleet, marks).await == 0
    })
    .await;
    let (directory, accounts) = owners(&fleet, values).await;
    // Exactly one account for each value, and it is the one that the directory names.
    assert_eq!(directory.into_iter().collect::<Vec<_>>(), accounts);
}

async fn values_have_one_owner_each_however_often_their_claimants_are_killed(engine: Engine) {
    race(engine, 400, 12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: ten thousand values and 200 kills; run by name with --ignored"]
async fn ten_thousand_values_have_one_owner_each_after_200_kills() {
    race(Engine::Postgres, 10_000, 200).await;
}
