//! API keys: what programs of a user bring instead of a session, for the scopes that he
//! chose, until he ends them.
//!
//! ```text
//!  text ─ its start, its checksum (no I/O) ─ near, a second at most ─ limit of wrong keys ─ row ─ quota ─ Principal
//! ```
//!
//! A key is a row of its owner's shard, which its text names. Nothing but the SHA-256 of
//! its secret is kept, and a key's secret is never another one: what replaces a key is
//! another key. Guards that name no [scope](crate::Guard::scope) let none through.

mod change;
mod check;
mod error;
mod form;
mod record;
mod rows;

use std::sync::Arc;
use std::time::Duration;

use maxscale_core::limit::{Limits, LocalLimits, Policy, Quota};

use crate::account::Accounts;
use crate::error::AuthError;
use crate::session::{Activity, Sessions};
pub(crate) use check::Asked;
pub use error::ApiKeyError;
pub use form::{ApiKeyForm, ApiKeyFormError};
pub(crate) use record::Held;
pub use record::{ApiKey, MadeApiKey, NewApiKey, Scopes};
use rows::Rows;
pub(crate) use rows::end_all;

/// The keys of accounts' users: makes, lists, exchanges and ends them, and says who brings
/// one. Cheap to clone.
///
/// What is known of a key is remembered where the accounts' sessions are
/// ([`SessionsBuilder::near`](crate::session::SessionsBuilder::near)), for a second at most,
/// and what ends it is heard by the same messages.
///
/// [`SessionLayer::keys`](crate::SessionLayer::keys) recognises them in requests.
#[derive(Clone, Debug)]
pub struct ApiKeys(Arc<Inner>);

/// What [`ApiKeys`] needs; see [`ApiKeys::builder`].
#[derive(Debug)]
#[must_use]
pub struct ApiKeysBuilder {
    accounts: Accounts,
    form: ApiKeyForm,
    scopes: Scopes,
    limits: Limits,
    wrong: Policy,
    again: Policy,
}

#[derive(Debug)]
struct Inner {
    accounts: Accounts,
    rows: Rows,
    form: ApiKeyForm,
    scopes: Scopes,
    limits: Limits,
    wrong: Policy,
    again: Policy,
    activity: Activity,
}

// === impl ApiKeys ===

impl ApiKeys {
    /// How long a key lives if nothing else is asked for.
    pub const DEFAULT_LIFE: Duration = Duration::from_secs(90 * 24 * 3_600);

    /// The longest that a key lives.
    pub const MAX_LIFE: Duration = Duration::from_secs(366 * 24 * 3_600);

    /// How long a key goes on beside the one that replaces it if nothing else is asked for.
    pub const DEFAULT_OVERLAP: Duration = Duration::from_secs(24 * 3_600);

    /// The longest that it does.
    pub const MAX_OVERLAP: Duration = Duration::from_secs(30 * 24 * 3_600);

    /// The keys that one user may have at a time.
    pub const MAX_PER_USER: u32 = 50;

    /// The longest name of a key, in characters.
    pub const MAX_NAME: usize = 100;

    /// How many wrong keys one client may bring in [`WRONG_WINDOW`](Self::WRONG_WINDOW)
    /// before none of it is looked for any more. One that it brings again and again counts
    /// once: who shares an address with a program that does not know that its key has ended
    /// goes on.
    pub const MAX_WRONG: u32 = 100;

    /// How often the same wrong key of one client is looked for in that time.
    pub const MAX_AGAIN: u32 = 10;

    /// In which time.
    pub const WRONG_WINDOW: Duration = Duration::from_secs(900);

    /// How old the stored time of a key's last request has to be before it is written again.
    pub const TOUCH_EVERY: Duration = Duration::from_secs(60);

    /// Starts with keys of the users of `accounts`, of this form, for some of these scopes
    /// each: all that the service has.
    pub fn builder(accounts: Accounts, form: ApiKeyForm, scopes: Scopes) -> ApiKeysBuilder {
        let local = LocalLimits::new(accounts.clock().clone());
        ApiKeysBuilder {
            accounts,
            form,
            scopes,
            limits: Limits::local(local),
            wrong: rarely("api-keys.wrong", Self::MAX_WRONG),
            again: rarely("api-keys.again", Self::MAX_AGAIN),
        }
    }

    /// All scopes that keys may have.
    pub fn scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    /// The scopes of these names.
    ///
    /// # Errors
    ///
    /// Returns [`ApiKeyError::Scope`] for none, and for one that the service has not.
    pub fn scopes_of<'n>(
        &self,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<Scopes, ApiKeyError> {
        let names: Vec<&str> = names.into_iter().collect();
        let unknown = names.iter().find(|name| !self.scopes().has(name));
        let known = match unknown {
            Some(unknown) => Err(*unknown),
            None => Scopes::new(names).ok_or(""),
        };
        known.map_err(|scope| ApiKeyError::Scope {
            scope: scope.into(),
        })
    }

    /// Writes what is noted of keys' last requests, as
    /// [`Sessions::shutdown`](crate::Sessions::shutdown) does of sessions'.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Session`] when the database did not take it. It may be repeated.
    pub async fn shutdown(&self) -> Result<(), AuthError> {
        Ok(self.0.activity.flush().await?)
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        self.0.accounts.sessions()
    }
}

/// So often in the time in which wrong keys are counted.
fn rarely(name: &str, most: u32) -> Policy {
    let quota = Quota::new(most, ApiKeys::WRONG_WINDOW).expect("some in a while is a quota");
    Policy::new(name, quota).expect("it is a policy's name")
}

// === impl ApiKeysBuilder ===

impl ApiKeysBuilder {
    /// Sets what counts the wrong keys that clients bring, and the quotas of keys.
    ///
    /// Default: this process alone.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Finishes the handle.
    pub fn build(self) -> ApiKeys {
        let rows = Rows::of(&self.accounts);
        ApiKeys(Arc::new(Inner {
            activity: Activity::new(Arc::new(rows.clone())),
            rows,
            accounts: self.accounts,
            form: self.form,
            scopes: self.scopes,
            limits: self.limits,
            wrong: self.wrong,
            again: self.again,
        }))
    }
}
