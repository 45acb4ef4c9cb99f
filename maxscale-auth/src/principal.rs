use maxscale_core::fact::Subject;
use maxscale_core::id::Id;

/// Who is logged in: the fact that the session layer leaves in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    user: Id,
    session: Id,
    subject: Subject,
}

// === impl Principal ===

impl Principal {
    pub(crate) fn new(user: Id, session: Id) -> Self {
        Self {
            user,
            session,
            subject: Subject::new(&user.to_string()),
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
}
