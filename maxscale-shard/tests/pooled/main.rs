//! The same tests once more, with PgBouncer in transaction mode before every
//! database. (`--test unprepared`: with one that knows no prepared statements.)
//!
//! Not run so, because they need the server itself:
//!
//! - `degraded`, `hanging`, `standby`, `tls`: servers and URLs of their own, limits
//!   that a connection is given when it is made
//! - `pool`: which session of the server a connection has, and how many there are
//! - `urls`, `sqlite`, `routing`: no server, or nothing but its URL
//! - `vindex`: what PostgreSQL computes, whoever asks

#![cfg(all(feature = "postgres", feature = "sqlite"))]
#![expect(clippy::unwrap_used, reason = "these are tests, their helpers too")]

use maxscale_tests::{PgBouncer, PostgresServer};
use tokio::sync::OnceCell;

/// Runs each `async fn(Engine)` through the pooler.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(maxscale_shard::Engine::Postgres).await;
            })+
        }
    };
}

#[path = "../it/claims.rs"]
mod claims;
#[path = "../it/closures.rs"]
mod closures;
#[path = "../it/dropped.rs"]
mod dropped;
#[path = "../it/fleet.rs"]
mod fleet;
#[path = "../it/killed.rs"]
mod killed;
#[path = "../it/lost_commits.rs"]
mod lost_commits;
#[path = "../it/migrations.rs"]
mod migrations;
mod pooler;
#[path = "../it/support.rs"]
mod support;
#[path = "../it/transactions.rs"]
mod transactions;
#[path = "../it/two_phase.rs"]
mod two_phase;
#[path = "../it/values.rs"]
mod values;

/// Where the databases of these tests are: behind the pooler that all share.
async fn way_to(database: &maxscale_tests::Database) -> String {
    static POOLER: OnceCell<PgBouncer> = OnceCell::const_new();
    let server = PostgresServer::shared().await;
    let pooler = POOLER.get_or_init(|| PgBouncer::start(server)).await;
    format!("{}?pooler=prepared", pooler.url_of(database))
}
