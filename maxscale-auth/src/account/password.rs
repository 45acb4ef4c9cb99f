//! The one place that hands passwords to the pool that hashes them.

use maxscale_core::Chain;
use maxscale_core::id::Id;

use super::Accounts;
use super::quiet::Way;
use crate::audit::{Audited, Unproved};
use crate::error::AuthError;
use crate::password::{Context, Factors, NewPassword, Upgrade};

/// What became of checking a password.
pub(super) struct Proved {
    /// Why it is not right, if it is not.
    pub(super) unproved: Option<Unproved>,
    /// What it was checked against, which the time of the answer must not tell.
    pub(super) way: Way,
    /// There if the hash should be made anew.
    pub(super) upgrade: Option<Upgrade>,
}

// === impl Proved ===

impl Proved {
    pub(super) const fn is_right(&self) -> bool {
        self.unproved.is_none()
    }
}

impl Accounts {
    /// A new password, if the policy takes it from somebody with this address and name.
    pub(super) fn taken(
        &self,
        password: &str,
        email: &str,
        name: &str,
    ) -> Result<NewPassword, AuthError> {
        let (policy, context) = (self.0.passwords.policy(), Context::of(email, name));
        Ok(policy.check(password, &context, Factors::PasswordAlone)?)
    }

    pub(super) async fn hash(&self, password: NewPassword) -> Result<String, AuthError> {
        self.0.passwords.hash(password).await
    }

    /// Whether it is the password; where there is none, after the same work. A stored
    /// hash that cannot be read is of no password, and said in the log: the answer
    /// would tell that there is an account.
    pub(super) async fn prove_by(
        &self,
        password: &str,
        stored: Option<&str>,
    ) -> Result<Proved, AuthError> {
        match self.0.passwords.verify(password, stored).await {
            Ok(verified) => Ok(Proved {
                unproved: (!verified.right).then_some(match stored {
                    Some(_) => Unproved::WrongPassword,
                    None => Unproved::NoPassword,
                }),
                way: Way::Hash(verified.scheme),
                upgrade: verified.upgrade,
            }),
            Err(error @ AuthError::StoredHash) => {
                tracing::error!(error = %Chain(&error), "an account cannot be logged in to");
                Ok(Proved {
                    unproved: Some(Unproved::UnreadableHash),
                    way: Way::Unreadable,
                    upgrade: None,
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Hashes a password that was right anew if its hash is of an older kind. No answer
    /// waits for it, and a password that is changed meanwhile stays.
    pub(super) fn renew_hash(&self, user: Id, upgrade: Option<Upgrade>) {
        let Some(upgrade) = upgrade else {
            return;
        };
        let (rows, passwords) = (self.0.rows.clone(), self.0.passwords.clone());
        let sessions = self.0.sessions.clone();
        self.0.background.spawn(async move {
            let renewed = async {
                let better = passwords.upgrade(upgrade).await?;
                let exchange = (better.from.as_str(), better.to.as_str());
                if rows.exchange_hash(user, exchange).await? {
                    sessions.tell_of(user, Audited::HashRenewed);
                }
                Ok::<_, AuthError>(())
            };
            if let Err(error) = renewed.await {
                tracing::debug!(%user, error = %Chain(&error), "an old hash stays for now");
            }
        });
    }
}
