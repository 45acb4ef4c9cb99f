//! A copy of the directory in a region's own database.

use std::collections::HashMap;
use std::time::Duration;

use maxscale_core::Chain;
use maxscale_core::fact::VirtualShard;
use tokio::time::sleep;

use super::statement::{
    ADVANCE, COPY, COUNTERS, DELTA, FORGET_PART, FORGET_PROGRESS, NOW, PROGRESS, SEEN, WHOLE,
};
use super::{Entry, Registry, RegistryError};
use crate::database::Database;
use crate::error::ShardError;
use crate::fleet::SHADOW;
use crate::migrate;
use crate::router::{Node, Shard};
use crate::sql::{Row, Statement};
use crate::vindex::sha256;

/// What a region knows of a [`Registry`] by itself: keyed hashes, homes, regions.
///
/// It asks the directory for what has changed and asks nobody to answer from what
/// it has; so it answers also while other regions are away, and says how old that
/// is. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shadow {
    registry: Registry,
    database: Database,
    batch: u32,
}

/// What a shadow says of a key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Seen {
    /// What it knows.
    pub known: Known,
    /// How long ago the last complete [pull](Shadow::pull) began: what was
    /// registered before that is known. None if there was no such pull yet.
    pub age: Option<Duration>,
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing else to know")]
pub enum Known {
    /// Its home.
    At(Entry),
    /// It was removed.
    Gone,
    /// Nothing, as yet.
    Nothing,
}

/// What a pull brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pulled {
    /// Rows that were new or had changed.
    pub rows: u64,
    /// Whether every part of the directory was asked.
    pub complete: bool,
}

// === impl Shadow ===

impl Shadow {
    /// The rows of one step of a pull.
    pub const DEFAULT_BATCH: u32 = 500;

    /// The shadow of `registry` in `database`, which may hold other things too.
    pub const fn new(registry: Registry, database: Database) -> Self {
        Self {
            registry,
            database,
            batch: Self::DEFAULT_BATCH,
        }
    }

    /// Sets how many rows are stored at once. Default: [`Shadow::DEFAULT_BATCH`].
    #[must_use]
    pub const fn batch(mut self, rows: u32) -> Self {
        self.batch = rows;
        self
    }

    /// Makes the tables, or brings them up to date. Safe with several starters.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the database cannot be asked, or refuses.
    pub async fn migrate(&self) -> Result<(), ShardError> {
        migrate::apply(&self.database, &[SHADOW]).await.map(drop)
    }

    /// Fetches what has changed since the last pull, from every node that is ready.
    ///
    /// What was fetched is stored together with how far that is, a batch at a time,
    /// so a pull that is dropped or killed is resumed by the next. Several at once
    /// do no harm. It goes on connections for background work.
    ///
    /// A part of the directory that knows less than the shadow, as after a failover
    /// that lost commits, is fetched anew. One that has caught up since the
    /// failover looks as if nothing was lost: then [`forget`](Self::forget) helps.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the shadow's own database cannot be asked. A node
    /// that cannot be asked makes the pull incomplete.
    pub async fn pull(&self) -> Result<Pulled, ShardError> {
        let database = self.database.background();
        let mut now = database.writer().await?;
        let began: i64 = now.fetch_one(NOW.statement()).await?.get("now")?;
        drop(now);
        let progress = database.fetch_all(self.of_kind(PROGRESS.statement()));
        let mut reached = HashMap::new();
        for row in progress.await? {
            reached.insert(row.get::<i64>("part")?, row.get::<i64>("revision")?);
        }
        let (map, nodes, _) = self.registry.router.snapshot();
        let mut pulled = Pulled {
            complete: true,
            ..Pulled::default()
        };
        for (place, node) in nodes.iter().enumerate() {
            let counters = match self.counters(node).await {
                Ok(counters) => counters,
                Err(error) => {
                    later(node, &error);
                    pulled.complete = false;
                    continue;
                }
            };
            for (part, last) in counters {
                // What an earlier move left behind is not asked.
                if map.locate(part) != Some(place) {
                    continue;
                }
                let mut from = reached.get(&part.as_i64()).copied().unwrap_or_default();
                if last < from {
                    self.forget_part(part).await?;
                    from = 0;
                }
                while from < last {
                    let rows = match self.changes(node, part, from).await {
                        Ok(rows) => rows,
                        Err(error) => {
                            later(node, &error);
                            pulled.complete = false;
                            break;
                        }
                    };
                    from = self.store(part, &rows, last).await?;
                    pulled.rows += rows.len() as u64;
                }
            }
        }
        // What moved meanwhile may have been asked for nowhere.
        pulled.complete &= self.registry.router.topology().epoch() == map.epoch();
        if pulled.complete {
            let whole = self.of_kind(WHOLE.statement()).bind(began);
            database.execute(whole).await?;
        }
        Ok(pulled)
    }

    /// Pulls again and again, until dropped. Several processes may do so at once.
    pub async fn tend(&self, every: Duration) {
        loop {
            if let Err(error) = self.pull().await {
                tracing::debug!(error = %Chain(&error), "the shadow stays as it is for now");
            }
            sleep(every).await;
        }
    }

    /// Forgets all that was pulled: the next pull begins anew.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the shadow's database cannot be asked.
    pub async fn forget(&self) -> Result<(), ShardError> {
        for part in (0..self.registry.router.shards()).map(VirtualShard::new) {
            self.forget_part(part).await?;
        }
        Ok(())
    }

