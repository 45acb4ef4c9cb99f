//! A write to the source, and what the cache is told of it.

use std::future::Future;
use std::sync::Arc;

use tracing::Instrument as _;

use super::Cache;
use crate::error::WriteError;
use crate::hub::Invalidated;
use crate::key;
use crate::l1::AnyValue;

/// Drops a value when it is dropped before its write has ended: nobody knows
/// then what became of the write.
struct Unknown<'a, V>
where
    V: Send + Sync + 'static,
{
    cache: &'a Cache<V>,
    id: &'a str,
    ended: bool,
}

impl<V> Cache<V>
where
    V: Send + Sync + 'static,
{
    /// Writes `id` to the source by `write`, then tells the cache, and gives
    /// what was written.
    ///
    /// `write` returns once its change is committed, with the value as it is
    /// then, or with `None` if there is none any more. As soon as this returns,
    /// what was before is gone as after an [`invalidate`](Self::invalidate).
    /// Until then readers may be served the old value.
    ///
    /// Of several writes at once, in whichever process, none leaves an older
    /// value than the source's: the value is kept only if the cache knows
    /// versions ([`versioned_by`](Self::versioned_by)) and it is newer than the
    /// one that was there ([`put_if_newer`](Self::put_if_newer)). In all other
    /// cases it is dropped, and the next read loads.
    ///
    /// The write runs in a task of its own. Who gives up waiting does not
    /// cancel it, and the cache is told when it ends.
    ///
    /// # Errors
    ///
    /// See [`WriteError`]. The value is dropped then too, since it is not known
    /// whether the write took place. A write that ends with an error and takes
    /// place *later* (a commit whose answer was lost, and which the server had
    /// not begun) is not noticed: [invalidate](Self::invalidate) once more when
    /// that is known.
    pub async fn write_through<F, Fut, E>(
        &self,
        id: &str,
        write: F,
    ) -> Result<(Option<Arc<V>>, Invalidated), WriteError<E>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<V>, E>> + Send + 'static,
        E: Send + 'static,
    {
        let (cache, id) = (self.clone(), id.to_owned());
        let task = async move {
            let mut unknown = Unknown {
                cache: &cache,
                id: &id,
                ended: false,
            };
            let written = write().await;
            unknown.ended = true;
            match written {
                Ok(value) => {
                    let value = value.map(Arc::new);
                    let told = cache.tell(&id, value.clone()).await;
                    Ok((value, told))
                }
                Err(error) => {
                    // Whether L2 confirmed it is no news to who has an error to see to.
                    let _ = cache.invalidate(&id).await;
                    Err(WriteError::Write(error))
                }
            }
        };
        let ended = tokio::spawn(task.in_current_span()).await;
        ended.unwrap_or(Err(WriteError::Aborted))
    }

    /// Tells the cache what the source has under `id` since a moment ago.
    pub(crate) async fn tell(&self, id: &str, value: Option<Arc<V>>) -> Invalidated {
        let versioned = value
            .zip(self.version_of)
            .map(|(value, version_of)| (version_of(&value), value));
        match versioned {
            Some((version, value)) => self.put_if(id, value, Some(version)).await,
            None => self.invalidate(id).await,
        }
    }

    pub(crate) const fn kind(&self) -> &'static str {
        self.spec.kind
    }

    /// The key of a stream in which values lie until they are written.
    #[cfg(feature = "redis")]
    pub(crate) fn key_of_behind(&self, name: &str) -> String {
        let prefix = &self.hub.shared().far.prefix;
        key::of_behind(prefix, &self.schema.kind, name)
    }

    /// Lets every read of `id` in this process get `value`, until it is unpinned.
    pub(crate) fn pin(&self, id: &str, value: Option<Arc<V>>) {
        let shared = self.hub.shared();
        let part = key::part_of(id);
        let probe = self.probe(&part);
        let value = value.map(|value| value as AnyValue);
        shared.pins.pin(probe.to_key(), value);
        shared.l1.drop_key(&probe);
    }

    pub(crate) fn unpin(&self, id: &str) {
        let part = key::part_of(id);
        self.hub.shared().pins.unpin(&self.probe(&part).to_key());
    }
}

// === impl Unknown ===

impl<V> Drop for Unknown<'_, V>
where
    V: Send + Sync + 'static,
{
    fn drop(&mut self) {
        if !self.ended {
            let shared = self.cache.hub.shared();
            let order = shared.order(&self.cache.schema.kind, self.id, false);
            // Dropped here at once; the hub's task sends the mark.
            drop(shared.begin(order));
        }
    }
}
