//! Values of this process that its source does not have yet.
//!
//! A pinned value is what every read of its key gets. It lies outside of L1,
//! so that nothing evicts it, and L1 holds no other value of the key meanwhile:
//! the key is dropped there after it was pinned, and an insert looks here
//! first. A fetch looks here *after* it took the key's stamp. So either it
//! finds the pin, or the drop that follows the pin refuses what it brings.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::l1::{AnyValue, NearKey};

#[derive(Default)]
pub(crate) struct Pins {
    /// Most processes have none, and ask for it alone.
    count: AtomicUsize,
    pinned: Mutex<HashMap<NearKey, Option<AnyValue>>>,
}

// === impl Pins ===

impl Pins {
    /// Pins `value`, or that there is none, in place of what was pinned before.
    pub(crate) fn pin(&self, near: NearKey, value: Option<AnyValue>) {
        let mut pinned = self.pinned();
        pinned.insert(near, value);
        self.count.store(pinned.len(), Ordering::SeqCst);
    }

    pub(crate) fn unpin(&self, near: &NearKey) {
        let mut pinned = self.pinned();
        pinned.remove(near);
        self.count.store(pinned.len(), Ordering::SeqCst);
    }

    /// What is pinned; `Some(None)` says that there is no such value.
    pub(crate) fn get(&self, near: &NearKey) -> Option<Option<AnyValue>> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        self.pinned().get(near).cloned()
    }

    fn pinned(&self) -> MutexGuard<'_, HashMap<NearKey, Option<AnyValue>>> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
