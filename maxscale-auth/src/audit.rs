//! What happened to accounts and sessions, for who keeps a record of it.

use std::fmt;
use std::sync::Arc;

use maxscale_core::clock::Timestamp;
use maxscale_core::id::Id;

use crate::api_key::Scopes;
use crate::mail::{MailKind, Purpose};
use crate::realm::Realm;
use crate::session::{Level, Methods, Why};

/// Takes events as they happen.
///
/// It is called in the way of a request and must not block: what takes time belongs
/// behind a queue, and what to do when that is full is the sink's to say. Events are
/// told after they are stored; a process that dies between the two tells nobody, and
/// of a commit whose answer was lost nobody is told either.
///
/// Closures are sinks:
///
/// ```
/// use maxscale_auth::{AuditEvent, AuditSink};
///
/// let (send, receive) = std::sync::mpsc::sync_channel::<AuditEvent>(1_024);
/// let sink = move |event: &AuditEvent| {
///     // Full: the event is lost, and the request is not held up.
///     let _ = send.try_send(event.clone());
/// };
/// # fn takes(_: impl AuditSink) {}
/// # takes(sink);
/// # drop(receive);
/// ```
pub trait AuditSink: Send + Sync + 'static {
    /// Takes one event.
    fn record(&self, event: &AuditEvent);
}

/// Something that happened, to whom, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditEvent {
    /// When.
    pub at: Timestamp,
    /// In which realm.
    pub realm: Realm,
    /// Whose account or session it is about, if that is known.
    pub user: Option<Id>,
    /// Which session.
    pub session: Option<Id>,
    /// Who acted in the user's name, if it was not the user. A record of each of the
    /// two should have the event.
    pub actor: Option<Id>,
    /// What it was.
    pub what: Audited,
}

/// What an [`AuditEvent`] tells. None of them holds a secret or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Audited {
    /// A session began.
    SessionBegun {
        /// How strong the proof was.
        level: Level,
        /// By what it was made.
        methods: Methods,
    },
    /// A session's secret was exchanged after another proof.
    SessionRotated {
        /// How strong that was.
        level: Level,
        /// By what it was made.
        methods: Methods,
    },
    /// Sessions ended.
    SessionsRevoked {
        /// Which.
        ended: Vec<Id>,
        /// Why.
        why: Why,
    },
    /// Somebody who runs the service began to act in the user's name.
    Impersonated,
    /// The user's roles were changed.
    RolesChanged,
    /// An account was stored. Nobody has shown yet that its address is his.
    SignedUp,
    /// Somebody did not log in, or did not prove in a session that it is still he.
    NotProved {
        /// Why.
        why: Unproved,
    },
    /// A mail was handed over in a flow about the user's account. It need not be to
    /// him: another address that he asks for may have an account.
    Mailed {
        /// What it is about.
        kind: MailKind,
    },
    /// What came by mail was used, and did what it is for.
    MailTokenRedeemed {
        /// What it is for.
        purpose: Purpose,
    },
    /// What came by mail, or was made up, did nothing.
    MailTokenRefused {
        /// What it was brought for.
        purpose: Purpose,
        /// Why.
        why: Unproved,
    },
    /// The account has another password, or none any more.
    PasswordChanged,
    /// The same password has a hash of a newer kind.
    HashRenewed,
    /// The account has another address.
    EmailChanged,
    /// The account has the address again that it had before, and no password.
    EmailUndone,
    /// The account was locked by order.
    Locked,
    /// A lock was taken away.
    Unlocked,
    /// The account is gone: nobody showed in time that its address is his.
    NeverVerified,
    /// An address that the account had before is free for others.
    FormerEmailFreed,
    /// The user has an API key more.
    ApiKeyMade {
        /// Which.
        key: Id,
        /// What may be done with it.
        scopes: Scopes,
    },
    /// The user has an API key that replaces another one.
    ApiKeyRotated {
        /// The one before, which goes on for a while.
        key: Id,
        /// The one after it.
        next: Id,
    },
    /// API keys ended.
    ApiKeysRevoked {
        /// Which.
        keys: Vec<Id>,
    },
    /// Somebody brought an API key that is none, or has ended. What it says is all that is
    /// known of it, and anybody can make it up.
    ApiKeyRefused {
        /// Whose it says it is.
        user: Id,
        /// Which it says it is.
        key: Id,
    },
    /// Somebody who is logged in was not let through.
    Refused {
        /// The code of the refusal.
        code: &'static str,
    },
    /// Another site had a browser send a request that would have changed something, and
    /// it was refused. Whose session came with it is known by its token alone: it may be
    /// over. Anybody can have it told, as often as he likes.
    CrossSite {
        /// The origin of the page that did it, if it was told as browsers do.
        origin: Option<String>,
    },
}

/// Why somebody proved nothing. It is for the audit alone: the answer to a client tells
/// less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unproved {
    /// The address has no account.
    NoAccount,
    /// The account has no password.
    NoPassword,
    /// It is another password.
    WrongPassword,
    /// What is stored is no hash of a password, and no password is right.
    UnreadableHash,
    /// The token is forged, used, replaced, too old, or another user's.
    Token,
    /// It was right, and the account is locked.
    Locked,
    /// It was right, and nobody has shown that the address is his.
    Unverified,
    /// It was right, and the account was changed at the same moment.
    Changed,
    /// It was right, and the address got another account meanwhile.
    EmailTaken,
    /// Too much was tried before.
    TooMany,
}

/// Where a handle tells its events; nowhere by default.
#[derive(Clone, Default)]
pub(crate) struct Audit(Option<Arc<dyn AuditSink>>);

// === impl AuditSink ===

impl<F: Fn(&AuditEvent) + Send + Sync + 'static> AuditSink for F {
    fn record(&self, event: &AuditEvent) {
        self(event);
    }
}

// === impl AuditEvent ===

impl AuditEvent {
    /// Something that happened in `realm`, without saying to whom.
    pub const fn new(at: Timestamp, realm: Realm, what: Audited) -> Self {
        Self {
            at,
            realm,
            user: None,
            session: None,
            actor: None,
            what,
        }
    }
}

// === impl Audit ===

impl Audit {
    pub(crate) fn to(sink: impl AuditSink) -> Self {
        Self(Some(Arc::new(sink)))
    }

    /// Tells what `event` makes, if anybody listens.
    pub(crate) fn tell(&self, event: impl FnOnce() -> AuditEvent) {
        if let Some(sink) = &self.0 {
            sink.record(&event());
        }
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = self.0.is_some();
        f.debug_tuple("Audit").field(&told).finish()
    }
}
