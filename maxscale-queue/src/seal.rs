//! Arguments as they lie in rows: open, or sealed under a key that can be destroyed.

#[cfg(feature = "seal")]
mod keys;
#[cfg(not(feature = "seal"))]
#[path = "seal/none.rs"]
mod keys;

use std::fmt;

use maxscale_core::BoxError;

use crate::job::JobId;

#[cfg(feature = "seal")]
pub use keys::ArgsKeys;
pub(crate) use keys::{Seal, Seals};

/// Arguments as they lie in a row. `Debug` does not show them.
#[derive(Clone)]
pub(crate) struct StoredArgs {
    pub(crate) text: String,
    /// Whose key they are sealed under, if they are.
    pub(crate) sealed_by: Option<String>,
}

/// Where arguments belong.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "seal"),
    expect(dead_code, reason = "without it nothing opens")
)]
pub(crate) struct Place<'a> {
    pub(crate) queue: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) job: JobId,
}

/// Why arguments did not open.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "seal"),
    expect(dead_code, reason = "without it nothing opens")
)]
pub(crate) enum Unopened {
    /// The key cannot be had now.
    Later(BoxError),
    /// It is gone, or they are not what was sealed.
    Never(BoxError),
}

impl fmt::Debug for StoredArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredArgs")
            .field("bytes", &self.text.len())
            .field("sealed", &self.sealed_by.is_some())
            .finish()
    }
}
