//! What all parts of the platform stand on.

use std::sync::Arc;

use maxscale_cache::Hub;
use maxscale_core::clock::Clock;
use maxscale_core::id::IdGenerator;
use maxscale_core::keys::KeyRing;
use maxscale_core::limit::Limits;
use maxscale_core::meter::Meter;
use maxscale_queue::Queue;
use maxscale_shard::Router;

use crate::public_url::PublicUrl;

/// Handles that nearly every part needs, each cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    pub(crate) clock: Clock,
    pub(crate) meter: Meter,
    pub(crate) ids: Arc<IdGenerator>,
    pub(crate) keys: Arc<KeyRing>,
    /// Asks one node at a time.
    pub(crate) router: Router,
    pub(crate) queue: Queue,
    pub(crate) hub: Hub,
    pub(crate) limits: Limits,
    /// The URL that clients use.
    pub(crate) public: PublicUrl,
}
