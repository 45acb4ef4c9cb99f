//! Uniqueness across shards: who owns a value, decided by one row.
//!
//! The row lies in a directory sharded by the value, under a keyed hash of it,
//! so no table holds the value itself.
//!
//! ```text
//!  reserve            directory: the value, the owner, a token, a lease
//!  write_in(tx)       owner's shard, in the transaction of the owner's row: a mark of the token
//!  confirm            directory: held
//! ```
//!
//! The owner is who the held row names, and nobody else. A reservation that ran
//! out is taken over only after its owner's shard was asked: a mark says that
//! the owner's row is there, and then the claim is confirmed for it; else a
//! *cancelled* mark of the same token is put in its place, so that a slow
//! writer's transaction fails on it, however late it comes. So a crash at any
//! step leaves either nothing or an owner, and no row of an owner without the
//! value. What was left half-way is found by whoever wants the value next, or by
//! [`reconcile`](Claims::reconcile).
//!
//! Giving a value up goes the other way: [`release_in`](Claims::release_in) marks
//! it in the transaction that changes the owner's row, [`release`](Claims::release)
//! then frees it.
//!
//! A new key names other rows, so a reservation looks under every key of the
//! ring. For one owner also while some processes sign with the old key and some
//! with the new one, every process must know both: give the new key to all as
//! one that only verifies, and let it sign afterwards.
//!
//! The protocol is the consistent lookup vindex of Vitess, with a lease and a
//! token for the writer that is slow.

mod reconcile;
mod settle;
mod statement;

use std::sync::Arc;
use std::time::Duration;

use maxscale_core::Chain;
use maxscale_core::id::Id;
use maxscale_core::keys::KeyRing;
use maxscale_core::refusal::{Class, Classify};
use uuid::Uuid;

use crate::directory;
use crate::error::ShardError;
use crate::router::{Router, Shard};
use crate::sql::{Sql, Statement, Tx};

pub(crate) use reconcile::ClaimCounts;
pub use reconcile::Reconciled;

use settle::State;
use statement::{CONFIRM, FIND, LOOK, MARK, MARKED, RELEASE, RESERVE};

/// The directory of one kind of value, e.g. emails. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Claims {
    router: Router,
    keys: Arc<KeyRing>,
    kind: &'static str,
    lease: Duration,
}

/// A value that is reserved or held: to be written, confirmed or released.
#[derive(Clone, Debug)]
#[must_use = "a reservation that is not confirmed runs out"]
pub struct Claim {
    hash: Vec<u8>,
    owner: Id,
    token: Uuid,
}

/// Why a value was not claimed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// The value is empty, longer than [`Claims::MAX_LEN`], or has control
    /// characters: nobody would tell it from another by sight.
    #[error(
        "a claim is of 1 to {} bytes without control characters",
        Claims::MAX_LEN
    )]
    Value,

    /// Somebody owns the value, or has reserved it and may still confirm.
    #[error("already taken")]
    Taken,

    /// The reservation ran out, and the value is free or another's.
    #[error("the reservation ran out")]
    Lost,

    /// The transaction is not one of the owner's shard, so a mark in it would not
    /// be found.
    #[error("the transaction is not on the shard of the value's owner")]
    Elsewhere,

    /// The directory, or the shard of an owner, could not be asked.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

/// What the directory says of a value.
struct Standing {
    owner: Id,
    token: Uuid,
    held: bool,
    expired: bool,
}

/// How often a value that is set free under our eyes is tried again.
const TRIES: usize = 3;

// === impl Claims ===

