//! Starts the servers, says what they are, and never ends by itself.
//!
//! The harness' own tests kill it and look at what is left.

use std::{future::pending, io::Write};

use maxscale_tests::{PostgresServer, RedisServer};

#[tokio::main]
async fn main() {
    let postgres = PostgresServer::shared().await;
    let own = PostgresServer::start().await;
    let redis = RedisServer::shared().await;
    let servers = [
        (postgres.pid(), postgres.folder()),
        (own.pid(), own.folder()),
        (redis.pid(), redis.folder()),
    ];
    let mut out = std::io::stdout();
    for (pid, folder) in servers {
        if let (Some(pid), Some(folder)) = (pid, folder) {
            writeln!(out, "server {pid} {}", folder.display()).expect("somebody reads");
        }
    }
    writeln!(out, "ready").expect("somebody reads");
    pending::<()>().await;
}
