//! What was read of a user's sessions a moment ago, kept in this process.
//!
//! It is named by the user, so that one message drops all of his sessions.

use std::sync::Arc;
use std::time::Duration;

use maxscale_cache::{Begun, Hub, Near};
use maxscale_core::id::Id;
use uuid::Uuid;

use super::recognised::Recognised;
use crate::token::Fingerprint;

/// How old what is served may be, counted from before the store was asked.
pub(super) const MAX_AGE: Duration = Duration::from_secs(1);

/// How the bus calls it.
const KIND: &str = "auth-session";

/// The tokens that are kept of one user. It is more than he may have sessions, but for
/// those of others who act in his name.
const MOST: usize = 128;

/// The tokens of users that were asked for within the last second.
#[derive(Clone, Debug)]
pub(super) struct NearSessions {
    near: Near<Known>,
    #[cfg(feature = "jwt")]
    hub: Hub,
    /// Handles on one hub do not take over what the others have verified: they may be
    /// of another realm, with other keys.
    own: Own,
}

/// Tells handles apart, by where it lies.
type Own = Arc<()>;

/// What the stores said of a user's tokens.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(Vec<Seen>);

/// A token that was verified, and what the store said of who has it.
#[derive(Clone, Debug)]
struct Seen {
    by: Own,
    known: Arc<Recognised>,
}

// === impl NearSessions ===

impl NearSessions {
    pub(super) fn new(hub: &Hub) -> Self {
        // Roles are the one thing in it that may be long.
        let weight_of = |known: &Known| {
            let bytes = |it: &Seen| size_of::<Recognised>() + it.known.roles.text().len();
            known.0.iter().map(bytes).sum()
        };
        Self {
            near: hub.near(KIND, MAX_AGE).weighed_by(weight_of),
            #[cfg(feature = "jwt")]
            hub: hub.clone(),
            own: Own::default(),
        }
    }

    /// Other values on the same hub.
    #[cfg(feature = "jwt")]
    pub(super) fn beside<V: Send + Sync + 'static>(
        &self,
        kind: &'static str,
        age: Duration,
    ) -> Near<V> {
        self.hub.near(kind, age)
    }

    /// What is known of who has the token of `user` that `is` says, if it is one that was
    /// verified.
    pub(super) fn get(
        &self,
        user: Uuid,
        is: impl Fn(&Fingerprint) -> bool,
    ) -> Option<Arc<Recognised>> {
        let known = with_name(user, |name| self.near.get(name))?;
        let mut own = known.0.iter().filter(|it| self.has_seen(it));
        let seen = own.find(|it| is(&it.known.token))?;
        Some(seen.known.clone())
    }

    /// To be called before the store is asked.
    pub(super) fn begin(&self, user: Id) -> Begun<Known> {
        with_name(user.as_uuid(), |name| self.near.begin(name))
    }

    /// Keeps what the store said of a session: of `token`, which was verified, and `of`
    /// its other tokens that are kept. That one is over is not kept.
    pub(super) fn learn(
        &self,
        begun: &Begun<Known>,
        token: &Fingerprint,
        known: Option<Arc<Recognised>>,
        of: impl Fn(&Fingerprint) -> Option<Arc<Recognised>>,
    ) {
        let seen = |known| Seen {
            by: self.own.clone(),
            known,
        };
        let again = |it: Seen| match &it.known.token {
            other if !self.has_seen(&it) || other.session != token.session => Some(it),
            other if other == token => None,
            other => of(other).map(seen),
        };
        self.near.keep(begun, |before| {
            let others = before.map_or_else(Vec::new, |before| before.0.clone());
            let others = others.into_iter().filter_map(again);
            let all = known.map(seen).into_iter().chain(others);
            Known(all.take(MOST).collect())
        });
    }

    fn has_seen(&self, it: &Seen) -> bool {
        Arc::ptr_eq(&it.by, &self.own)
    }

    /// Forgets the user's sessions here at once, and in the other processes by a message.
    pub(super) async fn forget(&self, user: Id) {
        // What is not confirmed is over in a second.
        let name = user.as_uuid().simple().to_string();
        let _ = self.near.invalidate(&name).await;
    }
}

fn with_name<T>(user: Uuid, then: impl FnOnce(&str) -> T) -> T {
    then(user.simple().encode_lower(&mut [0; 32]))
}