impl Claims {
    /// How long a reservation lasts unless confirmed.
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);

    /// The longest value, in bytes.
    pub const MAX_LEN: usize = 1_024;

    /// The directory of values of `kind`.
    pub fn new(router: Router, keys: Arc<KeyRing>, kind: &'static str) -> Self {
        Self {
            router,
            keys,
            kind,
            lease: Self::DEFAULT_LEASE,
        }
    }

    /// Sets how long a reservation lasts. Default: [`Claims::DEFAULT_LEASE`].
    #[must_use]
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Reserves `value`, which must be normalised, for `owner`.
    ///
    /// # Errors
    ///
    /// Returns [`ClaimError::Value`] for what is no value, [`ClaimError::Taken`] when
    /// it has an owner or a live reservation,
    /// [`ClaimError::Shard`] also when a reservation ran out and the shard of its
    /// owner cannot be asked what became of it.
    pub async fn reserve(&self, value: &str, owner: Id) -> Result<Claim, ClaimError> {
        let fits = (1..=Self::MAX_LEN).contains(&value.len());
        if !fits || value.contains(char::is_control) {
            return Err(ClaimError::Value);
        }
        let hash = self.hash(self.keys.version(), value);
        let shard = self.router.directory(&hash)?;
        for _ in 0..TRIES {
            let reserve = self.row(RESERVE, &shard, &hash).bind(owner);
            let reserve = reserve.bind(micros(self.lease)).bind(Uuid::new_v4());
            let database = shard.node().database();
            if let [row, ..] = database.execute_returning(reserve).await?.as_slice() {
                let token = row.get("token")?;
                return self.first(value, Claim { hash, owner, token }).await;
            }
            if let Some(there) = self.standing(&shard, &hash).await? {
                self.take_over(&hash, there).await?;
            }
        }
        Err(ClaimError::Taken)
    }

    /// Looks whether another key names another owner.
    async fn first(&self, value: &str, claim: Claim) -> Result<Claim, ClaimError> {
        // Written first, read second: of two that reserve under different keys,
        // at least one meets the other.
        if let Err(error) = self.check_other_keys(value, claim.owner).await {
            if let Err(kept) = self.release(&claim).await {
                tracing::debug!(error = %Chain(&kept), "a refused reservation stays until it runs out");
            }
            return Err(error);
        }
        Ok(claim)
    }

    async fn check_other_keys(&self, value: &str, owner: Id) -> Result<(), ClaimError> {
        for version in self.keys.versions().skip(1) {
            let hash = self.hash(version, value);
            let shard = self.router.directory(&hash)?;
            match self.standing(&shard, &hash).await? {
                Some(there) if there.owner != owner => self.take_over(&hash, there).await?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Marks the claim as its owner's, in the transaction on the owner's shard that
    /// writes what owns the value. Then either both are stored or neither.
    ///
    /// # Errors
    ///
    /// Returns [`ClaimError::Lost`] when the reservation ran out and was cancelled
    /// meanwhile, [`ClaimError::Elsewhere`] for a transaction of another shard.
    /// The transaction is to be rolled back then.
    pub async fn write_in(&self, tx: &mut Tx, claim: &Claim) -> Result<(), ClaimError> {
        self.mark_in(tx, claim, State::Written).await
    }

    /// Marks the claim as given up, in the transaction on the owner's shard after
    /// which it no longer owns the value. [`release`](Self::release) follows it,
    /// or else [`reconcile`](Self::reconcile).
    ///
    /// # Errors
    ///
    /// As [`write_in`](Self::write_in).
    pub async fn release_in(&self, tx: &mut Tx, claim: &Claim) -> Result<(), ClaimError> {
        self.mark_in(tx, claim, State::Releasing).await
    }

    async fn mark_in(&self, tx: &mut Tx, claim: &Claim, state: State) -> Result<(), ClaimError> {
        let own = self.router.route(claim.owner)?.virtual_shard();
        if tx.shard() != Some(own) {
            return Err(ClaimError::Elsewhere);
        }
        if state == State::Releasing {
            // What was marked when the value was taken may still be there.
            let unmark = statement::UNMARK.statement().bind(own).bind(claim.token);
            tx.execute(unmark).await?;
        }
        let mark = self.mark(MARK, own, claim, state, self.lease);
        match tx.execute(mark).await {
            Ok(_) => Ok(()),
            Err(ShardError::Unique { .. }) => Err(ClaimError::Lost),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the reservation's owner the value's owner. May be repeated.
    ///
    /// # Errors
    ///
    /// Returns [`ClaimError::Lost`] when the value is free or another's.
    pub async fn confirm(&self, claim: &Claim) -> Result<(), ClaimError> {
        match self.by_token(CONFIRM, claim).await? {
            0 => Err(ClaimError::Lost),
            _ => Ok(()),
        }
    }

    /// Frees the value. Of a reservation only if what should own the value was
    /// surely not written; where nobody knows, [`resolve`](Self::resolve) finds out.
    ///
    /// # Errors
    ///
    /// Returns [`ClaimError::Shard`] when the directory could not be asked.
    pub async fn release(&self, claim: &Claim) -> Result<(), ClaimError> {
        self.by_token(RELEASE, claim).await.map(drop)
    }

    /// Frees a value that `owner` gave up if whoever marked that did not come to free
    /// it, for who wants the value now: true if it is free then.
    ///
    /// # Errors
    ///
    /// Returns [`ClaimError::Shard`] when a database could not be asked.
    pub async fn finish_release(&self, value: &str, owner: Id) -> Result<bool, ClaimError> {
        let Some(claim) = self.held(value, owner).await? else {
            return Ok(false);
        };
        let shard = self.router.shard(owner)?;
        let marked = MARKED.statement().bind(shard.id()).bind(claim.token);
        let Some(row) = shard.fetch_optional(marked).await? else {
            return Ok(false);
        };
        let given_up = State::stored(row.get("state")?) == State::Releasing;
        if given_up {
            self.release(&claim).await?;
        }
        Ok(given_up)
    }

    async fn by_token(&self, text: Sql, claim: &Claim) -> Result<u64, ClaimError> {
        let shard = self.router.directory(&claim.hash)?;
        let statement = self.row(text, &shard, &claim.hash).bind(claim.token);
        Ok(shard.execute(statement).await?)
    }

    /// The owner of `value`, if it has one.
    ///
    /// # Errors
    ///
    /// Returns [`ClaimError::Shard`] when the directory could not be asked.
    pub async fn find(&self, value: &str) -> Result<Option<Id>, ClaimError> {
        for version in self.keys.versions() {
            let hash = self.hash(version, value);
            let shard = self.router.directory(&hash)?;
            let found = shard.fetch_optional(self.row(FIND, &shard, &hash)).await?;
            if let Some(row) = found {
                return Ok(Some(row.get("owner")?));
            }
        }
        Ok(None)
    }

    /// The claim by which `owner` holds `value`, if it does: to give it up.
    ///
    /// # Errors
    ///
    /// Returns [`ClaimError::Shard`] when the directory could not be asked.
    pub async fn held(&self, value: &str, owner: Id) -> Result<Option<Claim>, ClaimError> {
        for version in self.keys.versions() {
            let hash = self.hash(version, value);
            let shard = self.router.directory(&hash)?;
            match self.standing(&shard, &hash).await? {
                Some(there) if there.held && there.owner == owner => {
                    let token = there.token;
                    return Ok(Some(Claim { hash, owner, token }));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    async fn standing(&self, shard: &Shard, hash: &[u8]) -> Result<Option<Standing>, ClaimError> {
        // Asked of the writer: what was just committed must be seen.
        let look = self.row(LOOK, shard, hash);
        let mut conn = shard.node().database().writer().await?;
        let Some(row) = conn.fetch_optional(look).await? else {
            return Ok(None);
        };
        Ok(Some(Standing {
            owner: row.get("owner")?,
            token: row.get("token")?,
            held: row.get("held")?,
            expired: row.get("expired")?,
        }))
    }

    fn row(&self, text: Sql, shard: &Shard, hash: &[u8]) -> Statement {
        text.statement().bind(shard.id()).bind(self.kind).bind(hash)
    }

    /// The key's version, then the MAC: rows of different keys never meet.
    fn hash(&self, version: u8, value: &str) -> Vec<u8> {
        let purpose = format!("claim:{}", self.kind);
        directory::hash(&self.keys, version, &purpose, value)
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 2)
}

impl Classify for ClaimError {
    fn class(&self) -> Class {
        match self {
            Self::Value => Class::Unprocessable,
            Self::Taken | Self::Lost => Class::Conflict,
            Self::Elsewhere => Class::Internal,
            Self::Shard(error) => error.class(),
        }
    }
}
