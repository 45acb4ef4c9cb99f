//! Servers that hang, at a statement or amid a start, and locks that are not had.

use std::time::Duration;

use maxscale_shard::{Database, DatabaseOptions, Engine, Fleet, ShardError, Statement, sql};
use maxscale_tests::{Lateness, PostgresServer, Proxy, Way, eventually};
use tokio::time::{Instant, timeout};

use crate::support::{LIMIT, Nodes, config, note, noted, options};

/// A database behind a proxy, see [`hasty`].
async fn behind_a_proxy() -> (Proxy, Database) {
    let target = PostgresServer::shared().await.url();
    let proxy = Proxy::start(&target).await;
    let database = Database::open("hanging", &proxy.url(), &hasty()).unwrap();
    (proxy, database)
}

/// Two connections, and a moment per statement.
fn hasty() -> DatabaseOptions {
    let mut options = DatabaseOptions::default();
    options.connections = 2;
    options.statement_timeout = MOMENT;
    options
}

/// No statement that is answered takes so long.
const MOMENT: Duration = Duration::from_secs(2);

fn one() -> Statement {
    sql("SELECT 1 AS one")
}

#[tokio::test]
async fn statement_without_an_answer_is_given_up_soon_after_its_limit() {
    let (proxy, database) = behind_a_proxy().await;
    let mut conn = database.writer().await.unwrap();
    conn.fetch_all(one()).await.unwrap();
    proxy.black_hole(Way::ToClient);

    let (start, late) = (Instant::now(), Lateness::watch());
    let given_up = timeout(LIMIT, conn.fetch_all(one())).await.unwrap();
    assert!(given_up.unwrap_err().is_unreachable());
    let took = start.elapsed();
    let most = MOMENT + Duration::from_secs(3) + late.total();
    assert!((MOMENT..most).contains(&took), "{took:?}, {late:?}");
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

    both_places_connect_anew(&proxy, &database).await;
}

#[tokio::test]
async fn connections_given_back_while_the_server_hangs_keep_no_place_in_the_pool() {
    let (proxy, database) = behind_a_proxy().await;
    let mut conns = [
        database.writer().await.unwrap(),
        database.writer().await.unwrap(),
    ];
    for conn in &mut conns {
        conn.fetch_all(one()).await.unwrap();
    }
    proxy.black_hole(Way::ToClient);
    drop(conns);

    both_places_connect_anew(&proxy, &database).await;
}

/// What has a place tries, in vain, to connect.
async fn both_places_connect_anew(proxy: &Proxy, database: &Database) {
    eventually(LIMIT, async || {
        let _ = tokio::join!(database.reader(), database.reader());
        proxy.connections() >= 4
    })
    .await;
}

/// It hangs where a start sees whether there is something to migrate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_hangs_amid_a_start_is_tried_again() {
    let nodes = Nodes::fresh(Engine::Postgres, 2).await;
    let proxy = Proxy::start(&nodes.urls[1]).await;
    let entries = [nodes.urls[0].as_str(), &proxy.url()];
    Fleet::open(config(&entries)).await.unwrap().close().await;
    let second = Database::open("second", &nodes.urls[1], &hasty()).unwrap();
    let mut held = second.begin().await.unwrap();
    let ledger = sql("LOCK TABLE ms_migration IN ACCESS EXCLUSIVE MODE");
    held.execute(ledger).await.unwrap();

    let start = tokio::spawn(Fleet::open(config(&entries).options(hasty())));
    eventually(LIMIT, async || {
        let waiting = sql(
            "SELECT 1 AS one FROM pg_locks WHERE relation = 'ms_migration'::regclass AND NOT granted",
        );
        !second.fetch_all(waiting).await.unwrap().is_empty()
    })
    .await;
    proxy.black_hole(Way::ToClient);
    held.rollback().await.unwrap();

    let before = proxy.connections();
    eventually(LIMIT, async || proxy.connections() > before).await;
    proxy.heal().await;
    let fleet = start.await.unwrap().unwrap();
    let node = &fleet.router().nodes()[1];
    eventually(LIMIT, async || node.is_ready()).await;
}

#[tokio::test]
async fn lock_that_postgres_does_not_get_in_time_is_busy() {
    let (nodes, database) = noted(Engine::Postgres).await;
    let mut holder = database.begin().await.unwrap();
    holder.execute(note(1, 1)).await.unwrap();
    let mut hasty = options();
    hasty.lock_timeout = Duration::from_millis(50);
    hasty.statement_timeout = MOMENT;
    let hasty = Database::open("hasty", &nodes.urls[0], &hasty).unwrap();

    for statement in [note(1, 1), sql("SELECT pg_sleep(20)")] {
        let busy = hasty.execute(statement).await.unwrap_err();
        assert!(matches!(busy, ShardError::Busy { .. }), "{busy:?}");
    }
    // The connection is none the worse.
    hasty.execute(note(2, 1)).await.unwrap();
}
