use std::time::Duration;

use maxscale_core::clock::Timestamp;
use maxscale_core::fact::Subject;
use maxscale_core::id::Id;
use uuid::Uuid;

use crate::session::{Level, Methods, Roles, SecretHash, Session, Standing};

/// Who is logged in: the fact that the session layer leaves in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    user: Id,
    session: Id,
    subject: Subject,
    level: Level,
    methods: Methods,
    authenticated_at: Timestamp,
    recognised_at: Timestamp,
    ends_at: Timestamp,
    version: u32,
    roles: Roles,
    actor: Option<Id>,
}

// === impl Principal ===

impl Principal {
    /// Who has `session`, by this secret at this time; `None` if it is over, or the
    /// secret not its own.
    pub(crate) fn of(
        session: &Session,
        standing: &Standing,
        secret: &SecretHash,
        now: Timestamp,
    ) -> Option<Self> {
        let level = session.level_of(secret, now)?;
        // A secret that was exchanged has no part in the proof for which it was: all
        // that is known of its own is that it was not made before the session began.
        // Nor may it be exchanged again: no session has the version before its own.
        let is_current = session.secret_hash == *secret;
        let (methods, authenticated_at, version) = if is_current {
            (session.methods, session.authenticated_at, session.version)
        } else {
            let before = session.version.saturating_sub(1);
            (Methods::default(), session.created_at, before)
        };
        // As an id shows itself, without a text of its own on the way.
        let mut text = Uuid::encode_buffer();
        let text = session.user.as_uuid().hyphenated().encode_lower(&mut text);
        Some(Self {
            user: session.user,
            session: session.id,
            subject: Subject::new(text),
            level,
            methods,
            authenticated_at,
            recognised_at: now,
            ends_at: session.ends_at,
            version,
            roles: standing.roles.clone(),
            actor: session.actor,
        })
    }

    /// The user.
    pub const fn user(&self) -> Id {
        self.user
    }

    /// The session that the request came with.
    pub const fn session(&self) -> Id {
        self.session
    }

    /// The user as core's layers name one.
    pub const fn subject(&self) -> &Subject {
        &self.subject
    }

    /// How sure it is that it is the user.
    pub const fn level(&self) -> Level {
        self.level
    }

    /// By what the user proved it.
    pub const fn methods(&self) -> Methods {
        self.methods
    }

    /// When the user last proved it.
    pub const fn authenticated_at(&self) -> Timestamp {
        self.authenticated_at
    }

    /// How old that proof was when the request came.
    pub fn proof_age(&self) -> Duration {
        self.recognised_at.since(self.authenticated_at)
    }

    /// How long the session could go on at most when the request came: what is left
    /// for a cookie.
    pub fn life_left(&self) -> Duration {
        self.ends_at.since(self.recognised_at)
    }

    /// What the user may do, as the application names it.
    pub const fn roles(&self) -> &Roles {
        &self.roles
    }

    /// Who acts in the user's name, if it is not the user.
    pub const fn actor(&self) -> Option<Id> {
        self.actor
    }

    pub(crate) const fn version(&self) -> u32 {
        self.version
    }
}
