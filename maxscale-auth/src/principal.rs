use maxscale_core::clock::Timestamp;
use maxscale_core::fact::Subject;
use maxscale_core::id::Id;

use crate::session::{Level, Methods, Roles, Session, Standing};

/// Who is logged in: the fact that the session layer leaves in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    user: Id,
    session: Id,
    subject: Subject,
    level: Level,
    methods: Methods,
    authenticated_at: Timestamp,
    version: u32,
    roles: Roles,
    actor: Option<Id>,
}

// === impl Principal ===

impl Principal {
    /// Who has `session`, by a secret that counts at `level`.
    pub(crate) fn new(session: &Session, standing: &Standing, level: Level) -> Self {
        Self {
            user: session.user,
            session: session.id,
            subject: Subject::new(&session.user.to_string()),
            level,
            methods: session.methods,
            authenticated_at: session.authenticated_at,
            version: session.version,
            roles: standing.roles.clone(),
            actor: session.actor,
        }
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
