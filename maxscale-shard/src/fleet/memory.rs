use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::catalog;
use super::copy::Memory;
use crate::database::Database;
use crate::error::ShardError;

/// What the catalog remembers, as far as this process knows. Cheap to clone.
///
/// A value is stored once and never changed, so what is known holds.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    known: Arc<Mutex<Memory>>,
    /// Rung when there is more to keep.
    hint: Arc<Notify>,
}

// === impl Remembered ===

impl Remembered {
    pub(super) fn new(memory: Memory, hint: Arc<Notify>) -> Self {
        let known = Arc::new(Mutex::new(memory));
        Self { known, hint }
    }

    /// Puts if absent; gives what is stored.
    pub(super) async fn remember(
        &self,
        catalog: &Database,
        name: &str,
        value: &[u8],
    ) -> Result<Vec<u8>, ShardError> {
        if let Some(known) = self.known(name) {
            return Ok(known);
        }
        let stored = catalog::remember(catalog, name, value).await?;
        Ok(self.learn(name, stored))
    }

    /// What is stored, if anything is.
    pub(super) async fn recall(
        &self,
        catalog: &Database,
        name: &str,
    ) -> Result<Option<Vec<u8>>, ShardError> {
        if let Some(known) = self.known(name) {
            return Ok(Some(known));
        }
        let stored = catalog::recall(catalog, name).await?;
        Ok(stored.map(|stored| self.learn(name, stored)))
    }

    pub(super) fn all(&self) -> Memory {
        self.lock().clone()
    }

    fn known(&self, name: &str) -> Option<Vec<u8>> {
        self.lock().get(name).cloned()
    }

    fn learn(&self, name: &str, stored: Vec<u8>) -> Vec<u8> {
        // A name of several lines would be none in the copy on disk.
        if !name.contains(['\n', '\r']) {
            self.lock().insert(name.to_owned(), stored.clone());
            self.hint.notify_one();
        }
        stored
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        // Each change is one insert, so a panic elsewhere tears nothing.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
