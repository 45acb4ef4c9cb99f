//! Where a key lies that does not say so itself: ids of an older system, names.
//!
//! A vindex finds the virtual shard of a key by arithmetic. Where that cannot be,
//! because somebody chose a home for the key, the choice is a row: in a directory
//! sharded by the key, under a keyed hash of it, so that no table holds the key.
//!
//! ```text
//!  key ─ keyed hash ─ directory (one row) ──> virtual shard, region ─ map ──> node
//!                         │ delta, by revision
//!                         v
//!                     shadow of a region: the same rows, near, and as old as it says
//! ```
//!
//! Each row has a revision. They are dealt by a counter row per directory shard, in
//! the transaction that writes the row: its lock makes their order that of the
//! commits, so whoever has seen a revision has seen all before it, however slow a
//! commit was. That is what a [`Shadow`] goes by. A sequence would not do.
//!
//! As for [claims](crate::Claims), a new key of the ring names other rows: every
//! process must know both before one signs with the new one.

mod shadow;
mod statement;

use std::sync::Arc;
use std::time::Duration;

use maxscale_core::fact::{RegionId, VirtualShard};
use maxscale_core::keys::KeyRing;
use maxscale_core::refusal::{Class, Classify};
use tokio::time::sleep;

use crate::directory;
use crate::error::ShardError;
use crate::key::{Key, KeyError};
use crate::random::draw;
use crate::router::{Router, Shard};
use crate::sql::{Row, Sql, Statement, Tx};
use crate::vindex::Vindex;

pub use shadow::{Known, Pulled, Seen, Shadow};

use statement::{DEAL, FIND, MOVE, REMOVE, TAKE};

/// Which virtual shard is the home of each key of one kind. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    router: Router,
    keys: Arc<KeyRing>,
    kind: &'static str,
}

/// Where a key lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    shard: VirtualShard,
    region: Option<RegionId>,
}

/// What is registered of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    hash: Vec<u8>,
    home: Home,
    revision: i64,
}

/// Who was first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "one was first, or somebody else")]
pub enum Registered {
    /// This is the key's home now.
    Won(Entry),
    /// The key has that home already.
    Taken(Entry),
}

/// Why a key was not found, or not moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Nobody registered the key, or it was removed.
    #[error("the key is not registered")]
    Unknown,

    /// The key was moved or removed since it was looked up.
    #[error("the key was moved or removed meanwhile")]
    Changed,

    /// Others register the same key under another secret, and each gave way.
    #[error("the key is being registered by others")]
    Contended,

    /// The directory could not be asked.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

/// How often a key that is set free under our eyes is tried again.
const TRIES: u32 = 5;

/// A pause of random length, up to this, keeps two that gave way from meeting again.
const PAUSE: Duration = Duration::from_millis(50);

// === impl Home ===

impl Home {
    /// On `shard`, and in the region that owns it, where the keyspace has regions.
    pub const fn new(shard: VirtualShard) -> Self {
        Self {
            shard,
            region: None,
        }
    }

    /// Sets the region. Default: the one that owns the virtual shard.
    #[must_use]
    pub fn region(mut self, region: RegionId) -> Self {
        self.region = Some(region);
        self
    }

    /// The virtual shard.
    pub const fn shard(&self) -> VirtualShard {
        self.shard
    }

    /// The region, if it is known.
    pub const fn of_region(&self) -> Option<&RegionId> {
        self.region.as_ref()
    }
}

// === impl Entry ===

impl Entry {
    /// Where the key lives.
    pub const fn home(&self) -> &Home {
        &self.home
    }

    /// Counts the changes in the key's part of the directory.
    pub const fn revision(&self) -> i64 {
        self.revision
    }

    fn read(hash: Vec<u8>, row: &Row) -> Result<Self, ShardError> {
        let region: Option<String> = row.get("region")?;
        let shard = u32::try_from(row.get::<i64>("home")?).unwrap_or(u32::MAX);
        Ok(Self {
            hash,
            home: Home {
                shard: VirtualShard::new(shard),
                region: region.and_then(|name| RegionId::new(&name)),
            },
            revision: row.get("revision")?,
        })
    }
}

