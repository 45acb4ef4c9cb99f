//! An outbox behind a pointer, so that what has one has no type parameter.

use std::fmt;
use std::pin::Pin;

use maxscale_core::BoxError;
use maxscale_shard::Tx;

use super::{Mail, Outbox};

type Put<'a> = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + 'a>>;

/// [`Outbox`] without its error's type.
pub(crate) trait DynOutbox: Send + Sync {
    fn put<'a>(&'a self, tx: &'a mut Tx, mail: Mail) -> Put<'a>;
}

impl<T: Outbox> DynOutbox for T {
    fn put<'a>(&'a self, tx: &'a mut Tx, mail: Mail) -> Put<'a> {
        Box::pin(async move { Outbox::put(self, tx, mail).await.map_err(Into::into) })
    }
}

impl fmt::Debug for dyn DynOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DynOutbox")
    }
}
