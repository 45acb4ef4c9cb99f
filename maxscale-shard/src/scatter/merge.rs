use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{fmt, vec};

use maxscale_core::fact::Deadline;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use super::gate::Place;
use super::gather::{Failures, late};
use super::legs::{Shape, legs};
use super::{LegError, OrderBy, Scatter, ScatterError};
use crate::database::Database;
use crate::engine::verdict;
use crate::error::ShardError;
use crate::router::{Node, ReadPolicy};
use crate::sql::conn::Pour;
use crate::sql::{Engine, Row, Statement, Tx, TxOptions};
use crate::topology::NodeId;

/// The rows of all nodes in one order, as they come; see [`Scatter::merge`].
///
/// Of each node a few hundred rows are in memory, however many there are.
/// Dropped, it ends every leg and closes its connection.
pub struct Merged {
    feeds: Vec<Feed>,
    /// The first row of each node that has one.
    heads: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
    /// The nodes whose next row is not known.
    wanting: Vec<usize>,
    ends: mpsc::UnboundedReceiver<(usize, Result<(), ShardError>)>,
    failures: Failures,
    begun: bool,
    over: bool,
    legs: JoinSet<()>,
}

/// The rows of one node.
struct Feed {
    node: NodeId,
    coming: mpsc::Receiver<Vec<Ranked>>,
    there: vec::IntoIter<Ranked>,
    head: Option<Row>,
    ended: bool,
}

type Ranked = (Vec<u8>, Row);

/// What a leg works with.
struct Task {
    node: Node,
    policy: ReadPolicy,
    /// Whether a row was read: then another server's rows are not the same.
    given: Arc<AtomicBool>,
    statement: Statement,
    order: OrderBy,
    into: mpsc::Sender<Vec<Ranked>>,
    limit: Duration,
    deadline: Option<Deadline>,
}

/// How many rows are handed on together; as many wait and are being read.
const AT_ONCE: usize = 128;

// === impl Scatter ===

impl Scatter {
    /// All rows in one order, as a single database would give them: with nulls
    /// where the order says, and rows alike in all its columns one node after
    /// the other.
    ///
    /// Each node is read in one statement inside a transaction of its own, for
    /// as long as somebody takes the rows; meanwhile it has one of the places
    /// that [`ScatterLimits`](super::ScatterLimits) gives. All nodes have to be
    /// read at once, so the order decides nothing about memory.
    ///
    /// # Errors
    ///
    /// Returns [`ScatterError`] where nothing can be asked; [`Merged::next`] says
    /// what became of the nodes.
    pub async fn merge(self, order: &OrderBy) -> Result<Merged, ScatterError> {
        let mut legs = legs(&self)?;
        self.gate().admit(legs.len(), true)?;
        let mut failures = Failures::new(self.on_failure, legs.len());
        legs.retain_mut(|leg| match leg.take_refusal() {
            Some(refused) => {
                failures.add(leg.node.id(), refused);
                false
            }
            None => true,
        });
        failures.judge(legs.is_empty())?;
        let nodes: Vec<NodeId> = legs.iter().map(|leg| leg.node.id().clone()).collect();
        let places = timeout_at(self.until().instant(), self.gate().places(&nodes)).await;
        let Ok(places) = places else {
            for leg in &legs {
                failures.add(leg.node.id(), late(&leg.node));
            }
            failures.judge(true)?;
            return Ok(Merged::new(failures, mpsc::unbounded_channel().1));
        };
        let output = |_| "leg.*".to_owned();
        let shape = Shape {
            order: Some(order),
            ..Shape::of(&output)
        };
        let (tell, ends) = mpsc::unbounded_channel();
        let mut merged = Merged::new(failures, ends);
        for ((at, leg), place) in legs.into_iter().enumerate().zip(places) {
            let (into, coming) = mpsc::channel(1);
            merged.feeds.push(Feed::new(leg.node.id().clone(), coming));
            let task = Task {
                statement: leg.statement(&self, &shape),
                node: leg.node,
                policy: leg.policy,
                given: Arc::default(),
                order: order.clone(),
                into,
                limit: self.limit,
                deadline: self.deadline,
            };
            let tell = tell.clone();
            let run = async move {
                let end = task.run(place).await;
                // Told before the rows end, or their end would look like a good one.
                let _ = tell.send((at, end.0));
                drop(end.1);
            };
            merged.legs.spawn(run.in_current_span());
        }
        merged.wanting = (0..merged.feeds.len()).rev().collect();
        Ok(merged)
    }
}

// === impl Merged ===

impl Merged {
    fn new(
        failures: Failures,
        ends: mpsc::UnboundedReceiver<(usize, Result<(), ShardError>)>,
    ) -> Self {
        Self {
            feeds: Vec::new(),
            heads: BinaryHeap::new(),
            wanting: Vec::new(),
            ends,
            failures,
            begun: false,
            over: false,
            legs: JoinSet::new(),
        }
    }

    /// The next row; `None` after the last one.
    ///
    /// # Errors
    ///
    /// Returns [`ScatterError::Failed`] once more nodes failed than
    /// [`OnFailure`](super::OnFailure) allows. No row comes after it.
    ///
    /// # Cancellation
    ///
    /// Dropped, it has taken no row.
    pub async fn next(&mut self) -> Result<Option<Row>, ScatterError> {
        if self.over {
            return Ok(None);
        }
        let next = self.advance().await;
        if !matches!(next, Ok(Some(_))) {
            self.over = true;
            self.legs.abort_all();
        }
        next
    }

    /// The nodes whose rows are missing from here on, so far.
    pub fn failures(&self) -> &[LegError] {
        &self.failures.listed
    }

