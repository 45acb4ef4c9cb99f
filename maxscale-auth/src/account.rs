//! Accounts by email and password, and all that may happen to one.
//!
//! Each flow that changes an account is one transaction on its shard, which holds the
//! account's row from its first statement on ([`row::Opened`]): so what races with it
//! comes before it or after it, and a token is taken together with what it allows.

mod attempt;
mod builder;
mod client;
mod email;
mod former;
mod issue;
mod log_in;
mod magic;
mod own;
mod password;
mod quiet;
mod reauth;
mod reset;
mod row;
mod session;
mod settle;
mod sign_up;
mod sweep;
mod told;
mod unverified;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use maxscale_core::clock::{Clock, Timestamp};
use maxscale_core::id::{Id, IdGenerator};
use maxscale_core::keys::KeyRing;
use maxscale_core::limit::Attempts;
use maxscale_shard::{Claims, Router, Tx};

pub use builder::{AccountsBuilder, AccountsError, SignUps};
pub use client::Client;
pub(crate) use row::Opened;
pub use sweep::Swept;

use crate::audit::Audited;
use crate::background::Background;
use crate::error::AuthError;
use crate::mail::{DynOutbox, Lifetimes, Links, MailToken, Purpose};
use crate::password::PasswordPool;
use crate::principal::Principal;
use crate::session::{Sessions, SqlSessions, Which, Why};
use quiet::Floors;
use row::Rows;

/// Accounts by email and password. Cheap to clone.
///
/// An account lies where the router says that its id does; its email is a claim,
/// so that one email never has two accounts, whatever crashes when.
///
/// # Cancellation
///
/// Each flow may be dropped at any await. What was not committed then has not
/// happened; what a client was not told may have.
#[derive(Clone, Debug)]
pub struct Accounts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rows: Rows,
    emails: Claims,
    ids: Arc<IdGenerator>,
    keys: Arc<KeyRing>,
    passwords: PasswordPool,
    clock: Clock,
    /// The rows that keep sessions for good, for what is in one transaction with them.
    records: SqlSessions,
    sessions: Sessions,
    outbox: Box<dyn DynOutbox>,
    links: Links,
    sign_ups: SignUps,
    lifetimes: Lifetimes,
    unverified_for: Duration,
    attempts: Attempts,
    mails: Attempts,
    background: Background,
    floors: Floors,
}

/// An account, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct User {
    /// Its id, by which the router finds its shard.
    pub id: Id,
    /// The normalised email address.
    pub email: String,
    /// The name that the user chose.
    pub name: String,
    /// When it was last shown that the address is the user's; `None` if never.
    pub verified_at: Option<Timestamp>,
}

/// A session that just began.
#[derive(Clone)]
#[non_exhaustive]
pub struct LoggedIn {
    /// Whose it is.
    pub user: User,
    /// The text that the client must keep.
    pub token: String,
    /// The text of the device cookie, which the client should keep for
    /// [`Attempts::DEFAULT_KNOWN_FOR`], to bring it with the next login.
    pub device: String,
}

/// What came of a sign-up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SignedUp {
    /// A mail is on its way, whether there is an account or not ([`SignUps::Quiet`]).
    Mailed,
    /// There is an account now, and its first session ([`SignUps::Open`]).
    LoggedIn(Box<LoggedIn>),
}

impl fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("LoggedIn");
        shown.field("user", &self.user).finish_non_exhaustive()
    }
}

const MAX_NAME: usize = 100;

// === impl Accounts ===

impl Accounts {
    /// Starts a handle to the accounts on `router`'s nodes.
    pub fn builder(
        router: Router,
        ids: Arc<IdGenerator>,
        keys: Arc<KeyRing>,
        passwords: PasswordPool,
    ) -> AccountsBuilder {
        AccountsBuilder::new(router, ids, keys, passwords)
    }

    /// Ends the session that the principal came with.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Session`] when the store did not confirm. It may be repeated.
    pub async fn log_out(&self, principal: &Principal) -> Result<(), AuthError> {
        let (user, session) = (principal.user(), principal.session());
        let revoked = self
            .0
            .sessions
            .revoke(user, Which::One(session), Why::LoggedOut);
        revoked.await.map(drop)
    }

    /// The account, if it exists.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Shard`] when its shard could not be asked.
    pub async fn user(&self, id: Id) -> Result<Option<User>, AuthError> {
        Ok(self.0.rows.load(id).await?.map(|account| account.user))
    }

    /// Gives the account another name; false if there is no such account.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Name`], or [`AuthError::Shard`] when its shard could not be asked.
    pub async fn rename(&self, id: Id, name: &str) -> Result<bool, AuthError> {
        let name = checked_name(name)?;
        let shard = self.0.rows.router.shard(id)?;
        let renaming = self.0.rows.renaming(&shard, id, &name);
        Ok(shard.execute(renaming).await? == 1)
    }

    /// As [`rename`](Self::rename), in `tx`, which was begun on the account's shard:
    /// for what has to be there with the new name, or not at all.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Name`], or [`AuthError::Shard`] when the database refuses.
    pub async fn rename_in(&self, tx: &mut Tx, id: Id, name: &str) -> Result<bool, AuthError> {
        let name = checked_name(name)?;
        let shard = self.0.rows.router.shard(id)?;
        Ok(tx.execute(self.0.rows.renaming(&shard, id, &name)).await? == 1)
    }

    /// Locks the account by order: its sessions end, and nothing opens it until it is
    /// [unlocked](Self::unlock). False if there is no such account.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Shard`] when its shard could not be asked.
    pub async fn lock(&self, id: Id) -> Result<bool, AuthError> {
        self.set_locked(id, true).await
    }

    /// Takes a lock away. False if there is no such account.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Shard`] when its shard could not be asked.
    pub async fn unlock(&self, id: Id) -> Result<bool, AuthError> {
        self.set_locked(id, false).await
    }

    async fn set_locked(&self, id: Id, locked: bool) -> Result<bool, AuthError> {
        let Some(mut opened) = self.0.rows.open(id).await? else {
            return Ok(false);
        };
        opened.account.locked = locked;
        opened.account.version += 1;
        opened.told.push(match locked {
            true => Audited::Locked,
            false => Audited::Unlocked,
        });
        let done = async {
            self.0.rows.save(&mut opened).await?;
            self.end_in(&mut opened, Which::All, Why::Ordered).await
        };
        let done = done.await;
        self.finish(opened, done).await?;
        Ok(true)
    }

    /// What the token of a mail is for, for the page that its link leads to. It asks
    /// nobody and takes nothing; `None` for what was not issued here. Whether it is
    /// still good shows when it is redeemed.
    pub fn purpose(&self, token: &str) -> Option<Purpose> {
        self.parse(token).map(|token| token.purpose)
    }

    fn parse(&self, token: &str) -> Option<MailToken> {
        let token = MailToken::parse(token, &self.0.keys)?;
        (token.realm == self.0.rows.realm).then_some(token)
    }

    /// Whose email is whose. What a crash left half-way there is ended by
    /// [`Recovery`](maxscale_shard::Recovery), which a service runs in the background.
    pub fn emails(&self) -> &Claims {
        &self.0.emails
    }

    /// The sessions, for [`SessionLayer`](crate::SessionLayer).
    pub fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }
}

pub(crate) fn checked_name(name: &str) -> Result<String, AuthError> {
    let name = name.trim();
    let fits = (1..=MAX_NAME).contains(&name.chars().count()) && !name.contains(char::is_control);
    fits.then(|| name.to_owned())
        .ok_or(AuthError::Name { max: MAX_NAME })
}
