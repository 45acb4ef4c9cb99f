use std::sync::Arc;
use std::time::Duration;

use maxscale_core::clock::Clock;
use maxscale_core::id::IdGenerator;
use maxscale_core::keys::KeyRing;
use maxscale_core::limit::{Attempts, AttemptsError, Limits, LocalLimits};
use maxscale_shard::{Claims, Router};

use super::quiet::Floors;
use super::row::Rows;
use super::{Accounts, Inner};
use crate::background::Background;
use crate::mail::{AfterCommit, DynOutbox, Lifetimes, LinkPaths, Links, Mailer, Outbox};
use crate::password::PasswordPool;
use crate::realm::Realm;
use crate::session::{Sessions, SqlSessions};

/// What [`Accounts`] needs; see [`Accounts::builder`].
#[derive(Debug)]
#[must_use]
pub struct AccountsBuilder {
    router: Router,
    ids: Arc<IdGenerator>,
    keys: Arc<KeyRing>,
    passwords: PasswordPool,
    clock: Clock,
    realm: Realm,
    sessions: Option<Sessions>,
    outbox: Option<Box<dyn DynOutbox>>,
    base_url: Option<String>,
    paths: LinkPaths,
    secure: bool,
    sign_ups: SignUps,
    lifetimes: Lifetimes,
    unverified_for: Duration,
    attempts: Option<Attempts>,
    mails: Option<Attempts>,
}

/// What a sign-up tells, and when an account may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignUps {
    /// The answer is the same whether the address has an account or not: a mail is on
    /// its way. The account begins when its link is redeemed.
    #[default]
    Quiet,
    /// A taken address is told ([`AuthError::EmailTaken`](crate::AuthError::EmailTaken)),
    /// and anybody may ask whether an address has an account. A new account is logged
    /// in at once, and may be used before its address is verified.
    Open,
}

/// Accounts that would not be safe so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountsError {
    /// Links in mails need one; it is never taken from a request.
    #[error("no base URL for links in mails is configured")]
    NoBaseUrl,

    /// The base URL is no plain one.
    #[error("the base URL must be {} and an optional path", if *secure { "https, a host" } else { "http or https, a host" })]
    BaseUrl {
        /// Whether it must be https.
        secure: bool,
    },

    /// A path below the base URL is none.
    #[error("{path:?} is no path for a link: it begins with / and is plain ASCII")]
    LinkPath {
        /// The path.
        path: String,
    },

    /// Nobody takes mails.
    #[error("no outbox or mailer is configured")]
    NoOutbox,

    /// Sessions of another realm.
    #[error("the sessions are of realm {sessions}, the accounts of realm {accounts}")]
    Realm {
        /// The sessions'.
        sessions: Realm,
        /// The accounts'.
        accounts: Realm,
    },

    /// Attempts cannot be counted so.
    #[error(transparent)]
    Attempts(#[from] AttemptsError),
}

// === impl AccountsBuilder ===

impl AccountsBuilder {
    /// For how long an account is kept at least whose sign-up nobody confirms.
    pub const UNVERIFIED_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

    pub(super) fn new(
        router: Router,
        ids: Arc<IdGenerator>,
        keys: Arc<KeyRing>,
        passwords: PasswordPool,
    ) -> Self {
        Self {
            router,
            ids,
            keys,
            passwords,
            clock: Clock::system(),
            realm: Realm::MAIN,
            sessions: None,
            outbox: None,
            base_url: None,
            paths: LinkPaths::default(),
            secure: true,
            sign_ups: SignUps::default(),
            lifetimes: Lifetimes::default(),
            unverified_for: Self::UNVERIFIED_FOR,
            attempts: None,
            mails: None,
        }
    }

    /// Sets the clock. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the realm. Default: [`Realm::MAIN`].
    pub const fn realm(mut self, realm: Realm) -> Self {
        self.realm = realm;
        self
    }

    /// Sets the handle to the sessions, whose store keeps them for good in the rows of
    /// the same router ([`SqlSessions`]), with whatever before them. What happens to
    /// accounts is told to [their audit](crate::session::SessionsBuilder::audit).
    ///
    /// Default: these rows alone, with the default policy.
    pub fn sessions(mut self, sessions: Sessions) -> Self {
        self.sessions = Some(sessions);
        self
    }

