//! What happened to accounts and sessions: a line of the log each, of the target `audit`;
//! and an address that was changed is shown at once.

use maxscale_auth::{AuditEvent, AuditSink, Audited};
use maxscale_core::id::Id;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::profile::Profiles;

/// How many changed addresses wait to be told. One that finds no room is shown when its
/// user's profile has left the caches, as if the process had died.
const WAITING: usize = 1_024;

/// Takes what happens.
#[derive(Debug)]
pub(crate) struct Audit(Sender<Id>);

/// The users whose address is another one.
#[derive(Debug)]
pub(crate) struct ChangedEmails(Receiver<Id>);

/// An audit, and what it hands on.
pub(crate) fn audit() -> (Audit, ChangedEmails) {
    let (send, receive) = channel(WAITING);
    (Audit(send), ChangedEmails(receive))
}

// === impl Audit ===

impl AuditSink for Audit {
    fn record(&self, event: &AuditEvent) {
        let AuditEvent {
            user,
            session,
            actor,
            what,
            ..
        } = event;
        tracing::info!(
            target: "audit",
            user = user.map(tracing::field::display),
            session = session.map(tracing::field::display),
            actor = actor.map(tracing::field::display),
            "{what:?}",
        );
        if let (Audited::EmailChanged | Audited::EmailUndone, Some(user)) = (what, user)
            && self.0.try_send(*user).is_err()
        {
            tracing::warn!(%user, "the old address may be shown for a minute");
        }
    }
}

// === impl ChangedEmails ===

impl ChangedEmails {
    /// Drops the old profiles, here and in other processes, until nobody sends any more.
    pub(crate) async fn run(mut self, profiles: Profiles) {
        while let Some(user) = self.0.recv().await {
            profiles.changed(user).await;
        }
    }
}
