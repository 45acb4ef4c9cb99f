//! The crate against SQLite files and a real PostgreSQL.
//!
//! A claim that holds on both engines is one function, run by [`on_both!`] on each.

#![cfg(all(feature = "postgres", feature = "sqlite"))]
#![expect(clippy::unwrap_used, reason = "these are tests, their helpers too")]

/// Runs each `async fn(Engine)` once per engine.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(maxscale_shard::Engine::Sqlite).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(maxscale_shard::Engine::Postgres).await;
            })+
        }
    };
}

mod support;

mod apart;
mod capabilities;
mod carried;
mod claims;
mod claims_killed;
mod closures;
mod degraded;
mod drift;
mod dropped;
mod endpoints;
mod fleet;
mod hanging;
mod health;
mod keyspace;
mod killed;
mod late;
mod layer;
mod lost_commits;
mod lost_node;
mod maps;
mod migrations;
mod monotonic;
mod moving;
mod own_connection;
mod pool;
mod promoted;
mod recovery;
mod registry;
mod replicas;
mod residency;
mod rollout;
mod routing;
mod saga;
mod scatter;
mod sqlite;
mod standby;
mod telemetry;
#[cfg(feature = "tls")]
mod tls;
mod transactions;
mod two_phase;
mod urls;
mod values;
mod vindex;
mod waves;

/// Where the databases of these tests are: on the server itself.
async fn way_to(database: &maxscale_tests::Database) -> String {
    database.url()
}
