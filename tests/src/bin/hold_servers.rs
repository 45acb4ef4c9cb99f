//! Takes servers as a test does, for the harness' own tests to look at.
//!
//! Without an argument it says which servers it started and never ends by
//! itself. With `groups` these are servers that belong together. With `once` it
//! fills a database and a prefix of the shared servers
//! and ends.

use std::{
    env,
    future::pending,
    io::{Read, Write, stdout},
    net::TcpStream,
    path::Path,
};

use maxscale_tests::{PgBouncer, PostgresServer, RedisCluster, RedisSentinels, RedisServer};
use sqlx::{Connection, PgConnection};

#[tokio::main]
async fn main() {
    match env::args().nth(1).as_deref() {
        Some("once") => once().await,
        Some("groups") => groups().await,
        _ => hold().await,
    }
}

async fn hold() {
    let postgres = PostgresServer::shared().await;
    let own = PostgresServer::start().await;
    let redis = RedisServer::shared().await;
    show([
        (postgres.pid(), postgres.folder()),
        (own.pid(), own.folder()),
        (redis.pid(), redis.folder()),
    ])
    .await;
}

async fn groups() {
    let primary = PostgresServer::start().await;
    let replica = primary.replica().await;
    let pooler = PgBouncer::start(&primary).await;
    let (cluster, sentinels) = tokio::join!(RedisCluster::start(), RedisSentinels::start());
    let redis = [
        cluster.servers(),
        sentinels.servers(),
        sentinels.sentinels(),
    ];
    let redis = redis
        .into_iter()
        .flatten()
        .map(|it| (it.pid(), it.folder()));
    let others = [
        (primary.pid(), primary.folder()),
        (replica.pid(), replica.folder()),
        (pooler.pid(), pooler.folder()),
    ];
    show(others.into_iter().chain(redis)).await;
}

async fn show(servers: impl IntoIterator<Item = (Option<u32>, Option<&Path>)>) {
    for (pid, folder) in servers {
        if let (Some(pid), Some(folder)) = (pid, folder) {
            say(&format!("server {pid} {}", folder.display()));
        }
    }
    say("ready");
    pending::<()>().await;
}

async fn once() {
    let database = PostgresServer::shared().await.database().await;
    let mut connection = PgConnection::connect(&database.url())
        .await
        .expect("its own database accepts it");
    let name: String = sqlx::query_scalar("SELECT current_database()::text")
        .fetch_one(&mut connection)
        .await
        .expect("its own database answers");
    say(&format!("database {name}"));

    let redis = RedisServer::shared().await;
    let prefix = redis.prefix();
    let url = redis.url();
    let address = url.strip_prefix("redis://").expect("redis without TLS");
    let mut stream = TcpStream::connect(address).expect("redis accepts it");
    for key in ["one", "two"] {
        write!(stream, "SET {prefix}{key} 1\r\n").expect("redis reads");
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).expect("redis answers");
        say(&format!("key {prefix}{key}"));
    }
}

fn say(line: &str) {
    writeln!(stdout(), "{line}").expect("somebody reads");
}
