use maxscale_core::clock::Timestamp;
use maxscale_core::fact::Subject;
use maxscale_core::id::Id;
use maxscale_core::limit::Quota;
use uuid::Uuid;

use super::record::{Level, Methods, Roles, SecretHash, Session, Standing};
use crate::api_key::Held;
#[cfg(feature = "jwt")]
use crate::token::AccessPrint;
use crate::token::{By, Fingerprint};

/// What a session's record says of who has one of its tokens. It holds for each request
/// with that token, until the record changes or its time is over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Recognised {
    pub(crate) token: Fingerprint,
    pub(crate) subject: Subject,
    pub(crate) proof: Proved,
    pub(crate) ends_at: Timestamp,
    pub(crate) roles: Roles,
    pub(crate) actor: Option<Id>,
    /// What the API key is for, if it is one.
    pub(crate) key: Option<Box<Held>>,
}

/// What a token shows of its user's proofs, and for how long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Proved {
    pub(crate) level: Level,
    pub(crate) methods: Methods,
    pub(crate) authenticated_at: Timestamp,
    /// The version of the session that it may exchange the secret of; of 0 there is none.
    pub(crate) version: u32,
    /// Until when the token counts if nothing is heard of it any more.
    until: Timestamp,
}

// === impl Recognised ===

impl Recognised {
    /// Who has `token`, one of `session`'s by its id; `None` if the session is over at
    /// `now`, or the token not its own.
    pub(super) fn of(
        session: &Session,
        standing: &Standing,
        token: &Fingerprint,
        now: Timestamp,
    ) -> Option<Self> {
        let proof = match &token.by {
            By::Secret(secret) => Proved::by_secret(session, &secret.hash, now)?,
            #[cfg(feature = "jwt")]
            By::Access(access) => Proved::by_access(session, access, now)?,
            By::Key(_) => return None,
        };
        Some(Self {
            token: token.clone(),
            subject: subject(session.user),
            proof,
            ends_at: session.ends_at,
            roles: standing.roles.clone(),
            actor: session.actor,
            key: None,
        })
    }

    /// Who has an API key, which was made and ends then. It proves nothing of its owner.
    pub(crate) fn of_key(
        token: &Fingerprint,
        held: Held,
        roles: Roles,
        (created_at, expires_at): (Timestamp, Timestamp),
    ) -> Self {
        Self {
            token: token.clone(),
            subject: subject(token.user),
            proof: Proved {
                level: Level::Aal1,
                methods: Methods::default(),
                authenticated_at: created_at,
                version: 0,
                until: expires_at,
            },
            ends_at: expires_at,
            roles,
            actor: None,
            key: Some(Box::new(held)),
        }
    }

    /// The quota of an API key, if it has one.
    pub(crate) fn quota(&self) -> Option<&Quota> {
        self.key.as_ref()?.quota.as_ref()
    }

    /// Whether its times allow it at `now`.
    pub(crate) fn is_live(&self, now: Timestamp) -> bool {
        now < self.proof.until
    }
}

/// As an id shows itself, without a text of its own on the way.
fn subject(user: Id) -> Subject {
    let mut text = Uuid::encode_buffer();
    Subject::new(user.as_uuid().hyphenated().encode_lower(&mut text))
}

// === impl Proved ===

impl Proved {
    fn by_secret(session: &Session, secret: &SecretHash, now: Timestamp) -> Option<Self> {
        let level = session.level_of(secret, now)?;
        let until = session.live_until();
        if session.secret_hash == *secret {
            return Some(Self {
                level,
                methods: session.methods,
                authenticated_at: session.authenticated_at,
                version: session.version,
                until,
            });
        }
        // A secret that was exchanged has no part in the proof for which it was: all
        // that is known of its own is that it was not made before the session began.
        // Nor may it be exchanged again: no session has the version before its own.
        let grace = session.previous;
        Some(Self {
            level,
            methods: Methods::default(),
            authenticated_at: session.created_at,
            version: session.version.saturating_sub(1),
            until: grace.map_or(until, |grace| grace.until.min(until)),
        })
    }

    /// An access token shows no more than when it was issued, and no more than the session
    /// does now. It exchanges no secret.
    #[cfg(feature = "jwt")]
    fn by_access(session: &Session, token: &AccessPrint, now: Timestamp) -> Option<Self> {
        let until = session.live_until().min(token.until);
        // The token has whole seconds.
        let proved_later = session.authenticated_at.since(token.authenticated_at);
        let is_of_now = proved_later < std::time::Duration::from_secs(1);
        let methods = if is_of_now {
            session.methods
        } else {
            Methods::default()
        };
        (now < until).then_some(Self {
            level: token.level.min(session.level),
            methods,
            authenticated_at: token.authenticated_at.min(session.authenticated_at),
            version: 0,
            until,
        })
    }
}
