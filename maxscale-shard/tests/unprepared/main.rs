//! The tests of `--test pooled` once more, with a PgBouncer that knows no prepared
//! statements before every database: the distribution's own, if that is older
//! than 1.21, as Debian 12's is.
//!
//! Its `pooler` is not run so: it has poolers of its own.

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
    let pooler = POOLER
        .get_or_init(|| PgBouncer::start_unprepared(server))
        .await;
    format!("{}?pooler=unprepared", pooler.url_of(database))
}
