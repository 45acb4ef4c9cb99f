//! One statement per node, side by side, and what becomes of failures.

use std::panic::resume_unwind;
use std::sync::Arc;

use maxscale_core::fact::Deadline;
use tokio::task::JoinSet;
use tokio::time::timeout_at;
use tracing::Instrument as _;

use super::legs::{Shape, legs};
use super::{Gate, Gathered, LegError, NodeRows, OnFailure, Scatter, ScatterError};
use crate::database::Database;
use crate::engine::verdict;
use crate::error::ShardError;
use crate::router::{Node, ReadPolicy};
use crate::sql::{Row, Statement};
use crate::topology::NodeId;

/// What has failed so far, and whether that is too much.
pub(super) struct Failures {
    on_failure: OnFailure,
    asked: usize,
    pub(super) listed: Vec<LegError>,
}

/// Asks each node for its rows in this shape.
pub(super) async fn gather(
    scatter: &Scatter,
    shape: &Shape<'_>,
) -> Result<Gathered<Vec<NodeRows>>, ScatterError> {
    let legs = legs(scatter)?;
    scatter.gate().admit(legs.len(), false)?;
    let mut failures = Failures::new(scatter.on_failure, legs.len());
    let ids: Vec<NodeId> = legs.iter().map(|leg| leg.node.id().clone()).collect();
    let mut asked = JoinSet::new();
    for (at, mut leg) in legs.into_iter().enumerate() {
        if let Some(refused) = leg.take_refusal() {
            failures.add(&ids[at], refused);
            continue;
        }
        let statement = leg.statement(scatter, shape);
        let (gate, until) = (scatter.gate().clone(), scatter.until());
        let leg = ask(leg.node, leg.policy, statement, gate, until);
        asked.spawn(async move { (at, leg.await) }.in_current_span());
    }
    failures.judge(asked.is_empty())?;
    let mut answers: Vec<Option<Vec<Row>>> = ids.iter().map(|_| None).collect();
    while let Some(ended) = asked.join_next().await {
        let (at, answer) = match ended {
            Ok(ended) => ended,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The runtime ends, and with it whoever waits here.
                Err(_) => continue,
            },
        };
        match answer {
            Ok(rows) => answers[at] = Some(rows),
            Err(error) => failures.add(&ids[at], error),
        }
        failures.judge(asked.is_empty())?;
    }
    let answers = ids.into_iter().zip(answers);
    Ok(Gathered {
        value: answers
            .filter_map(|(node, rows)| Some(NodeRows { node, rows: rows? }))
            .collect(),
        failures: failures.listed,
    })
}

/// Asks one node. Dropped, it closes a connection on which a statement runs.
async fn ask(
    node: Node,
    policy: ReadPolicy,
    statement: Statement,
    gate: Arc<Gate>,
    until: Deadline,
) -> Result<Vec<Row>, ShardError> {
    let asked = async {
        let _place = gate.place(node.id()).await;
        let source = node.source(policy).await;
        let answer = fetch(&source, statement.clone(), until).await;
        match answer {
            Err(error)
                if verdict::passed_over(&error) && source.name() != node.database().name() =>
            {
                fetch(node.database(), statement, until).await
            }
            answer => answer,
        }
    };
    let answer = timeout_at(until.instant(), asked).await;
    answer.unwrap_or_else(|_| Err(late(&node)))
}

async fn fetch(
    server: &Database,
    statement: Statement,
    until: Deadline,
) -> Result<Vec<Row>, ShardError> {
    let mut conn = server.background().reader().await?;
    conn.set_deadline(until);
    conn.fetch_all(statement).await
}

pub(super) fn late(node: &Node) -> ShardError {
    ShardError::Deadline {
        database: node.database().name().into(),
    }
}

// === impl Failures ===

impl Failures {
    pub(super) const fn new(on_failure: OnFailure, asked: usize) -> Self {
        Self {
            on_failure,
            asked,
            listed: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, node: &NodeId, source: ShardError) {
        let node = node.clone();
        self.listed.push(LegError { node, source });
    }

    /// Fails if there is no hope of an answer, or nothing else to wait for and none.
    pub(super) fn judge(&mut self, all: bool) -> Result<(), ScatterError> {
        let failed = self.listed.len();
        let answered = self.asked - failed;
        let hopeless = match self.on_failure {
            OnFailure::FailFast => failed > 0,
            OnFailure::BestEffort { min_ok } => answered < min_ok,
            OnFailure::AllOrNothing => failed > 0 && all,
        };
        if !hopeless {
            return Ok(());
        }
        Err(ScatterError::Failed {
            answered,
            wanted: self.on_failure.into(),
            failures: std::mem::take(&mut self.listed),
        })
    }
}
