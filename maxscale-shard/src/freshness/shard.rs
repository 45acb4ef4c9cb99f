use std::mem;

use maxscale_core::fact::VirtualShard;

use super::{Freshness, Plan};
use crate::database::Database;
use crate::engine::verdict;
use crate::error::ShardError;
use crate::router::Shard;
use crate::sql::{Attempt, Committed, Row, Statement, Tx, TxOptions, Watermark, Work, attempt};

/// A shard as one user reads and writes it; see [`Freshness::on`].
///
/// Each call takes note of what was written, and of how far what was seen had
/// come. Reads go to a replica that shows both, else to the primary: a user sees
/// what the same user wrote, and never an older state than the one seen before.
/// On a node with a single server nothing is noted and nothing is asked beside.
#[derive(Clone, Debug)]
pub struct FreshShard {
    shard: Shard,
    freshness: Freshness,
}

/// Notes something unknown unless told what it was: also where the future of a
/// write is dropped, and nobody knows what became of it.
struct InDoubt<'f> {
    at: &'f FreshShard,
    over: bool,
}

// === impl Freshness ===

impl Freshness {
    /// `shard` as this user reads and writes it.
    pub fn on(&self, shard: &Shard) -> FreshShard {
        FreshShard {
            shard: shard.clone(),
            freshness: self.clone(),
        }
    }
}

// === impl FreshShard ===

impl FreshShard {
    /// The shard itself. What is written past this handle is not noted.
    pub const fn shard(&self) -> &Shard {
        &self.shard
    }

    /// What the user has written and seen.
    pub const fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// The virtual shard, for `shard_id` columns.
    pub const fn id(&self) -> VirtualShard {
        self.shard.id()
    }

