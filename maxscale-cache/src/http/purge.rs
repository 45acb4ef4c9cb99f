//! Telling a CDN to drop what it has.

use std::future::Future;

use futures_util::future::BoxFuture;
use maxscale_core::BoxError;

use super::cdn::Tags;

/// What a CDN is asked to drop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purged {
    /// What it has for one URL, `https://{host}{path}`.
    Url(String),
    /// What was sent with one of these in `Cache-Tag`.
    Tags(Tags),
    /// All that it has of this service.
    Everything,
}

/// A CDN did not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PurgeError {
    /// It answered otherwise, or not at all; it may have been done.
    #[error("the CDN did not confirm the purge")]
    Unconfirmed(#[source] BoxError),

    /// It cannot drop this kind of thing.
    #[error("the CDN cannot purge by that")]
    Unsupported,
}

/// A CDN, as far as it can be told to drop things (L3).
///
/// Whatever is asked may be asked again: each time is as good as once. A purge that
/// must not be lost belongs into a job that is enqueued with the change.
pub trait Purge: Send + Sync + 'static {
    /// Returns once the CDN has confirmed that it dropped `what`.
    ///
    /// # Errors
    ///
    /// See [`PurgeError`].
    fn purge(&self, what: Purged) -> impl Future<Output = Result<(), PurgeError>> + Send;
}

/// [`Purge`] as an object, for the one place that keeps it.
pub(super) trait DynPurge: Send + Sync {
    fn purge(&self, what: Purged) -> BoxFuture<'_, Result<(), PurgeError>>;
}

// === impl DynPurge ===

impl<P: Purge> DynPurge for P {
    fn purge(&self, what: Purged) -> BoxFuture<'_, Result<(), PurgeError>> {
        Box::pin(Purge::purge(self, what))
    }
}
