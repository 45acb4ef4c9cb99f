use maxscale_core::Chain;
use maxscale_core::clock::Timestamp;
use maxscale_core::id::Id;
use maxscale_shard::{Claim, Node, Row, Sql};

use super::row::Opened;
use super::{Accounts, former};
use crate::audit::Audited;
use crate::error::AuthError;
use crate::mail::Purpose;

/// What one pass of [`Accounts::sweep`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// Tokens of mails that were too old.
    pub tokens: u64,
    /// Addresses that nobody may take back any more, and others may have.
    pub freed: u64,
    /// Accounts that nobody ever confirmed, whose addresses others may have.
    pub unverified: u64,
}

/// Node-wide, by `ms_mail_token_expired`: tokens that nothing takes any more.
const EXPIRED: Sql = Sql::both("DELETE FROM ms_mail_token WHERE purpose = $1 AND expires_at < $2");

/// Node-wide, by `ms_former_email_due`: the oldest first.
const DUE: Sql = Sql::both(
    "SELECT user_id, email FROM ms_former_email WHERE realm = $1 AND kept_until < $2
     ORDER BY kept_until LIMIT $3",
);

/// Looked at in one pass on one node.
const BATCH: u32 = 500;

impl Accounts {
    /// Forgets on `node` what is too old: tokens of mails, addresses that accounts had
    /// before, and accounts whose quiet sign-up nobody confirmed
    /// ([`AccountsBuilder::unverified_for`](super::AccountsBuilder::unverified_for)); of
    /// the latter two 500 each at most. To be called now and then for each node, by any
    /// number of processes; what is too old counts for nothing before.
    ///
    /// # Cancellation
    ///
    /// Dropped half-way, or killed, it has done some of it; an address that it gave up
    /// is freed by who wants it next, or by [`Recovery`](maxscale_shard::Recovery).
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Shard`] when `node` cannot be asked.
    pub async fn sweep(&self, node: &Node) -> Result<Swept, AuthError> {
        let (background, now) = (node.background(), self.0.clock.now());
        let mut swept = Swept::default();
        for purpose in Purpose::ALL {
            let expired = EXPIRED.statement().bind(i64::from(purpose.number()));
            swept.tokens += background.execute(expired.bind(now)).await?;
        }
        let realm = u32::from(self.0.rows.realm.get());
        let due = DUE.statement().bind(realm).bind(now).bind(BATCH);
        let due = background.fetch_all(due).await?;
        swept.freed = each(&due, |user, email| self.free(user, email, now)).await?;
        let due = background
            .fetch_all(self.never_verified(now, BATCH))
            .await?;
        swept.unverified = each(&due, |user, email| self.forget(user, email, now)).await?;
        Ok(swept)
    }

    async fn free(&self, user: Id, email: String, now: Timestamp) -> Result<bool, AuthError> {
        let claim = self.0.emails.held(&self.claimed(&email), user).await?;
        let Some(mut opened) = self.0.rows.open(user).await? else {
            return Ok(false);
        };
        let freed = self.free_in(&mut opened, &email, claim.as_ref(), now).await;
        let freed = self.finish(opened, freed).await?;
        if let Some(claim) = claim.filter(|_| freed) {
            self.give_up(&claim).await;
        }
        Ok(freed)
    }

    async fn free_in(
        &self,
        opened: &mut Opened,
        email: &str,
        claim: Option<&Claim>,
        now: Timestamp,
    ) -> Result<bool, AuthError> {
        let freed = former::take_due(opened, email, now).await?;
        if freed {
            opened.told.push(Audited::FormerEmailFreed);
        }
        if let Some(claim) = claim.filter(|_| freed) {
            self.0.emails.release_in(&mut opened.tx, claim).await?;
        }
        Ok(freed)
    }
}

/// Does `work` with each account and address, and counts where it did something. What
/// cannot be done now, because another node is away, is left for later.
async fn each<W>(due: &[Row], work: impl Fn(Id, String) -> W) -> Result<u64, AuthError>
where
    W: Future<Output = Result<bool, AuthError>>,
{
    let mut done = 0;
    for row in due {
        let user: Id = row.get("user_id")?;
        match work(user, row.get("email")?).await {
            Ok(did) => done += u64::from(did),
            Err(error) => {
                tracing::debug!(%user, error = %Chain(&error), "an address stays for now");
            }
        }
    }
    Ok(done)
}
