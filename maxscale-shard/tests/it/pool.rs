//! The connections of one PostgreSQL: how many, how long, in what state.

use std::time::Duration;

use maxscale_shard::{Conn, Database, DatabaseOptions, Engine, Statement, sql};
use maxscale_tests::{Cut, Lateness, Proxy, Way, eventually};
use tokio::time::{Instant, timeout};

use crate::support::{LIMIT, Nodes, options};

/// A connection that can be had is had in that time.
pub(crate) const CONNECTED: Duration = Duration::from_secs(2);

fn pid() -> Statement {
    sql("SELECT pg_backend_pid()::bigint AS pid")
}

async fn process(conn: &mut Conn) -> i64 {
    conn.fetch_one(pid()).await.unwrap().get("pid").unwrap()
}

/// How many sessions the server has besides the one that asks.
async fn sessions(observer: &Database) -> i64 {
    let others = sql("SELECT count(*) AS n FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()");
    let row = observer.fetch_optional(others).await.unwrap().unwrap();
    row.get("n").unwrap()
}

fn with(options: DatabaseOptions, nodes: &Nodes) -> Database {
    Database::open("pool", &nodes.urls[0], &options).unwrap()
}

#[tokio::test]
async fn connection_given_back_is_used_again_and_asked_nothing() {
    let nodes = Nodes::fresh(Engine::Postgres, 1).await;
    let proxy = Proxy::start(&nodes.urls[0]).await;
    let database = Database::open("pool", &proxy.url(), &options()).unwrap();
    let before = process(&mut database.writer().await.unwrap()).await;
    // Prepared by now, so that each statement is one message of the same length.
    let sent = async || {
        let before = proxy.bytes(Way::ToServer);
        let pid = process(&mut database.writer().await.unwrap()).await;
        (pid, proxy.bytes(Way::ToServer) - before)
    };
    let mut conn = database.writer().await.unwrap();
    let before_two = proxy.bytes(Way::ToServer);
    process(&mut conn).await;
    let one = proxy.bytes(Way::ToServer) - before_two;
    drop(conn);

    for _ in 0..3 {
        assert_eq!(sent().await, (before, one));
    }
}

#[tokio::test]
async fn more_than_the_limit_wait_for_a_connection_and_no_longer_than_theirs() {
    let nodes = Nodes::fresh(Engine::Postgres, 1).await;
    let mut few = options();
    (few.connections, few.acquire_timeout) = (2, CONNECTED);
    let database = with(few, &nodes);
    let (one, two) = (database.writer().await, database.writer().await);
    let (one, _two) = (one.unwrap(), two.unwrap());

    let (start, late) = (Instant::now(), Lateness::watch());
    let refused = database.writer().await.unwrap_err();
    assert!(refused.is_unreachable(), "{refused:?}");
    let took = start.elapsed();
    let most = CONNECTED * 2 + late.total();
    assert!((CONNECTED..most).contains(&took), "{took:?}, {late:?}");

    let (waiting, ()) = tokio::join!(database.writer(), async { drop(one) });
    waiting.unwrap();
}

#[tokio::test]
async fn idle_connections_are_closed_in_time() {
    let nodes = Nodes::fresh(Engine::Postgres, 1).await;
    let observer = nodes.database().await;
    let mut short = options();
    short.idle_timeout = Duration::from_secs(2);
    let database = with(short, &nodes);
    for _ in 0..2 {
        let (one, two) = tokio::join!(database.writer(), database.writer());
        process(&mut one.unwrap()).await;
        process(&mut two.unwrap()).await;
        assert!(sessions(&observer).await >= 1);
        eventually(LIMIT, async || sessions(&observer).await == 0).await;
    }
}

/// As after a restart of the server, or a failover: none of the old ones is any good.
#[tokio::test]
async fn connections_that_broke_while_idle_cost_no_statement() {
    let nodes = Nodes::fresh(Engine::Postgres, 1).await;
    let proxy = Proxy::start(&nodes.urls[0]).await;
    let database = Database::open("pool", &proxy.url(), &options()).unwrap();
    let conns = tokio::join!(database.writer(), database.writer(), database.writer());
    for mut conn in [conns.0.unwrap(), conns.1.unwrap(), conns.2.unwrap()] {
        process(&mut conn).await;
    }
    proxy.cut(Cut::Close).await;
    let cut = Instant::now();
    // Longer than a connection is taken on trust.
    eventually(LIMIT, async || cut.elapsed() > Duration::from_millis(150)).await;

    for _ in 0..5 {
        database.fetch_all(pid()).await.unwrap();
    }
    assert_eq!(proxy.connections(), 4);
}

#[tokio::test]
async fn close_waits_for_what_is_out_and_refuses_whoever_comes_later() {
    let nodes = Nodes::fresh(Engine::Postgres, 1).await;
    let observer = nodes.database().await;
    let database = with(options(), &nodes);
    let mut out = database.writer().await.unwrap();
    process(&mut database.writer().await.unwrap()).await;

    let closing = tokio::spawn({
        let database = database.clone();
        async move { database.close().await }
    });
    eventually(LIMIT, async || database.writer().await.is_err()).await;
    process(&mut out).await;
    assert!(!closing.is_finished());
    drop(out);

    timeout(LIMIT, closing).await.unwrap().unwrap();
    eventually(LIMIT, async || sessions(&observer).await == 0).await;
}

#[tokio::test]
async fn settings_of_a_pool_show_no_password() {
    let url = "postgres://u:hunter2@127.0.0.1:1/d";
    let database = Database::open("pool", url, &options()).unwrap();
    assert!(!format!("{database:?}").contains("hunter2"));
}
