//! Where long values lie beside L2, if they do.

use std::time::Duration;

use bytes::Bytes;

use super::Far;
use crate::envelope::{Away, Body};
#[cfg(feature = "memcached")]
use crate::hub::Hub;
#[cfg(feature = "memcached")]
use crate::memcached::{Fetched, Memcached};

/// Nowhere, or in memcached.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    #[cfg(feature = "memcached")]
    memcached: Option<Memcached>,
}

// === impl Beside ===

#[cfg(feature = "memcached")]
impl From<Memcached> for Beside {
    fn from(memcached: Memcached) -> Self {
        let memcached = Some(memcached);
        Self { memcached }
    }
}

impl Far {
    /// What is to be filled in: a long value is put away first, so that nobody
    /// finds a record whose value is not there yet. If L2 then refuses the
    /// record, nothing names the value.
    #[cfg(feature = "memcached")]
    pub(super) async fn put_away(&self, body: Body, ttl: Duration) -> Body {
        let Some(memcached) = &self.beside.memcached else {
            return body;
        };
        match memcached.put(body.bytes(), ttl).await {
            Some(digest) => body.away(digest),
            None => body,
        }
    }

    /// The encoded value that lies elsewhere; `None` is a miss.
    #[cfg(feature = "memcached")]
    pub(crate) async fn bring(&self, away: &Away) -> Option<Bytes> {
        let memcached = self.beside.memcached.as_ref()?;
        match memcached.get(&away.digest, Hub::MAX_VALUE).await {
            Fetched::Value(bytes) => match away.open(bytes, Hub::MAX_VALUE) {
                Ok(encoded) => {
                    self.counters.l3_hits.add(1);
                    Some(encoded)
                }
                Err(unread) => {
                    self.counters.unread(unread);
                    None
                }
            },
            Fetched::Nothing => {
                self.counters.l3_misses.add(1);
                None
            }
            Fetched::Failed => {
                self.counters.l3_errors.add(1);
                None
            }
        }
    }

    #[cfg(not(feature = "memcached"))]
    #[expect(clippy::unused_async, reason = "it waits where there is a memcached")]
    pub(super) async fn put_away(&self, body: Body, _: Duration) -> Body {
        let Beside {} = self.beside;
        body
    }

    #[cfg(not(feature = "memcached"))]
    #[expect(clippy::unused_async, reason = "it waits where there is a memcached")]
    pub(crate) async fn bring(&self, _: &Away) -> Option<Bytes> {
        None
    }
}
