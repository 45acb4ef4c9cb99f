//! Mail tokens as rows of `ms_mail_token` in their user's shard.
//!
//! What is done with a token and what it allows are one transaction, which holds the
//! user's row: see `account::Opened`.

use maxscale_core::clock::Timestamp;
use maxscale_core::id::Id;
use maxscale_shard::{Row, Shard, ShardError, Sql, Statement, Tx};

use super::token::{MailToken, Purpose};

/// What a token was issued with.
pub(crate) struct Issued {
    /// The account's address then.
    pub(crate) email: String,
    /// What the purpose needs.
    pub(crate) payload: String,
}

/// All of a purpose but the newest so many.
const KEEP_NEWEST: Sql = Sql::both(
    "DELETE FROM ms_mail_token
     WHERE shard_id = $1 AND user_id = $2 AND purpose = $3 AND token_hash NOT IN (
         SELECT token_hash FROM ms_mail_token
         WHERE shard_id = $1 AND user_id = $2 AND purpose = $3
         ORDER BY created_at DESC, token_hash LIMIT $4)",
);
const INSERT: Sql = Sql::both(
    "INSERT INTO ms_mail_token
         (shard_id, user_id, token_hash, purpose, email, payload, created_at, expires_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
);
const TAKE: Sql = Sql::both(
    "DELETE FROM ms_mail_token
     WHERE shard_id = $1 AND user_id = $2 AND token_hash = $3 AND purpose = $4 AND expires_at > $5
     RETURNING email, payload",
);
const PEEK: Sql = Sql::both(
    "SELECT email, payload FROM ms_mail_token
     WHERE shard_id = $1 AND user_id = $2 AND token_hash = $3 AND purpose = $4 AND expires_at > $5",
);
const NEWEST: Sql = Sql::both(
    "SELECT email, payload FROM ms_mail_token
     WHERE shard_id = $1 AND user_id = $2 AND purpose = $3 AND expires_at > $4
     ORDER BY created_at DESC, token_hash LIMIT 1",
);
const END: Sql =
    Sql::both("DELETE FROM ms_mail_token WHERE shard_id = $1 AND user_id = $2 AND purpose <> $3");

/// No purpose has this number.
const NONE: i64 = 0;

/// Stores a token, and ends the oldest of its purpose that are too many then.
pub(crate) async fn put(
    tx: &mut Tx,
    shard: &Shard,
    token: &MailToken,
    issued: &Issued,
    (now, expires_at): (Timestamp, Timestamp),
) -> Result<(), ShardError> {
    let purpose = i64::from(token.purpose.number());
    let room = keyed(KEEP_NEWEST, shard, token.user).bind(purpose);
    tx.execute(room.bind(token.purpose.most() - 1)).await?;
    let row = keyed(INSERT, shard, token.user)
        .bind(&token.hash()[..])
        .bind(purpose)
        .bind(issued.email.as_str())
        .bind(issued.payload.as_str())
        .bind(now)
        .bind(expires_at);
    tx.execute(row).await.map(drop)
}

/// Takes a token away, if it is there: of many who try, one gets it.
pub(crate) async fn take(
    tx: &mut Tx,
    shard: &Shard,
    token: &MailToken,
    now: Timestamp,
) -> Result<Option<Issued>, ShardError> {
    let rows = tx.fetch_all(exact(TAKE, shard, token, now)).await?;
    rows.first().map(issued).transpose()
}

/// What a token was issued with, if it is there. It stays.
pub(crate) async fn peek(
    shard: &Shard,
    token: &MailToken,
    now: Timestamp,
) -> Result<Option<Issued>, ShardError> {
    let row = shard.fetch_optional(exact(PEEK, shard, token, now)).await?;
    row.as_ref().map(issued).transpose()
}

/// What the newest token of a purpose was issued with.
pub(crate) async fn newest(
    tx: &mut Tx,
    shard: &Shard,
    (user, purpose): (Id, Purpose),
    now: Timestamp,
) -> Result<Option<Issued>, ShardError> {
    let newest = keyed(NEWEST, shard, user).bind(i64::from(purpose.number()));
    let row = tx.fetch_optional(newest.bind(now)).await?;
    row.as_ref().map(issued).transpose()
}

/// Ends all tokens of the user, but those of one purpose.
pub(crate) async fn end(
    tx: &mut Tx,
    shard: &Shard,
    user: Id,
    but: Option<Purpose>,
) -> Result<(), ShardError> {
    let but = but.map_or(NONE, |it| i64::from(it.number()));
    tx.execute(keyed(END, shard, user).bind(but))
        .await
        .map(drop)
}

fn exact(text: Sql, shard: &Shard, token: &MailToken, now: Timestamp) -> Statement {
    keyed(text, shard, token.user)
        .bind(&token.hash()[..])
        .bind(i64::from(token.purpose.number()))
        .bind(now)
}

fn keyed(text: Sql, shard: &Shard, user: Id) -> Statement {
    text.statement().bind(shard.id()).bind(user)
}

fn issued(row: &Row) -> Result<Issued, ShardError> {
    Ok(Issued {
        email: row.get("email")?,
        payload: row.get("payload")?,
    })
}
