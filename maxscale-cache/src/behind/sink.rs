//! What a sink gets, and what it may say.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use maxscale_core::BoxError;

use super::buffer::Taken;
use super::unwritten::Held;

/// One value to be written to the source.
pub struct Op<V> {
    /// Whose value.
    pub id: Arc<str>,
    /// Rises with each value that was accepted for the id, and never falls,
    /// also across a crash. Writing `WHERE version < $version` makes it
    /// harmless to be told the same again.
    pub version: u64,
    /// The value; `None` if there shall be none any more.
    pub value: Option<Arc<V>>,
}

/// A value that the sink refused as often as it may.
#[derive(Debug)]
#[non_exhaustive]
pub struct DeadLetter<V> {
    /// What was refused.
    pub op: Op<V>,
    /// Why, the last time.
    pub error: BoxError,
}

/// A sink did not write what it was given.
#[derive(Debug, thiserror::Error)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a sink has to choose: try again, or find out which value it is"
)]
pub enum SinkError {
    /// It cannot write anything now, or does not know what it wrote. All is
    /// tried again until it can, however long that takes.
    #[error("the sink cannot write now")]
    Unavailable(#[source] BoxError),

    /// Something in what it got is at fault. Of several values each half is
    /// tried by itself, until it is known which one.
    #[error("the sink refused what it was given")]
    Refused(#[source] BoxError),
}

type Call<I, E> = Box<dyn Fn(I) -> BoxFuture<'static, Result<(), E>> + Send + Sync>;

pub(super) type Write<V> = Call<Vec<Op<V>>, SinkError>;
pub(super) type Bury<V> = Call<DeadLetter<V>, BoxError>;

// === impl Op ===

impl<V> Op<V> {
    pub(super) fn of(taken: &Taken<Arc<Held<V>>>) -> Self {
        Self {
            id: taken.id.clone(),
            version: taken.version,
            value: taken.value.value.clone(),
        }
    }
}

impl<V> Clone for Op<V> {
    fn clone(&self) -> Self {
        Self {
            id: self.id.clone(),
            version: self.version,
            value: self.value.clone(),
        }
    }
}

impl<V> fmt::Debug for Op<V> {
    /// Without the value, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Op")
            .field("id", &self.id)
            .field("version", &self.version)
            .field("exists", &self.value.is_some())
            .finish()
    }
}
