//! Starts while databases are away or busy.

use std::collections::BTreeSet;
use std::time::Duration;

use maxscale_core::Chain;
use maxscale_core::fact::VirtualShard;
use maxscale_shard::fleet::{FleetConfig, FleetError};
use maxscale_shard::{DatabaseOptions, Engine, Fleet, Router, ShardError, Tx, sql};
use maxscale_tests::{Lateness, PostgresServer, eventually, free_port};
use tokio::time::{Instant, timeout};

use crate::support::{LIMIT, NOTES, Nodes, SHARDS, config, note};

/// As a service would have it: a second for a connection, half a minute for the start.
fn patient(entries: &[&str]) -> FleetConfig {
    config(entries)
        .options(DatabaseOptions::default())
        .wait(Duration::from_secs(30))
}

/// Who is there is reached in that time.
const REACHED: Duration = Duration::from_secs(4);

/// Makes the fleet of `entries`, for a later start that lacks one of them.
async fn first_start(entries: &[&str]) {
    let fleet = Fleet::open(patient(entries)).await.unwrap();
    fleet.close().await;
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
    first_start(&[&first.urls[0], &second]).await;
    server.stop().await;

    let (start, late) = (Instant::now(), Lateness::watch());
    let fleet = Fleet::open(patient(&[&first.urls[0], &second]))
        .await
        .unwrap();
    let took = start.elapsed();
    let most = Duration::from_secs(15) + late.total();
    assert!(took < most, "{took:?}, {late:?}");
    let router = fleet.router();
    let here = router.virtual_shard(VirtualShard::new(0)).unwrap();
    here.execute(note(0, 0)).await.unwrap();
    let away = key_of_second(router).unwrap_err();
    assert!(matches!(&away, ShardError::NotReady { node } if node.as_str() == "node-2"));
    assert!(away.is_unreachable());

    server.restart().await;
    eventually(LIMIT, async || key_of_second(router)).await;
    let there = router.virtual_shard(VirtualShard::new(SHARDS - 1)).unwrap();
    there.execute(note(1, 1)).await.unwrap();
}

