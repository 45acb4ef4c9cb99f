use std::sync::Arc;

use tokio::sync::Mutex;
use uuid::Uuid;

use super::copy::{Home, MapCopy};
use super::memory::Remembered;
use super::settle::Charter;
use crate::router::{Node, Router};
use crate::topology::Topology;

/// Keeps the map in use on disk, and what the catalog remembers. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Keeper(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    router: Router,
    charter: Charter,
    home: Home,
    cluster: Uuid,
    memory: Remembered,
    /// What the file holds. Locked while it is written, so that the newest is last.
    kept: Mutex<Option<(Arc<Topology>, usize)>>,
}

// === impl Keeper ===

impl Keeper {
    pub(super) fn new(
        router: Router,
        charter: Charter,
        (catalog, cluster): (&Node, Uuid),
        memory: Remembered,
    ) -> Self {
        let home = match &charter.config.catalog {
            Some(_) => Home::Apart,
            None => Home::Node(catalog.id().clone()),
        };
        Self(Arc::new(Inner {
            router,
            charter,
            home,
            cluster,
            memory,
            kept: Mutex::default(),
        }))
    }

    /// Writes what the file does not hold yet, if there is to be one. That it
    /// cannot be written is told in the log.
    pub(super) async fn keep(&self) {
        let Some(path) = self.0.charter.config.copy.clone() else {
            return;
        };
        let mut kept = self.0.kept.lock().await;
        let memory = self.0.memory.all();
        // Nothing that was remembered is ever changed, so their number says enough.
        let used = (self.0.router.topology(), memory.len());
        if kept.as_ref() == Some(&used) {
            return;
        }
        let copy = MapCopy {
            cluster: self.0.cluster,
            home: self.0.home.clone(),
            memory,
            topology: Topology::clone(&used.0),
        };
        match copy.write(path.clone(), &self.0.charter.keyspace).await {
            Ok(()) => *kept = Some(used),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot keep the map");
            }
        }
    }
}
