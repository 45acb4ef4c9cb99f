//! What was read of a user's sessions a moment ago, kept in this process.
//!
//! It is named by the user, so that one message drops all of his sessions.

use std::sync::Arc;
use std::time::Duration;

use maxscale_cache::{Begun, Hub, Near};
use maxscale_core::id::Id;

use super::record::{Session, Standing};

/// How old what is served may be, counted from before the store was asked.
pub(super) const MAX_AGE: Duration = Duration::from_secs(1);

/// How the bus calls it.
const KIND: &str = "auth-session";

/// The sessions that are kept of one user. It is more than one may have, but for those
/// of others who act in his name.
const MOST: usize = 128;

/// The sessions of users that were asked for within the last second.
#[derive(Clone, Debug)]
pub(super) struct NearSessions(Near<Known>);

/// What the store said of a user's sessions.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(Vec<Arc<Found>>);

/// What the store said of one.
pub(super) type Found = (Session, Standing);

// === impl NearSessions ===

impl NearSessions {
    pub(super) fn new(hub: &Hub) -> Self {
        // Roles are the one thing in it that may be long.
        let weight_of = |known: &Known| {
            let bytes = |it: &Arc<Found>| size_of::<Found>() + it.1.roles.text().len();
            known.0.iter().map(bytes).sum()
        };
        Self(hub.near(KIND, MAX_AGE).weighed_by(weight_of))
    }

    /// What is known of the session.
    pub(super) fn get(&self, user: Id, session: Id) -> Option<Arc<Found>> {
        let known = with_name(user, |name| self.0.get(name))?;
        known.0.iter().find(|it| it.0.id == session).cloned()
    }

    /// To be called before the store is asked.
    pub(super) fn begin(&self, user: Id) -> Begun<Known> {
        with_name(user, |name| self.0.begin(name))
    }

    /// Keeps what the store said of a session. That there is none is not kept.
    pub(super) fn learn(&self, begun: &Begun<Known>, session: Id, found: Option<Found>) {
        self.0.keep(begun, |known| {
            let known = known.map_or_else(Vec::new, |known| known.0.clone());
            let others = known.into_iter().filter(|it| it.0.id != session);
            let found = found.map(Arc::new);
            Known(found.into_iter().chain(others).take(MOST).collect())
        });
    }

    /// Forgets the user's sessions here at once, and in the other processes by a message.
    pub(super) async fn forget(&self, user: Id) {
        // What is not confirmed is over in a second.
        let name = user.as_uuid().simple().to_string();
        let _ = self.0.invalidate(&name).await;
    }
}

fn with_name<T>(user: Id, then: impl FnOnce(&str) -> T) -> T {
    then(user.as_uuid().simple().encode_lower(&mut [0; 32]))
}