    /// Sets who takes mails, in the transaction that they belong to. This, or a
    /// [mailer](Self::mailer), is needed.
    pub fn outbox(mut self, outbox: impl Outbox) -> Self {
        self.outbox = Some(Box::new(outbox));
        self
    }

    /// Sets who sends mails, [after the commit](AfterCommit) that they belong to.
    pub fn mailer(self, mailer: impl Mailer) -> Self {
        self.outbox(AfterCommit::new(mailer))
    }

    /// Sets what links in mails begin with, e.g. `https://app.example`. It is needed,
    /// and never taken from a request.
    pub fn base_url(mut self, base_url: &str) -> Self {
        self.base_url = Some(base_url.to_owned());
        self
    }

    /// Sets where below the base URL the pages are. Default: [`LinkPaths::default`].
    pub fn link_paths(mut self, paths: LinkPaths) -> Self {
        self.paths = paths;
        self
    }

    /// Sets whether the base URL must be https. Default: it must.
    pub const fn secure(mut self, secure: bool) -> Self {
        self.secure = secure;
        self
    }

    /// Sets what a sign-up tells. Default: [`SignUps::Quiet`].
    pub const fn sign_ups(mut self, sign_ups: SignUps) -> Self {
        self.sign_ups = sign_ups;
        self
    }

    /// Sets for how long links are good. Default: [`Lifetimes::default`].
    pub const fn lifetimes(mut self, lifetimes: Lifetimes) -> Self {
        self.lifetimes = lifetimes;
        self
    }

    /// Sets for how long an account is kept at least whose quiet sign-up nobody confirms,
    /// from its first sign-up on; [`Accounts::sweep`] deletes it then, once none of its
    /// links is good any more. Default: [`UNVERIFIED_FOR`](Self::UNVERIFIED_FOR).
    pub const fn unverified_for(mut self, time: Duration) -> Self {
        self.unverified_for = time;
        self
    }

    /// Sets how attempts at passwords and at tokens of mails are limited.
    ///
    /// Default: [`Attempts`] with its defaults, counted by this process alone.
    pub fn attempts(mut self, attempts: Attempts) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// Sets how often mails to one address may be asked for. Each that is asked for
    /// counts as an attempt that failed.
    ///
    /// Default: [`Attempts`] with its defaults, counted by this process alone.
    pub fn mails(mut self, mails: Attempts) -> Self {
        self.mails = Some(mails);
        self
    }

    /// Finishes the handle.
    ///
    /// # Errors
    ///
    /// Returns [`AccountsError`] for what would not be safe.
    pub fn build(self) -> Result<Accounts, AccountsError> {
        let base_url = self.base_url.ok_or(AccountsError::NoBaseUrl)?;
        let links = Links::new(&base_url, self.paths, self.secure)?;
        let outbox = self.outbox.ok_or(AccountsError::NoOutbox)?;
        let own = Limits::local(LocalLimits::new(self.clock.clone()));
        let or_own = |given: Option<Attempts>, name| {
            given.map_or_else(|| Attempts::builder(name, &own).build(), Ok)
        };
        let attempts = or_own(self.attempts, "passwords")?;
        let mails = or_own(self.mails, "mails")?;
        let records = SqlSessions::new(self.router.clone(), self.clock.clone());
        let sessions = self.sessions.unwrap_or_else(|| {
            Sessions::builder(records.clone(), self.keys.clone(), self.ids.clone())
                .realm(self.realm)
                .clock(self.clock.clone())
                .build()
        });
        if sessions.realm() != self.realm {
            return Err(AccountsError::Realm {
                sessions: sessions.realm(),
                accounts: self.realm,
            });
        }
        let floors = Floors::new(self.passwords.slowest());
        Ok(Accounts(Arc::new(Inner {
            emails: Claims::new(self.router.clone(), self.keys.clone(), "email"),
            rows: Rows {
                router: self.router,
                realm: self.realm,
            },
            ids: self.ids,
            keys: self.keys,
            passwords: self.passwords,
            clock: self.clock,
            records,
            sessions,
            outbox,
            links,
            sign_ups: self.sign_ups,
            lifetimes: self.lifetimes,
            unverified_for: self.unverified_for,
            attempts,
            mails,
            background: Background::default(),
            floors,
        })))
    }
}