    async fn advance(&mut self) -> Result<Option<Row>, ScatterError> {
        while let Some(&at) = self.wanting.last() {
            if let Some((rank, row)) = poll_fn(|cx| self.poll_feed(at, cx)).await? {
                self.feeds[at].head = Some(row);
                self.heads.push(Reverse((rank, at)));
            }
            self.wanting.pop();
        }
        if !std::mem::replace(&mut self.begun, true) {
            self.failures.judge(true)?;
        }
        let Some(Reverse((_, at))) = self.heads.pop() else {
            return Ok(None);
        };
        self.wanting.push(at);
        Ok(self.feeds[at].head.take())
    }

    /// The next row of one node, unless too many have failed meanwhile.
    fn poll_feed(
        &mut self,
        at: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Ranked>, ScatterError>> {
        if let Some(row) = self.feeds[at].there.next() {
            return Poll::Ready(Ok(Some(row)));
        }
        self.hear(cx)?;
        let Some(rows) = ready!(self.feeds[at].coming.poll_recv(cx)) else {
            // It may have said why since.
            self.hear(cx)?;
            if !self.feeds[at].ended {
                self.feeds[at].ended = true;
                let node = &self.feeds[at].node;
                self.failures.add(
                    node,
                    ShardError::Connect {
                        database: node.as_str().into(),
                        source: "the task that reads it was ended".into(),
                    },
                );
                self.failures.judge(self.begun)?;
            }
            return Poll::Ready(Ok(None));
        };
        self.feeds[at].there = rows.into_iter();
        Poll::Ready(Ok(self.feeds[at].there.next()))
    }

    /// Takes note of the legs that have ended.
    fn hear(&mut self, cx: &mut Context<'_>) -> Result<(), ScatterError> {
        while let Poll::Ready(Some((at, end))) = self.ends.poll_recv(cx) {
            self.feeds[at].ended = true;
            if let Err(error) = end {
                self.failures.add(&self.feeds[at].node, error);
            }
        }
        self.failures.judge(self.begun)
    }
}

impl fmt::Debug for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merged")
            .field("nodes", &self.feeds.len())
            .field("failures", &self.failures.listed)
            .finish_non_exhaustive()
    }
}

// === impl Feed ===

impl Feed {
    fn new(node: NodeId, coming: mpsc::Receiver<Vec<Ranked>>) -> Self {
        Self {
            node,
            coming,
            there: Vec::new().into_iter(),
            head: None,
            ended: false,
        }
    }
}

// === impl Task ===

impl Task {
    /// Reads the node to its end; gives back what keeps its rows from ending.
    async fn run(self, place: Place) -> (Result<(), ShardError>, mpsc::Sender<Vec<Ranked>>) {
        let into = self.into.clone();
        let read = self.read();
        let end = match self.deadline {
            Some(deadline) => timeout_at(deadline.instant(), read).await,
            None => Ok(read.await),
        };
        drop(place);
        (end.unwrap_or_else(|_| Err(late(&self.node))), into)
    }

    async fn read(&self) -> Result<(), ShardError> {
        let source = self.node.source(self.policy).await;
        let end = self.read_from(&source.background()).await;
        match end {
            Err(error)
                if verdict::passed_over(&error)
                    && source.name() != self.node.database().name()
                    && !self.given.load(Ordering::Relaxed) =>
            {
                self.read_from(&self.node.background()).await
            }
            end => end,
        }
    }

    async fn read_from(&self, database: &Database) -> Result<(), ShardError> {
        let begun = timeout_at(Instant::now() + self.limit, async {
            let conn = database.reader().await?;
            Tx::begin(conn, None, self.begin(database).into(), &TxOptions::new()).await
        });
        let mut tx = begun.await.map_err(|_| late(&self.node))??;
        let mut pour = Pour {
            read: self.ranked(database),
            into: self.into.clone(),
            at_once: AT_ONCE,
            patience: self.limit,
        };
        if tx.pour(self.statement.clone(), &mut pour).await? {
            // What was read is read, whether or not the connection is any good.
            let _ = tx.rollback().await;
        }
        Ok(())
    }

    /// The message that begins the transaction. Its statement takes as long as
    /// somebody takes rows, and ends with its connection.
    fn begin(&self, database: &Database) -> String {
        if database.engine() == Engine::Sqlite {
            return "BEGIN".to_owned();
        }
        let mut text = "BEGIN READ ONLY".to_owned();
        let mut limits = database.limits_in_transactions();
        let left = self.deadline.map(|end| end.instant() - Instant::now());
        // Zero is no limit.
        let left = left.map_or(0, |left| left.as_millis().max(1));
        limits.push(("statement_timeout", left.to_string()));
        for (name, value) in limits {
            // Writing to a text cannot fail.
            let _ = write!(text, "; SET LOCAL {name} = {value}");
        }
        if let Some(look) = database.look_for_client_in_transactions() {
            let _ = write!(text, "; {}", look.text(Engine::Postgres));
        }
        text
    }

    /// Tells a row's place, and that it comes after the one before.
    fn ranked(
        &self,
        database: &Database,
    ) -> Box<dyn FnMut(Row) -> Result<Ranked, ShardError> + Send> {
        let (order, database) = (self.order.clone(), database.clone());
        let given = self.given.clone();
        let mut last = Vec::new();
        Box::new(move |row| {
            given.store(true, Ordering::Relaxed);
            let rank = order.rank(&order.values(&row)?);
            if rank < last {
                let database = database.name().into();
                return Err(ShardError::Unordered { database });
            }
            last.clone_from(&rank);
            Ok((rank, row))
        })
    }
}
