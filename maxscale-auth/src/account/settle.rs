//! A new account: its address reserved, its rows stored, its address confirmed.

use maxscale_core::Chain;
use maxscale_core::id::Id;
use maxscale_shard::{Claim, NodeId, ShardError};

use super::row::{Account, Opened};
use super::session::BY_PASSWORD;
use super::sign_up::Applicant;
use super::told::Told;
use super::{Accounts, SignUps, User};
use crate::audit::Audited;
use crate::error::AuthError;
use crate::mail::Purpose;
use crate::session::Drawn;

/// An account that was stored, whose address is still to be confirmed.
pub(super) struct Settled {
    pub(super) claim: Claim,
    pub(super) user: User,
    /// Its first session, where it is open at once.
    pub(super) drawn: Option<Drawn>,
}

/// With half of the nodes down, one sign-up in four thousand million finds none.
const MAX_DRAWS: usize = 32;

/// How many nodes that cannot be reached a sign-up passes by. Each costs the
/// time for a connection.
const MAX_AWAY: usize = 2;

impl Accounts {
    /// Reserves the email and stores the account, on another node if the first
    /// ones cannot be reached.
    pub(super) async fn settle(&self, new: &Applicant<'_>) -> Result<Settled, AuthError> {
        let value = self.claimed(new.email.as_str());
        let mut away = Vec::new();
        loop {
            let id = self.draw(&away)?;
            let claim = self.0.emails.reserve(&value, id).await?;
            let error = match self.store(id, new, &claim).await {
                Ok((user, drawn)) => return Ok(Settled { claim, user, drawn }),
                Err(error) => error,
            };
            if !self.let_go(&claim, &error).await {
                return Err(error);
            }
            match error {
                AuthError::Shard(cause) if cause.is_unreachable() && away.len() < MAX_AWAY => {
                    let node = self.0.rows.router.shard(id)?.node().id().clone();
                    tracing::warn!(%node, error = %Chain(&cause), "a new account goes to another node");
                    away.push(node);
                }
                error => return Err(error),
            }
        }
    }

    /// Frees a reservation after `error`, so that whoever tries again does not meet his
    /// own; false if it is not free. Only where nobody knows whether what it is for was
    /// written, its shard has to say so.
    pub(super) async fn let_go(&self, claim: &Claim, error: &AuthError) -> bool {
        let unknown = matches!(error, AuthError::Shard(ShardError::OutcomeUnknown { .. }));
        let written = match unknown {
            true => self.0.emails.resolve(claim).await,
            false => self.0.emails.release(claim).await.map(|()| false),
        };
        written.map_or_else(
            |kept| {
                tracing::debug!(error = %Chain(&kept), "an email stays reserved until its lease runs out");
                false
            },
            // Written after all: by the time that it is asked for, it is there.
            |written| !written,
        )
    }

    async fn store(
        &self,
        id: Id,
        new: &Applicant<'_>,
        claim: &Claim,
    ) -> Result<(User, Option<Drawn>), AuthError> {
        let open = self.0.sign_ups == SignUps::Open;
        let user = User {
            id,
            email: new.email.as_str().to_owned(),
            name: new.name.clone(),
            verified_at: None,
        };
        // Whoever signs up quietly has shown nothing yet: no password opens the account.
        let password = open.then(|| new.hash.clone());
        let shard = self.0.rows.router.shard(id)?;
        let mut opened = Opened {
            tx: shard.begin().await?,
            account: Account::new(user.clone(), password),
            shard,
            told: Told::default(),
        };
        let stored = async {
            self.0.rows.insert(&mut opened, self.0.clock.now()).await?;
            opened.told.push(Audited::SignedUp);
            let drawn = match open {
                true => Some(self.begin_in(&mut opened, BY_PASSWORD, new.client).await?),
                false => None,
            };
            self.issue_own(&mut opened, Purpose::SignUp, &new.payload())
                .await?;
            self.0.emails.write_in(&mut opened.tx, claim).await?;
            Ok(drawn)
        };
        let stored = stored.await;
        Ok((user, self.finish(opened, stored).await?))
    }

    /// An id on a node that is ready, if possible none of `away`: a node that is
    /// down refuses no new user.
    fn draw(&self, away: &[NodeId]) -> Result<Id, ShardError> {
        let router = &self.0.rows.router;
        let draw = || self.0.ids.draw_anywhere(router.shards());
        let mut id = draw();
        for _ in 0..MAX_DRAWS {
            match router.shard(id) {
                Ok(shard) if !away.contains(shard.node().id()) => return Ok(id),
                _ => id = draw(),
            }
        }
        router.shard(id).map(|_| id)
    }
}
