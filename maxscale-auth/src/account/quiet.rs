//! What keeps the time of an answer from telling whether there is an account.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Accounts;
use crate::error::AuthError;
use crate::floor::Floor;
use crate::password::Scheme;

/// The ways through a flow that must not be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A password was checked against this, or against nobody's.
    Hash(Scheme),
    /// What was stored is no hash.
    Unreadable,
    /// The address has no account.
    Free,
    /// The address waits for its link.
    Unverified,
    /// The address has an account.
    Taken,
}

/// One floor for each kind of flow.
#[derive(Debug)]
pub(super) struct Floors {
    pub(super) log_in: Floor<Way>,
    pub(super) sign_up: Floor<Way>,
    /// Of all that sends a link and hashes nothing.
    pub(super) link: Floor<Way>,
}

/// Which way a flow went, as far as it has got. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail(Arc<Mutex<Option<Way>>>);

/// What a link's way through the databases takes is hardly more.
const LINK: Duration = Duration::from_millis(25);

// === impl Floors ===

impl Floors {
    pub(super) fn new(slowest_hash: Duration) -> Self {
        Self {
            log_in: Floor::new(slowest_hash),
            sign_up: Floor::new(slowest_hash),
            link: Floor::new(LINK),
        }
    }
}

// === impl Trail ===

impl Trail {
    pub(super) fn went(&self, way: Way) {
        self.set(Some(way));
    }

    /// The answer tells by itself what it was about: it need not be held.
    pub(super) fn tells(&self) {
        self.set(None);
    }

    fn set(&self, way: Option<Way>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = way;
    }

    fn way(&self) -> Option<Way> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accounts {
    /// Through here passes every flow whose answer must not tell by its time whether
    /// there is an account. Answers that are the same for everybody, as a refusal
    /// under load, are not held.
    pub(super) fn quietly<'f, T>(
        &self,
        floor: &Floor<Way>,
        trail: &Trail,
        work: impl Future<Output = Result<T, AuthError>> + Send + 'f,
    ) -> Pin<Box<dyn Future<Output = Result<T, AuthError>> + Send + 'f>>
    where
        T: Send + 'f,
    {
        let (floor, trail) = (floor.clone(), trail.clone());
        Box::pin(async move {
            let held = floor.begin();
            let answer = work.await;
            let kept = answer
                .as_ref()
                .err()
                .is_none_or(AuthError::is_about_someone);
            if let Some(way) = trail.way().filter(|_| kept) {
                held.until_floor(way).await;
            }
            answer
        })
    }
}
