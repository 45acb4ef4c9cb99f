//! Uniqueness across shards: who owns a value, decided by one row.
//!
//! The row lies in a directory sharded by the value, under a keyed hash of it,
//! so no table holds the value itself. Whoever takes a value first *reserves*
//! it under a lease, writes what should own it elsewhere, and then *confirms*.
//!
//! The owner is who the confirmed row names, and nobody else: a writer whose
//! lease ran out, and whose value was taken over meanwhile, fails to confirm,
//! and what it wrote is an orphan that no lookup finds. A crash between the
//! steps leaves a lease that runs out.
//!
//! A new key names other rows, so a reservation looks under every key of the
//! ring. For one owner also while some processes sign with the old key and some
//! with the new one, every process must know both: give the new key to all as
//! one that only verifies, and let it sign afterwards.

use std::sync::Arc;
use std::time::Duration;

use maxscale_core::Chain;
use maxscale_core::id::Id;
use maxscale_core::keys::KeyRing;
use maxscale_core::refusal::{Class, Classify};
use uuid::Uuid;

use crate::error::ShardError;
use crate::router::{Router, Shard};
use crate::sql::Sql;

/// The directory of one kind of value, e.g. emails. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Claims {
    router: Router,
    keys: Arc<KeyRing>,
    kind: &'static str,
    lease: Duration,
}

/// A reserved value, to be confirmed or released.
#[derive(Clone, Debug)]
#[must_use = "a reservation that is not confirmed runs out"]
pub struct Claim {
    hash: Vec<u8>,
    owner: Id,
}

/// Why a value was not claimed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// Somebody owns the value, or has reserved it and may still confirm.
    #[error("already taken")]
    Taken,

    /// The reservation ran out and somebody else has taken the value.
    #[error("the reservation ran out")]
    Lost,

    /// The directory could not be asked.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

/// Takes a free value, or one whose reservation ran out; the database's clock decides.
const RESERVE: Sql = Sql::each(
    "INSERT INTO ms_claim (shard_id, kind, value_hash, owner, held, lease_until)
     VALUES ($1, $2, $3, $4, false, (extract(epoch from clock_timestamp()) * 1000000)::bigint + $5)
     ON CONFLICT (shard_id, kind, value_hash) DO UPDATE
     SET owner = excluded.owner, lease_until = excluded.lease_until
     WHERE NOT ms_claim.held AND (ms_claim.owner = excluded.owner
       OR ms_claim.lease_until < (extract(epoch from clock_timestamp()) * 1000000)::bigint)",
    "INSERT INTO ms_claim (shard_id, kind, value_hash, owner, held, lease_until)
     VALUES ($1, $2, $3, $4, false, CAST(unixepoch('subsec') * 1000000 AS INTEGER) + $5)
     ON CONFLICT (shard_id, kind, value_hash) DO UPDATE
     SET owner = excluded.owner, lease_until = excluded.lease_until
     WHERE NOT ms_claim.held AND (ms_claim.owner = excluded.owner
       OR ms_claim.lease_until < CAST(unixepoch('subsec') * 1000000 AS INTEGER))",
);

/// Also true for who holds it already, so that a lost answer can be asked again.
const CONFIRM: Sql = Sql::both(
    "UPDATE ms_claim SET held = true
     WHERE shard_id = $1 AND kind = $2 AND value_hash = $3 AND owner = $4",
);

const RELEASE: Sql = Sql::both(
    "DELETE FROM ms_claim WHERE shard_id = $1 AND kind = $2 AND value_hash = $3 AND owner = $4",
);

/// Ends a reservation that ran out, so that its late confirmation finds it lost.
const EXPIRE: Sql = Sql::each(
    "DELETE FROM ms_claim
     WHERE shard_id = $1 AND kind = $2 AND value_hash = $3 AND NOT held
       AND lease_until < (extract(epoch from clock_timestamp()) * 1000000)::bigint",
    "DELETE FROM ms_claim
     WHERE shard_id = $1 AND kind = $2 AND value_hash = $3 AND NOT held
       AND lease_until < CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
);

const OTHER: Sql = Sql::both(
    "SELECT 1 AS other FROM ms_claim
     WHERE shard_id = $1 AND kind = $2 AND value_hash = $3 AND owner <> $4",
);

