//! What stores decide alike: which session goes, and what an exchange changes.

use std::num::NonZeroU32;
use std::time::Duration;

use maxscale_core::id::Id;

use super::record::{Previous, Session};
use super::store::{Rotation, Which};

/// The row of a session may say that it was last used so much earlier than it was …
pub(crate) const LAG_MOST: Duration = Duration::from_secs(3600);
/// … and this part of its idle time earlier, if that is less.
pub(crate) const LAG_PART: u32 = 8;

/// Which of a user's live sessions have to end so that `most` are left: those that
/// were active longest ago, and never `new`.
pub(crate) fn beyond<'s>(
    live: impl Iterator<Item = &'s Session>,
    new: Id,
    most: NonZeroU32,
) -> Vec<Id> {
    let mut others: Vec<&Session> = live.filter(|it| it.id != new).collect();
    others.sort_by_key(|it| std::cmp::Reverse((it.last_active, it.id)));
    let kept = usize::try_from(most.get() - 1).unwrap_or(usize::MAX);
    others.iter().skip(kept).map(|it| it.id).collect()
}

/// Exchanges the secret, if the session has the version that is expected.
pub(crate) fn rotate(session: &mut Session, rotation: &Rotation) -> bool {
    if session.version != rotation.expected {
        return false;
    }
    session.previous = Some(Previous {
        secret_hash: session.secret_hash,
        until: rotation.grace_until,
        level: session.level,
    });
    session.secret_hash = rotation.secret_hash;
    session.level = rotation.level;
    session.methods = rotation.methods;
    session.authenticated_at = rotation.authenticated_at;
    session.version += 1;
    true
}

// === impl Which ===

impl Which {
    /// Whether `session` is one of them.
    pub fn means(self, session: Id) -> bool {
        match self {
            Self::One(one) => session == one,
            Self::Others(own) => session != own,
            Self::All => true,
        }
    }
}
