//! How a handle to sessions is set up.

use std::sync::Arc;

#[cfg(feature = "near")]
use maxscale_cache::Hub;
use maxscale_core::clock::Clock;
use maxscale_core::id::IdGenerator;
use maxscale_core::keys::KeyRing;

use super::activity::Activity;
use super::erased::DynStore;
use super::near::NearSessions;
use super::policy::SessionPolicy;
use super::sessions::{Inner, Sessions};
use super::store::SessionStore;
use crate::audit::{Audit, AuditSink};
use crate::realm::Realm;
use crate::token::SessionToken;

/// What [`Sessions`] needs; see [`Sessions::builder`].
#[derive(Debug)]
#[must_use]
pub struct SessionsBuilder {
    store: Arc<dyn DynStore>,
    keys: Arc<KeyRing>,
    ids: Arc<IdGenerator>,
    realm: Realm,
    policy: SessionPolicy,
    clock: Clock,
    near: Option<NearSessions>,
    audit: Audit,
}

// === impl SessionsBuilder ===

impl SessionsBuilder {
    pub(super) fn new(store: impl SessionStore, keys: Arc<KeyRing>, ids: Arc<IdGenerator>) -> Self {
        Self {
            store: Arc::new(store),
            keys,
            ids,
            realm: Realm::MAIN,
            policy: SessionPolicy::default(),
            clock: Clock::system(),
            near: None,
            audit: Audit::default(),
        }
    }

    /// Sets the realm. Default: [`Realm::MAIN`].
    pub fn realm(mut self, realm: Realm) -> Self {
        self.realm = realm;
        self
    }

    /// Sets how long sessions last. Default: [`SessionPolicy::default`].
    pub fn policy(mut self, policy: SessionPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the clock. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Remembers what the store said of a session in this process, for a second counted
    /// from before it was asked.
    ///
    /// What this handle, or one on the hub of another process, changes is forgotten: here
    /// at once, elsewhere when the hub's message comes. A message that is lost or late
    /// lets nobody in for longer than the second, and while the hub does not hear the
    /// others, nothing is remembered at all. What must not be a second old asks with
    /// [`Consistency::Strong`](super::Consistency::Strong).
    ///
    /// The hub's L2 is not used. Default: the store is asked by every request.
    #[cfg(feature = "near")]
    pub fn near(mut self, hub: &Hub) -> Self {
        self.near = Some(NearSessions::new(hub));
        self
    }

    /// Tells `sink` what happens. Default: nobody.
    pub fn audit(mut self, sink: impl AuditSink) -> Self {
        self.audit = Audit::to(sink);
        self
    }

    /// Finishes the handle.
    pub fn build(self) -> Sessions {
        Sessions(Arc::new(Inner {
            activity: Activity::new(self.store.clone()),
            store: self.store,
            keys: SessionToken::keys(&self.keys),
            ids: self.ids,
            realm: self.realm,
            policy: self.policy,
            clock: self.clock,
            near: self.near,
            audit: self.audit,
        }))
    }
}
