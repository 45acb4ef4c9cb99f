use maxscale_core::clock::Timestamp;
use maxscale_core::fact::Subject;
use maxscale_core::id::Id;
use uuid::Uuid;

use super::record::{Level, Methods, Roles, Session, Standing};
use crate::token::Fingerprint;

/// What a session's record says of who has one of its tokens. It holds for each request
/// with that token, until the record changes or its time is over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Recognised {
    pub(crate) token: Fingerprint,
    pub(crate) subject: Subject,
    pub(crate) level: Level,
    pub(crate) methods: Methods,
    pub(crate) authenticated_at: Timestamp,
    pub(crate) ends_at: Timestamp,
    pub(crate) version: u32,
    pub(crate) roles: Roles,
    pub(crate) actor: Option<Id>,
    /// Until when the token counts if nothing is heard of it any more.
    until: Timestamp,
}

// === impl Recognised ===

impl Recognised {
    /// Who has `token`, one of `session`'s by its id; `None` if the session is over at
    /// `now`, or the secret not its own.
    pub(super) fn of(
        session: &Session,
        standing: &Standing,
        token: &Fingerprint,
        now: Timestamp,
    ) -> Option<Self> {
        let level = session.level_of(&token.secret_hash, now)?;
        // A secret that was exchanged has no part in the proof for which it was: all
        // that is known of its own is that it was not made before the session began.
        // Nor may it be exchanged again: no session has the version before its own.
        let is_current = session.secret_hash == token.secret_hash;
        let (methods, authenticated_at, version) = if is_current {
            (session.methods, session.authenticated_at, session.version)
        } else {
            let before = session.version.saturating_sub(1);
            (Methods::default(), session.created_at, before)
        };
        let grace = session.previous.filter(|_| !is_current);
        let until = session.live_until();
        // As an id shows itself, without a text of its own on the way.
        let mut text = Uuid::encode_buffer();
        let text = session.user.as_uuid().hyphenated().encode_lower(&mut text);
        Some(Self {
            token: token.clone(),
            subject: Subject::new(text),
            level,
            methods,
            authenticated_at,
            ends_at: session.ends_at,
            version,
            roles: standing.roles.clone(),
            actor: session.actor,
            until: grace.map_or(until, |grace| grace.until.min(until)),
        })
    }

    /// Whether its times allow it at `now`.
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        now < self.until
    }
}