// === impl Registry ===

impl Registry {
    /// The registry of keys of `kind`.
    pub fn new(router: Router, keys: Arc<KeyRing>, kind: &'static str) -> Self {
        Self { router, keys, kind }
    }

    /// Registers `key` at `home`, unless it has one: the first wins, and everybody
    /// is told where that is. Registered again after it was removed, it is new.
    ///
    /// # Errors
    ///
    /// Returns [`RegistryError::Shard`] when the directory could not be asked; where
    /// the answer to a commit was lost, asking again tells. [`RegistryError::Contended`]
    /// only while the secret is replaced.
    ///
    /// # Cancellation
    ///
    /// Dropped, it has registered the key or not.
    pub async fn register<'k>(
        &self,
        key: impl Into<Key<'k>>,
        home: Home,
    ) -> Result<Registered, RegistryError> {
        let (key, home) = (Self::text(key.into())?, self.located(home)?);
        let hash = self.hash(self.keys.version(), &key);
        for _ in 0..TRIES {
            if let Some(there) = self.look(&key).await? {
                return Ok(Registered::Taken(there));
            }
            let Some(entry) = self.take(&hash, &home).await? else {
                continue;
            };
            // Written first, read second: of two that register under different
            // secrets, at least one meets the other.
            if self.look_under_others(&key).await?.is_none() {
                return Ok(Registered::Won(entry));
            }
            self.tombstone(&hash).await?;
            sleep(PAUSE.mul_f64(draw())).await;
        }
        Err(RegistryError::Contended)
    }

    /// Moves the key of `from` to another home, if nobody moved or removed it since.
    /// What lies in its old home is not moved by that.
    ///
    /// # Errors
    ///
    /// Returns [`RegistryError::Changed`] when somebody did,
    /// [`RegistryError::Shard`] when the directory could not be asked.
    pub async fn relocate(&self, from: &Entry, home: Home) -> Result<Entry, RegistryError> {
        let home = self.located(home)?;
        let shard = self.router.directory(&from.hash)?;
        let (mut tx, revision) = self.deal(&shard).await?;
        let to = self.row(MOVE, &shard, &from.hash);
        let to = to.bind(home.shard.as_i64()).bind(region(&home));
        let to = to.bind(revision).bind(from.revision);
        if tx.execute(to).await? == 0 {
            tx.rollback().await?;
            return Err(RegistryError::Changed);
        }
        tx.commit().await?;
        Ok(Entry {
            hash: from.hash.clone(),
            home,
            revision,
        })
    }

    /// Removes a key; true if it was there. Its hash stays behind as a tombstone, so
    /// that shadows learn of it.
    ///
    /// # Errors
    ///
    /// Returns [`RegistryError::Shard`] when the directory could not be asked.
    pub async fn remove<'k>(&self, key: impl Into<Key<'k>>) -> Result<bool, RegistryError> {
        let key = Self::text(key.into())?;
        let mut removed = false;
        for version in self.keys.versions() {
            removed |= self.tombstone(&self.hash(version, &key)).await?;
        }
        Ok(removed)
    }

    /// What is registered of `key`, by the directory itself.
    ///
    /// # Errors
    ///
    /// Returns [`RegistryError::Shard`] when the directory could not be asked.
    pub async fn find<'k>(&self, key: impl Into<Key<'k>>) -> Result<Option<Entry>, RegistryError> {
        let key = Self::text(key.into())?;
        self.look(&key).await
    }

    /// The home of `key`, to run statements on.
    ///
    /// # Errors
    ///
    /// Returns [`RegistryError::Unknown`] for a key that is not registered,
    /// [`RegistryError::Shard`] as [`find`](Self::find) and
    /// [`Router::virtual_shard`].
    pub async fn shard<'k>(&self, key: impl Into<Key<'k>>) -> Result<Shard, RegistryError> {
        let entry = self.find(key).await?.ok_or(RegistryError::Unknown)?;
        Ok(self.router.virtual_shard(entry.home.shard)?)
    }

    async fn look(&self, key: &str) -> Result<Option<Entry>, RegistryError> {
        for version in self.keys.versions() {
            if let Some(entry) = self.look_under(version, key).await? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    async fn look_under_others(&self, key: &str) -> Result<Option<Entry>, RegistryError> {
        for version in self.keys.versions().skip(1) {
            if let Some(entry) = self.look_under(version, key).await? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    async fn look_under(&self, version: u8, key: &str) -> Result<Option<Entry>, RegistryError> {
        let hash = self.hash(version, key);
        let shard = self.router.directory(&hash)?;
        let found = shard.fetch_optional(self.row(FIND, &shard, &hash)).await?;
        match found {
            Some(row) if !row.get::<bool>("gone")? => Ok(Some(Entry::read(hash, &row)?)),
            _ => Ok(None),
        }
    }

    /// None if somebody else was first.
    async fn take(&self, hash: &[u8], home: &Home) -> Result<Option<Entry>, RegistryError> {
        let shard = self.router.directory(hash)?;
        let (mut tx, revision) = self.deal(&shard).await?;
        let row = self.row(TAKE, &shard, hash).bind(home.shard.as_i64());
        let taken = tx.execute(row.bind(region(home)).bind(revision)).await?;
        if taken == 0 {
            tx.rollback().await?;
            return Ok(None);
        }
        tx.commit().await?;
        Ok(Some(Entry {
            hash: hash.to_vec(),
            home: home.clone(),
            revision,
        }))
    }

    async fn tombstone(&self, hash: &[u8]) -> Result<bool, RegistryError> {
        let shard = self.router.directory(hash)?;
        let (mut tx, revision) = self.deal(&shard).await?;
        let gone = self.row(REMOVE, &shard, hash).bind(revision);
        if tx.execute(gone).await? == 0 {
            tx.rollback().await?;
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }

    /// A transaction that holds the next revision of this part of the directory:
    /// nobody else has a later one before it ends.
    async fn deal(&self, shard: &Shard) -> Result<(Tx, i64), ShardError> {
        let mut tx = shard.begin().await?;
        let deal = DEAL.statement().bind(shard.id()).bind(self.kind);
        let dealt = tx.fetch_all(deal).await?;
        let revision = dealt.first().ok_or_else(|| ShardError::NoRow {
            database: shard.node().database().name().into(),
        })?;
        let revision = revision.get("last")?;
        Ok((tx, revision))
    }

    fn row(&self, text: Sql, shard: &Shard, hash: &[u8]) -> Statement {
        text.statement().bind(shard.id()).bind(self.kind).bind(hash)
    }

    fn hash(&self, version: u8, key: &str) -> Vec<u8> {
        let purpose = format!("registry:{}", self.kind);
        directory::hash(&self.keys, version, &purpose, key)
    }

    fn text(key: Key<'_>) -> Result<String, ShardError> {
        if key.is_empty() {
            return Err(KeyError::Empty.into());
        }
        Ok(key.with_text(str::to_owned))
    }

    fn located(&self, home: Home) -> Result<Home, ShardError> {
        let keyspace = self.router.whole_keyspace();
        if home.shard.get() >= keyspace.shards() {
            return Err(ShardError::OutOfRange {
                shard: home.shard,
                count: keyspace.shards(),
            });
        }
        let owner = match keyspace.vindex() {
            Vindex::Region(regions) => regions.owner(home.shard).cloned(),
            _ => None,
        };
        Ok(Home {
            region: home.region.or(owner),
            ..home
        })
    }
}

fn region(home: &Home) -> Option<String> {
    home.region
        .as_ref()
        .map(|region| region.as_str().to_owned())
}

impl Classify for RegistryError {
    fn class(&self) -> Class {
        match self {
            Self::Unknown => Class::NotFound,
            Self::Changed => Class::Conflict,
            Self::Contended => Class::Unavailable,
            Self::Shard(error) => error.class(),
        }
    }
}
