//! PostgreSQL and Redis for one platform.

use std::path::Path;

use maxscale_tests::{Database, PostgresServer, ProcessBuilder, RedisServer};

use crate::service::Service;

/// Two databases of the shared PostgreSQL server, and a Redis of the test's own.
///
/// A test that breaks PostgreSQL starts servers of its own instead.
#[derive(Debug)]
pub(crate) struct Servers {
    /// The nodes, as the settings list them.
    pub(crate) nodes: [Database; 2],
    /// For cache and limits.
    pub(crate) redis: RedisServer,
}

// === impl Servers ===

impl Servers {
    /// Starts or finds them.
    pub(crate) async fn start() -> Self {
        let postgres = PostgresServer::shared().await;
        Self {
            nodes: [postgres.database().await, postgres.database().await],
            redis: RedisServer::start().await,
        }
    }

    /// The program in `folder` on these servers, not started yet.
    pub(crate) fn builder(&self, folder: &Path) -> ProcessBuilder {
        let nodes = self.nodes.each_ref().map(Database::url).join(",");
        Service::builder(folder)
            .env("MAXSCALE__SHARDS__NODES", nodes)
            .env("MAXSCALE__REDIS__URL", self.redis.url())
    }
}
