//! Addresses that accounts had, as rows of `ms_former_email`: for as long as the row is
//! there, the address is claimed by its account, and the change can be taken back.

use maxscale_core::clock::Timestamp;
use maxscale_shard::{ShardError, Sql, Statement};

use super::row::Opened;
use crate::realm::Realm;

const KEEP: Sql = Sql::both(
    "INSERT INTO ms_former_email (shard_id, user_id, email, realm, kept_until)
     VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (shard_id, user_id, email) DO UPDATE SET kept_until = excluded.kept_until",
);
const TAKE: Sql =
    Sql::both("DELETE FROM ms_former_email WHERE shard_id = $1 AND user_id = $2 AND email = $3");
const TAKE_DUE: Sql = Sql::both(
    "DELETE FROM ms_former_email
     WHERE shard_id = $1 AND user_id = $2 AND email = $3 AND kept_until < $4",
);

/// Keeps an address for the account until then.
pub(super) async fn keep(
    opened: &mut Opened,
    realm: Realm,
    email: &str,
    until: Timestamp,
) -> Result<(), ShardError> {
    let keep = of(KEEP, opened, email).bind(u32::from(realm.get()));
    opened.tx.execute(keep.bind(until)).await.map(drop)
}

/// Takes an address back for the account; false if it is no longer kept.
pub(super) async fn take(opened: &mut Opened, email: &str) -> Result<bool, ShardError> {
    let take = of(TAKE, opened, email);
    Ok(opened.tx.execute(take).await? == 1)
}

/// The same, to give it up, if its time is over.
pub(super) async fn take_due(
    opened: &mut Opened,
    email: &str,
    now: Timestamp,
) -> Result<bool, ShardError> {
    let take = of(TAKE_DUE, opened, email).bind(now);
    Ok(opened.tx.execute(take).await? == 1)
}

fn of(text: Sql, opened: &Opened, email: &str) -> Statement {
    text.statement()
        .bind(opened.shard.id())
        .bind(opened.account.user.id)
        .bind(email)
}