/// The connection is accepted and nothing answers: worse than refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_hangs_delays_the_start_no_more_than_one_that_is_down() {
    let first = Nodes::fresh(Engine::Postgres, 1).await;
    let server = PostgresServer::start().await;
    let second = server.database().await.url();
    first_start(&[&first.urls[0], &second]).await;
    server.pause();

    let (start, late) = (Instant::now(), Lateness::watch());
    let fleet = Fleet::open(patient(&[&first.urls[0], &second]))
        .await
        .unwrap();
    let took = start.elapsed();
    let most = Duration::from_secs(15) + late.total();
    assert!(took < most, "{took:?}, {late:?}");
    assert!(key_of_second(fleet.router()).is_err());

    server.resume();
    eventually(LIMIT, async || key_of_second(fleet.router())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_comes_back_with_a_foreign_database_is_never_ready() {
    let nodes = Nodes::fresh(Engine::Postgres, 1).await;
    let server = PostgresServer::start().await;
    let [own, second, foreign] = [
        server.database().await.url(),
        server.database().await.url(),
        server.database().await.url(),
    ];
    first_start(&[&nodes.urls[0], &own]).await;
    first_start(&[&foreign]).await;
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
        let (start, late) = (Instant::now(), Lateness::watch());
        let refused = Fleet::open(config.wait(wait)).await.unwrap_err();

        let took = start.elapsed();
        assert!(
            matches!(refused, FleetError::NoCatalog { .. }),
            "{refused:?}"
        );
        let most = 3 * wait + late.total();
        assert!((wait..most).contains(&took), "{took:?}, {late:?}");
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
    let fresh = Nodes::fresh(Engine::Postgres, 2).await;
    let config = patient(&[&fresh.urls[0], &fresh.urls[1]]).catalog(&catalog.urls[0]);
    Fleet::open(config).await.unwrap().close().await;

    let (start, late) = (Instant::now(), Lateness::watch());
    let config = patient(&[&urls[0], &urls[1]])
        .catalog(&catalog.urls[0])
        .wait(wait);
    let refused = Fleet::open(config).await.unwrap_err();

    let took = start.elapsed();
    assert!(matches!(refused, FleetError::NoNode { .. }), "{refused:?}");
    let most = 3 * wait + late.total();
    assert!((wait..most).contains(&took), "{took:?}, {late:?}");
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
    first_start(&[&a, &b]).await;
    server.stop().await;

    let reordered = patient(&[&b, &a]).wait(Duration::from_secs(2));
    let refused = Fleet::open(reordered).await.unwrap_err();

    assert!(
        matches!(refused, FleetError::NoCatalog { .. }),
        "{refused:?}"
    );
    assert!(!has_a_catalog(&other).await);
    server.restart().await;
    Fleet::open(patient(&[&b, &a])).await.unwrap();
}

async fn has_a_catalog(nodes: &Nodes) -> bool {
    let table = sql("SELECT 1 AS n FROM pg_tables WHERE tablename = 'ms_keyspace'");
    let found = nodes.database().await.fetch_all(table).await;
    !found.unwrap().is_empty()
}

/// The new node is listed first and knows of nothing; the catalog is on the one that is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_catalog_is_made_on_a_new_node_while_a_listed_one_is_away() {
    let server = PostgresServer::start().await;
    let new = Nodes::fresh(Engine::Postgres, 1).await;
    let a = format!("a={}", server.database().await.url());
    let c = format!("c={}", new.urls[0]);
    first_start(&[&a]).await;
    server.stop().await;

    let longer = patient(&[&c, &a]).wait(REACHED);
    let refused = Fleet::open(longer).await.unwrap_err();

    let FleetError::FirstStart { missing, .. } = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(missing.len(), 1);
    assert_eq!(missing[0].as_str(), "a");
    let text = Chain(&refused).to_string();
    for part in ["a first start needs every node", "from a", "refused"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!has_a_catalog(&new).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_start_waits_for_every_node() {
    let server = PostgresServer::start().await;
    let here = Nodes::fresh(Engine::Postgres, 2).await;
    let (first, away) = (&here.urls[0], server.database().await.url());
    server.stop().await;

    // The catalog on the first node, or in a database of its own.
    let (on_a_node, apart) = (patient(&[first, &away]), patient(&[first, &away]));
    for config in [on_a_node, apart.catalog(&here.urls[1])] {
        let given_up = Fleet::open(config.wait(REACHED)).await;
        let refused = given_up.unwrap_err();
        assert!(
            matches!(refused, FleetError::FirstStart { .. }),
            "{refused:?}"
        );
    }
    let entries = [first.clone(), away];
    let start = tokio::spawn(async move {
        let entries = entries.each_ref().map(String::as_str);
        Fleet::open(patient(&entries)).await
    });
    server.restart().await;

    let fleet = start.await.unwrap().unwrap();
    key_of_second(fleet.router()).unwrap();
}

/// Its nodes would belong to two fleets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_catalog_is_made_for_nodes_that_have_one_elsewhere() {
    let nodes = Nodes::fresh(Engine::Postgres, 1).await;
    let fresh = Nodes::fresh(Engine::Postgres, 1).await;
    first_start(&[&nodes.urls[0]]).await;

    let refused = Fleet::open(patient(&[&nodes.urls[0]]).catalog(&fresh.urls[0])).await;

    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, FleetError::WrongNode { .. }),
        "{refused:?}"
    );
    assert!(!has_a_catalog(&fresh).await);
}

/// The lock under which a database is migrated, taken by another client.
async fn migrating(nodes: &Nodes) -> Tx {
    let mut tx = nodes.database().await.begin().await.unwrap();
    let lock = sql("SELECT pg_advisory_xact_lock(7881706578037858405)");
    tx.execute(lock).await.unwrap();
    tx
}

/// Waits until some other client was refused the lock and asks again.
async fn asked_again(nodes: &Nodes) {
    let database = nodes.database().await;
    let mut asked = BTreeSet::new();
    eventually(LIMIT, async || {
        let waiting = sql("SELECT pid::bigint AS pid FROM pg_locks
             WHERE locktype = 'advisory' AND NOT granted
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())");
        for row in database.fetch_all(waiting).await.unwrap() {
            asked.insert(row.get::<i64>("pid").unwrap());
        }
        asked.len() > 1
    })
    .await;
}

/// Both are migrated by another process for longer than a lock is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn database_that_is_busy_at_the_start_is_waited_for() {
    let (first, second) = (
        Nodes::fresh(Engine::Postgres, 1).await,
        Nodes::fresh(Engine::Postgres, 1).await,
    );
    let mut options = DatabaseOptions::default();
    options.lock_timeout = Duration::from_millis(200);
    let (catalog, node) = (migrating(&first).await, migrating(&second).await);
    let config = patient(&[&first.urls[0], &second.urls[0]]).options(options);
    let start = tokio::spawn(Fleet::open(config));

    for (busy, nodes) in [(catalog, &first), (node, &second)] {
        asked_again(nodes).await;
        busy.rollback().await.unwrap();
    }

    let fleet = start.await.unwrap().unwrap();
    key_of_second(fleet.router()).unwrap();
}

#[test]
fn settings_show_no_password() {
    let config = config(&["postgres://u:hunter2@h/d"])
        .catalog("postgres://u:hunter2@h/c")
        .migrations(NOTES);
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
}
