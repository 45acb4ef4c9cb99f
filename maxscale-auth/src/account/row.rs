//! Accounts as rows of `ms_user` in their shard.

use maxscale_core::clock::Timestamp;
use maxscale_core::id::Id;
use maxscale_shard::{Router, Row, Shard, ShardError, Sql, Statement, Tx};

use super::User;
use super::told::Told;
use crate::error::AuthError;
use crate::realm::Realm;

/// An account with what only this crate may know.
#[derive(Clone)]
pub(super) struct Account {
    pub(super) user: User,
    /// The hash of its password, if it has one.
    pub(super) password: Option<String>,
    pub(super) locked: bool,
    /// Counts what sessions and tokens from before are no longer good for.
    pub(super) version: i64,
}

/// An account in a transaction that holds its row: what others do with the same
/// account comes before it or after it.
pub(crate) struct Opened {
    pub(super) tx: Tx,
    pub(super) shard: Shard,
    pub(super) account: Account,
    /// What is told once it is committed.
    pub(super) told: Told,
}

/// The accounts of one realm.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    pub(super) router: Router,
    pub(super) realm: Realm,
}

const INSERT: Sql = Sql::both(
    "INSERT INTO ms_user (shard_id, user_id, realm, email, name, password_hash, created_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7)",
);

macro_rules! load {
    ($lock:expr) => {
        concat!(
            "SELECT email, name, password_hash, status, email_verified_at, version
             FROM ms_user WHERE shard_id = $1 AND user_id = $2 AND realm = $3",
            $lock
        )
    };
}

const LOAD: Sql = Sql::both(load!(""));

/// SQLite has one writer, who holds everything.
const HOLD: Sql = Sql::each(load!(" FOR UPDATE"), load!(""));

const SAVE: Sql = Sql::both(
    "UPDATE ms_user
     SET email = $4, name = $5, password_hash = $6, status = $7, email_verified_at = $8, version = $9
     WHERE shard_id = $1 AND user_id = $2 AND realm = $3",
);

const EXCHANGE_HASH: Sql = Sql::both(
    "UPDATE ms_user SET password_hash = $5
     WHERE shard_id = $1 AND user_id = $2 AND realm = $3 AND password_hash = $4",
);

const DELETE: Sql =
    Sql::both("DELETE FROM ms_user WHERE shard_id = $1 AND user_id = $2 AND realm = $3");

const RENAME: Sql =
    Sql::both("UPDATE ms_user SET name = $4 WHERE shard_id = $1 AND user_id = $2 AND realm = $3");

/// What `status` says. The numbers are stored.
const ACTIVE: i64 = 0;
const LOCKED: i64 = 1;

/// How an account without a password is stored: no hash is equal to it.
const NO_PASSWORD: &str = "";

// === impl Account ===

impl Account {
    /// A new account, with an address that nobody has verified.
    pub(super) const fn new(user: User, password: Option<String>) -> Self {
        Self {
            user,
            password,
            locked: false,
            version: 1,
        }
    }

    pub(super) const fn is_verified(&self) -> bool {
        self.user.verified_at.is_some()
    }
}

// === impl Rows ===

impl Rows {
    pub(super) async fn load(&self, id: Id) -> Result<Option<Account>, AuthError> {
        let shard = self.router.shard(id)?;
        let row = shard.fetch_optional(self.keyed(LOAD, &shard, id)).await?;
        Ok(row.map(|row| account(id, &row)).transpose()?)
    }

    /// Begins a transaction that holds the account's row.
    pub(super) async fn open(&self, id: Id) -> Result<Option<Opened>, AuthError> {
        let shard = self.router.shard(id)?;
        let mut tx = shard.begin().await?;
        let row = tx.fetch_optional(self.keyed(HOLD, &shard, id)).await?;
        let Some(row) = row else {
            tx.rollback().await?;
            return Ok(None);
        };
        let account = account(id, &row)?;
        Ok(Some(Opened {
            tx,
            shard,
            account,
            told: Told::default(),
        }))
    }

    /// Stores a new account.
    pub(super) async fn insert(
        &self,
        opened: &mut Opened,
        now: Timestamp,
    ) -> Result<(), ShardError> {
        let user = &opened.account.user;
        let password = opened.account.password.as_deref();
        let row = self
            .keyed(INSERT, &opened.shard, user.id)
            .bind(user.email.as_str())
            .bind(user.name.as_str())
            .bind(password.unwrap_or(NO_PASSWORD))
            .bind(now);
        opened.tx.execute(row).await.map(drop)
    }

    /// Stores the account as it is now. The row is held, so nothing is lost by it.
    pub(super) async fn save(&self, opened: &mut Opened) -> Result<(), ShardError> {
        let account = &opened.account;
        let user = &account.user;
        let save = self
            .keyed(SAVE, &opened.shard, user.id)
            .bind(user.email.as_str())
            .bind(user.name.as_str())
            .bind(account.password.as_deref().unwrap_or(NO_PASSWORD))
            .bind(if account.locked { LOCKED } else { ACTIVE })
            .bind(user.verified_at.map(Timestamp::as_micros))
            .bind(account.version);
        opened.tx.execute(save).await.map(drop)
    }

    /// Deletes the account's row, which is held.
    pub(super) async fn delete(&self, opened: &mut Opened) -> Result<(), ShardError> {
        let delete = self.keyed(DELETE, &opened.shard, opened.account.user.id);
        opened.tx.execute(delete).await.map(drop)
    }

    /// Stores another hash of the same password, if `old` is still the account's: a
    /// password that was changed meanwhile stays.
    pub(super) async fn exchange_hash(
        &self,
        id: Id,
        (old, new): (&str, &str),
    ) -> Result<bool, ShardError> {
        let shard = self.router.shard(id)?;
        let exchange = self.keyed(EXCHANGE_HASH, &shard, id).bind(old).bind(new);
        Ok(shard.execute(exchange).await? == 1)
    }

    /// What gives the account another name.
    pub(super) fn renaming(&self, shard: &Shard, id: Id, name: &str) -> Statement {
        self.keyed(RENAME, shard, id).bind(name)
    }

    fn keyed(&self, text: Sql, shard: &Shard, id: Id) -> Statement {
        let realm = u32::from(self.realm.get());
        text.statement().bind(shard.id()).bind(id).bind(realm)
    }
}

fn account(id: Id, row: &Row) -> Result<Account, ShardError> {
    let verified_at: Option<i64> = row.get("email_verified_at")?;
    let password: String = row.get("password_hash")?;
    Ok(Account {
        user: User {
            id,
            email: row.get("email")?,
            name: row.get("name")?,
            verified_at: verified_at.map(Timestamp::from_micros),
        },
        password: Some(password).filter(|it| it != NO_PASSWORD),
        // An unknown status opens nothing.
        locked: row.get::<i64>("status")? != ACTIVE,
        version: row.get("version")?,
    })
}
