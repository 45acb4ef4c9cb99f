use std::sync::{Arc, PoisonError, RwLock};

use super::{KeyError, KeyRing};

/// The ring in use. Clones share it, so a rotation reaches every part at once.
#[derive(Clone, Debug)]
pub struct Keys(Arc<RwLock<Arc<KeyRing>>>);

// === impl Keys ===

impl Keys {
    /// Starts with `ring`.
    pub fn new(ring: KeyRing) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(ring))))
    }

    /// The ring as it is now, whatever is exchanged meanwhile. What belongs
    /// together, such as a version and a MAC by it, takes it once.
    pub fn ring(&self) -> Arc<KeyRing> {
        // Whoever holds the lock assigns or clones one pointer: a panic tears nothing.
        (self.0.read().unwrap_or_else(PoisonError::into_inner)).clone()
    }

    /// Puts what `change` makes of the ring in its place. Two changes at the
    /// same time follow each other.
    ///
    /// # Errors
    ///
    /// Returns the error of `change`; the ring then stays.
    ///
    /// # Examples: how is a key rotated?
    ///
    /// ```
    /// # use maxscale_core::keys::{KeyError, KeyRing, Keys, Secret};
    /// # fn main() -> Result<(), KeyError> {
    /// let keys = Keys::new(KeyRing::new(1, Secret::new([1; 32]))?);
    /// let (version, tag) = keys.ring().sign("cursor", b"page 2");
    ///
    /// keys.exchange(|ring| ring.with_old(2, Secret::new([2; 32]))?.promoted(2))?;
    /// assert_eq!(keys.ring().version(), 2);
    /// assert!(keys.ring().verify(version, "cursor", b"page 2", &tag));
    ///
    /// keys.exchange(|ring| ring.retired(1))?;
    /// assert!(!keys.ring().verify(version, "cursor", b"page 2", &tag));
    /// # Ok(())
    /// # }
    /// ```
    pub fn exchange(
        &self,
        change: impl FnOnce(KeyRing) -> Result<KeyRing, KeyError>,
    ) -> Result<(), KeyError> {
        let mut ring = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *ring = Arc::new(change(KeyRing::clone(&ring))?);
        Ok(())
    }
}