    /// What the shadow knows of `key`, without asking anybody else.
    ///
    /// # Errors
    ///
    /// Returns [`RegistryError::Shard`] when the shadow's database cannot be asked.
    pub async fn find<'k>(
        &self,
        key: impl Into<crate::key::Key<'k>>,
    ) -> Result<Seen, RegistryError> {
        let key = Registry::text(key.into())?;
        let (mut known, mut age) = (Known::Nothing, None);
        for version in self.registry.keys.versions() {
            let hash = self.registry.hash(version, &key);
            let part = sha256(&hash, self.registry.router.shards());
            let seen = self.of_kind(SEEN.statement()).bind(i64::from(part));
            let seen = self
                .database
                .fetch_optional(seen.bind(hash.as_slice()))
                .await?;
            let Some(row) = seen else { continue };
            let micros: Option<i64> = row.get("age")?;
            age = micros.map(|micros| Duration::from_micros(micros.unsigned_abs()));
            match row.get::<Option<bool>>("gone")? {
                Some(false) => {
                    known = Known::At(Entry::read(hash, &row)?);
                    break;
                }
                Some(true) => known = Known::Gone,
                None => {}
            }
        }
        Ok(Seen { known, age })
    }

    /// As [`find`](Self::find); of what the shadow does not know the directory is asked.
    ///
    /// # Errors
    ///
    /// Returns [`RegistryError::Shard`] when either cannot be asked.
    pub async fn find_or_ask<'k>(
        &self,
        key: impl Into<crate::key::Key<'k>>,
    ) -> Result<Option<Entry>, RegistryError> {
        let key = key.into();
        match self.find(key).await?.known {
            Known::At(entry) => Ok(Some(entry)),
            Known::Gone => Ok(None),
            Known::Nothing => self.registry.find(key).await,
        }
    }

    /// The home of `key`, to run statements on; the directory is asked only for what
    /// the shadow does not know. A key that was just moved may be looked for where
    /// it lay before.
    ///
    /// # Errors
    ///
    /// As [`Registry::shard`].
    pub async fn shard<'k>(
        &self,
        key: impl Into<crate::key::Key<'k>>,
    ) -> Result<Shard, RegistryError> {
        let entry = self.find_or_ask(key).await?;
        let entry = entry.ok_or(RegistryError::Unknown)?;
        Ok(self.registry.router.virtual_shard(entry.home.shard)?)
    }

    /// How far each part of the directory is that a node holds.
    async fn counters(&self, node: &Node) -> Result<Vec<(VirtualShard, i64)>, ShardError> {
        if !node.is_ready() {
            return Err(ShardError::NotReady {
                node: node.id().clone(),
            });
        }
        let asked = self.of_kind(COUNTERS.statement());
        let rows = node.background().fetch_all(asked).await?;
        let read = |row: &Row| {
            let part = u32::try_from(row.get::<i64>("shard_id")?).unwrap_or(u32::MAX);
            Ok((VirtualShard::new(part), row.get("last")?))
        };
        rows.iter().map(read).collect()
    }

    async fn changes(
        &self,
        node: &Node,
        part: VirtualShard,
        from: i64,
    ) -> Result<Vec<Row>, ShardError> {
        let delta = DELTA.statement().bind(part).bind(self.registry.kind);
        let delta = delta.bind(from).bind(self.batch.max(1));
        node.background().fetch_all(delta).await
    }

    /// Stores rows, and with them how far that is, which it gives.
    async fn store(&self, part: VirtualShard, rows: &[Row], last: i64) -> Result<i64, ShardError> {
        let mut reached = last;
        if let Some(row) = rows.last() {
            let newest: i64 = row.get("revision")?;
            // All that was there is here, if there was room for more.
            let whole = rows.len() < self.batch.max(1) as usize;
            reached = if whole { newest.max(last) } else { newest };
        }
        let mut tx = self.database.background().begin().await?;
        for row in rows {
            let copy = self.of_kind(COPY.statement()).bind(part.as_i64());
            let copy = copy.bind(row.get::<Vec<u8>>("key_hash")?);
            let copy = copy.bind(row.get::<i64>("home")?);
            let copy = copy.bind(row.get::<Option<String>>("region")?);
            let copy = copy.bind(row.get::<i64>("revision")?);
            tx.execute(copy.bind(row.get::<bool>("gone")?)).await?;
        }
        let advance = self.of_kind(ADVANCE.statement()).bind(part.as_i64());
        tx.execute(advance.bind(reached)).await?;
        tx.commit().await?;
        Ok(reached)
    }

    async fn forget_part(&self, part: VirtualShard) -> Result<(), ShardError> {
        let mut tx = self.database.background().begin().await?;
        for text in [FORGET_PART, FORGET_PROGRESS] {
            let forget = self.of_kind(text.statement()).bind(part.as_i64());
            tx.execute(forget).await?;
        }
        tx.commit().await.map(drop)
    }

    fn of_kind(&self, statement: Statement) -> Statement {
        statement.bind(self.registry.kind)
    }
}

fn later(node: &Node, error: &ShardError) {
    tracing::debug!(node = %node.id(), error = %Chain(error), "a part of the directory is pulled later");
}
