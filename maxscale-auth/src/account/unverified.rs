//! Accounts of quiet sign-ups that nobody confirmed: they open to nobody, and hold an
//! address that somebody else may want.
//!
//! One is deleted with all that it has in the transaction that marks its address as
//! given up. Whoever signs up with the address at this moment either comes first, and
//! the account stays for his link, or finds that it is gone, and begins another one.

use maxscale_core::clock::Timestamp;
use maxscale_core::id::Id;
use maxscale_shard::{Claim, ShardError, Sql, Statement};

use super::Accounts;
use super::row::Opened;
use crate::audit::Audited;
use crate::error::AuthError;
use crate::mail::rows;

/// Node-wide, by `ms_user_unverified`: the oldest first, but those that have a link
/// which is still good.
const DUE: Sql = Sql::both(
    "SELECT u.user_id, u.email FROM ms_user u
     WHERE u.realm = $1 AND u.created_at < $2
       AND u.email_verified_at IS NULL AND u.password_hash = '' AND u.status = 0
       AND NOT EXISTS (
           SELECT 1 FROM ms_mail_token t
           WHERE t.shard_id = u.shard_id AND t.user_id = u.user_id AND t.expires_at > $3)
     ORDER BY u.created_at LIMIT $4",
);

const LINK: Sql = Sql::both(
    "SELECT purpose FROM ms_mail_token
     WHERE shard_id = $1 AND user_id = $2 AND expires_at > $3 LIMIT 1",
);

impl Accounts {
    /// Reads which accounts of a node are due, at most so many.
    pub(super) fn never_verified(&self, now: Timestamp, most: u32) -> Statement {
        DUE.statement()
            .bind(u32::from(self.0.rows.realm.get()))
            .bind(now.before(self.0.unverified_for))
            .bind(now)
            .bind(most)
    }

    /// Deletes an account, if it is still due, and frees its address.
    pub(super) async fn forget(
        &self,
        user: Id,
        email: String,
        now: Timestamp,
    ) -> Result<bool, AuthError> {
        let claim = self.0.emails.held(&self.claimed(&email), user).await?;
        // A crash may have left it reserved only: it is given up once it is confirmed,
        // or the account would be gone and the address be confirmed for it.
        let Some(claim) = claim else {
            return Ok(false);
        };
        let Some(mut opened) = self.0.rows.open(user).await? else {
            return Ok(false);
        };
        let forgotten = self.forget_in(&mut opened, &claim, now).await;
        let forgotten = self.finish(opened, forgotten).await?;
        if forgotten {
            self.give_up(&claim).await;
        }
        Ok(forgotten)
    }

    async fn forget_in(
        &self,
        opened: &mut Opened,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<bool, AuthError> {
        let account = &opened.account;
        let kept = account.is_verified() || account.password.is_some() || account.locked;
        if kept || has_link(opened, now).await? {
            return Ok(false);
        }
        let user = opened.account.user.id;
        rows::end(&mut opened.tx, &opened.shard, user, None).await?;
        self.0.rows.delete(opened).await?;
        self.0.emails.release_in(&mut opened.tx, claim).await?;
        opened.told.push(Audited::NeverVerified);
        Ok(true)
    }
}

async fn has_link(opened: &mut Opened, now: Timestamp) -> Result<bool, ShardError> {
    let link = LINK.statement().bind(opened.shard.id());
    let link = link.bind(opened.account.user.id).bind(now);
    Ok(opened.tx.fetch_optional(link).await?.is_some())
}
