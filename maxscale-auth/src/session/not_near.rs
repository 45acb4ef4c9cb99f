//! Without the feature `near` nothing is kept in this process.

use std::convert::Infallible;
use std::sync::Arc;

use maxscale_core::id::Id;
use uuid::Uuid;

use super::recognised::Recognised;
use crate::token::Fingerprint;

/// What there is none of.
#[derive(Clone, Copy, Debug)]
pub(super) struct NearSessions(Infallible);

// === impl NearSessions ===

impl NearSessions {
    pub(super) fn get(&self, _: Uuid, _: impl Fn(&Fingerprint) -> bool) -> Option<Arc<Recognised>> {
        match self.0 {}
    }

    pub(super) const fn begin(&self, _: Id) -> Infallible {
        self.0
    }

    pub(super) fn learn(
        &self,
        begun: &Infallible,
        _: &Fingerprint,
        _: Option<Arc<Recognised>>,
        _: impl Fn(&Fingerprint) -> Option<Arc<Recognised>>,
    ) {
        match *begun {}
    }

    #[expect(clippy::unused_async, reason = "the other one asks the bus")]
    pub(super) async fn forget(&self, _: Id) {
        match self.0 {}
    }
}