    /// Runs `work` in a transaction that only reads, as [`Shard::read`] does; the
    /// policy in `options` is not looked at. The answer to its commit brings how
    /// far the server had come: that costs no message.
    ///
    /// # Errors
    ///
    /// As [`Shard::read`]. Where `work` gives an error, what it saw is noted too.
    pub async fn read<'w, T, E: From<ShardError>>(
        &self,
        options: TxOptions,
        mut work: impl for<'t> FnMut(&'t mut Tx) -> Work<'w, 't, T, E>,
    ) -> Result<T, E> {
        let mut reruns = options.most_reruns();
        loop {
            let plan = self.freshness.plan(&self.shard);
            let options = match self.is_noted() {
                true => options.policy(plan.policy).with_watermark(),
                false => options,
            };
            let mut tx = self.shard.begin_read(&options).await?;
            let done = work(&mut tx).future.await;
            let (raced, server) = (tx.raced(), tx.database.clone());
            // It only read, so nothing is lost where `work` failed.
            let (raced, error) = match (done, tx.commit().await) {
                (done, Ok(position)) => {
                    self.saw(&plan, &server, position);
                    return done;
                }
                (Ok(_), Err(error)) => (raced || verdict::lost_race(&error), error.into()),
                (Err(error), Err(_)) => (raced, error),
            };
            if !raced || reruns == 0 {
                return Err(error);
            }
            reruns -= 1;
        }
    }

    /// Runs `work` in a transaction, as [`Shard::write`] does. The answer to its
    /// commit brings the watermark.
    ///
    /// After one that failed or was dropped, the next read goes to the primary:
    /// what it left behind or came across is not known.
    ///
    /// # Errors
    ///
    /// As [`Shard::write`].
    pub async fn write<'w, T, E: From<ShardError>>(
        &self,
        options: TxOptions,
        mut work: impl for<'t> FnMut(&'t mut Tx) -> Work<'w, 't, T, E>,
    ) -> Result<Committed<T>, E> {
        if !self.is_noted() {
            return self.shard.write(options, work).await;
        }
        let options = options.with_watermark();
        let mut reruns = options.most_reruns();
        let mut tx = self.shard.begin_with(&options).await?;
        let doubt = InDoubt::about(self);
        loop {
            match attempt(tx, &mut work).await {
                Attempt::Committed(committed) => {
                    doubt.end(committed.watermark);
                    return Ok(committed);
                }
                Attempt::Raced(_) if reruns > 0 => reruns -= 1,
                Attempt::Raced(error) | Attempt::Failed(error) => return Err(error),
            }
            tx = self.shard.begin_with(&options).await?;
        }
    }

    /// Runs one writing statement, without a transaction around it. A second
    /// message asks for the watermark; in a transaction it would need three.
    ///
    /// As after [`write`](Self::write), the next read goes to the primary if it fails.
    ///
    /// # Errors
    ///
    /// As [`Shard::execute`].
    pub async fn execute(&self, statement: Statement) -> Result<u64, ShardError> {
        if !self.is_noted() {
            return self.shard.execute(statement).await;
        }
        let mut conn = self.shard.node().database().writer().await?;
        let doubt = InDoubt::about(self);
        let touched = conn.execute(statement).await?;
        doubt.end(conn.position().await.ok().flatten());
        Ok(touched)
    }

    /// Reads all rows of one statement, without a transaction around it.
    ///
    /// A second message asks the same server how far it has come: that is no less
    /// than what the statement saw. Several statements are cheaper in one
    /// [`read`](Self::read). A replica that cannot be reached, or cancels the
    /// statement in order to go on replaying, is passed over for the primary.
    ///
    /// # Errors
    ///
    /// As [`Shard::fetch_all`].
    pub async fn fetch_all(&self, statement: Statement) -> Result<Vec<Row>, ShardError> {
        self.ask(statement, false).await
    }

    /// Reads the first row of one statement, if any, as
    /// [`fetch_all`](Self::fetch_all) does.
    ///
    /// # Errors
    ///
    /// As [`Shard::fetch_optional`].
    pub async fn fetch_optional(&self, statement: Statement) -> Result<Option<Row>, ShardError> {
        let rows = self.ask(statement, true).await?;
        Ok(rows.into_iter().next())
    }

    async fn ask(&self, statement: Statement, first: bool) -> Result<Vec<Row>, ShardError> {
        let plan = self.freshness.plan(&self.shard);
        let source = self.shard.source(plan.policy).await;
        let primary = self.shard.node().database();
        let asked = self.ask_of(&source, &plan, statement.clone(), first).await;
        match asked {
            Err(error) if source.name() != primary.name() && verdict::passed_over(&error) => {
                self.ask_of(primary, &plan, statement, first).await
            }
            asked => asked,
        }
    }

    async fn ask_of(
        &self,
        server: &Database,
        plan: &Plan,
        statement: Statement,
        first: bool,
    ) -> Result<Vec<Row>, ShardError> {
        let mut conn = server.reader().await?;
        let rows = match first {
            true => Vec::from_iter(conn.fetch_optional(statement).await?),
            false => conn.fetch_all(statement).await?,
        };
        if self.is_noted() {
            // The rows are there, whatever the server says afterwards.
            let position = conn.position().await.ok().flatten();
            self.saw(plan, server.name(), position);
        }
        Ok(rows)
    }

    fn saw(&self, plan: &Plan, server: &str, position: Option<Watermark>) {
        if self.is_noted() {
            self.shard.node().heard(server, position);
            self.freshness.saw(plan, position);
        }
    }

    /// Whether there is more than one server to read from.
    fn is_noted(&self) -> bool {
        self.shard.node().endpoints().len() > 1
    }
}

// === impl InDoubt ===

impl<'f> InDoubt<'f> {
    /// Begun only once there is a connection: who cannot write may still read.
    const fn about(at: &'f FreshShard) -> Self {
        Self { at, over: false }
    }

    fn end(mut self, watermark: Option<Watermark>) {
        self.over = true;
        self.at.freshness.wrote(&self.at.shard, watermark);
    }
}

impl Drop for InDoubt<'_> {
    fn drop(&mut self) {
        if !mem::replace(&mut self.over, true) {
            self.at.freshness.wrote(&self.at.shard, None);
        }
    }
}