const FIND: Sql = Sql::both(
    "SELECT owner FROM ms_claim
     WHERE shard_id = $1 AND kind = $2 AND value_hash = $3 AND held",
);

// === impl Claims ===

impl Claims {
    /// How long a reservation lasts unless confirmed.
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);

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
    /// Returns [`ClaimError::Taken`] when it has an owner or a live reservation.
    pub async fn reserve(&self, value: &str, owner: Id) -> Result<Claim, ClaimError> {
        let hash = self.hash(self.keys.version(), value);
        let shard = self.router.directory(&hash)?;
        let lease = i64::try_from(self.lease.as_micros()).unwrap_or(i64::MAX / 2);
        let statement = self.row(RESERVE, &shard, &hash).bind(owner).bind(lease);
        if shard.execute(statement).await? == 0 {
            return Err(ClaimError::Taken);
        }
        let claim = Claim { hash, owner };
        // Written first, read second: of two that reserve under different keys,
        // at least one meets the other.
        if let Err(error) = self.check_other_keys(value, owner).await {
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
            shard.execute(self.row(EXPIRE, &shard, &hash)).await?;
            let other = self.row(OTHER, &shard, &hash).bind(owner);
            if shard.fetch_optional(other).await?.is_some() {
                return Err(ClaimError::Taken);
            }
        }
        Ok(())
    }

    /// Makes the reservation's owner the value's owner. May be repeated.
    ///
    /// # Errors
    ///
    /// Returns [`ClaimError::Lost`] when somebody else has taken the value.
    pub async fn confirm(&self, claim: &Claim) -> Result<(), ClaimError> {
        let shard = self.router.directory(&claim.hash)?;
        let statement = self.row(CONFIRM, &shard, &claim.hash).bind(claim.owner);
        match shard.execute(statement).await? {
            0 => Err(ClaimError::Lost),
            _ => Ok(()),
        }
    }

    /// Gives the value up, whether reserved or held.
    ///
    /// # Errors
    ///
    /// Returns [`ClaimError::Shard`] when the directory could not be asked.
    pub async fn release(&self, claim: &Claim) -> Result<(), ClaimError> {
        let shard = self.router.directory(&claim.hash)?;
        let statement = self.row(RELEASE, &shard, &claim.hash).bind(claim.owner);
        shard.execute(statement).await?;
        Ok(())
    }

    /// The owner of `value`, if it has one.
    ///
    /// # Errors
    ///
    /// Returns [`ClaimError::Shard`] when the directory could not be asked.
    pub async fn find(&self, value: &str) -> Result<Option<Id>, ClaimError> {
        for version in self.keys.versions() {
            if let Some(owner) = self.find_under(version, value).await? {
                return Ok(Some(owner));
            }
        }
        Ok(None)
    }

    async fn find_under(&self, version: u8, value: &str) -> Result<Option<Id>, ClaimError> {
        let hash = self.hash(version, value);
        let shard = self.router.directory(&hash)?;
        let Some(row) = shard.fetch_optional(self.row(FIND, &shard, &hash)).await? else {
            return Ok(None);
        };
        let owner: Uuid = row.get("owner")?;
        let owner = Id::from_uuid(owner).map_err(|source| ShardError::Column {
            column: "owner".into(),
            source: source.into(),
        })?;
        Ok(Some(owner))
    }

    fn row(&self, text: Sql, shard: &Shard, hash: &[u8]) -> crate::sql::Statement {
        text.statement().bind(shard.id()).bind(self.kind).bind(hash)
    }

    /// The key's version, then the MAC: rows of different keys never meet.
    fn hash(&self, version: u8, value: &str) -> Vec<u8> {
        let purpose = format!("claim:{}", self.kind);
        let tag = self.keys.mac(version, &purpose, value.as_bytes());
        let mut hash = vec![version];
        hash.extend(tag.unwrap_or_default());
        hash
    }
}

impl Classify for ClaimError {
    fn class(&self) -> Class {
        match self {
            Self::Taken | Self::Lost => Class::Conflict,
            Self::Shard(error) => error.class(),
        }
    }
}
