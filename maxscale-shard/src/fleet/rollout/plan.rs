use std::fmt;

use super::ground::{Ground, Leg, looked_at};
use super::report::heading;
use super::{RolloutError, Waves};
use crate::error::ShardError;
use crate::fleet::home::{self, has_table};
use crate::fleet::{FleetError, catalog, schema};
use crate::migrate::Step;
use crate::router::Node;
use crate::sql::Engine;
use crate::topology::NodeId;

/// What a rollout would run. Displays as lines for a person, each step's SQL once.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// What would run in the catalog, before all else.
    pub catalog: Vec<PlannedStep>,
    /// The waves, the canary's first.
    pub waves: Vec<Vec<PlannedNode>>,
}

/// What a rollout would run on one node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlannedNode {
    /// The node.
    pub node: NodeId,
    /// What is pending there, in order.
    pub steps: Vec<PlannedStep>,
}

/// A step that would run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedStep {
    /// The step, as `owner/version name`.
    pub name: String,
    /// Its text, for the engine of the database it would run in.
    pub sql: &'static str,
    /// Whether it runs by itself, in no transaction.
    pub apart: bool,
}

/// Looks at the catalog and every node, and changes nothing.
pub(super) async fn plan(ground: &Ground, waves: &Waves) -> Result<Plan, RolloutError> {
    let config = &ground.charter.config;
    let apart = config.catalog.as_deref();
    let apart = apart
        .map(|url| home::apart(url, &ground.opener))
        .transpose()?;
    let home = match &apart {
        Some(apart) => apart.clone(),
        None => home_of(ground).await?,
    };
    let pending = looked_at(&home, &[schema::CATALOG], ground.patience()).await;
    let planned = match pending {
        Ok(pending) => nodes(ground, waves, &home, pending).await,
        Err(error) => Err(error.into()),
    };
    if let Some(apart) = apart {
        apart.close().await;
    }
    planned
}

async fn nodes(
    ground: &Ground,
    waves: &Waves,
    home: &Node,
    pending: Vec<Step>,
) -> Result<Plan, RolloutError> {
    let listed = listed(ground, home).await?;
    let legs = ground.legs(waves.split(listed)?).await?;
    let wave = |legs: &[Leg]| legs.iter().map(PlannedNode::of).collect();
    let engine = home.database().engine();
    Ok(Plan {
        catalog: pending
            .iter()
            .map(|step| PlannedStep::of(step, engine))
            .collect(),
        waves: legs
            .chunk_by(|one, other| one.wave == other.wave)
            .map(wave)
            .collect(),
    })
}

/// The node that holds the catalog, or would after the first start.
async fn home_of(ground: &Ground) -> Result<Node, FleetError> {
    for node in &ground.nodes[..ground.charter.config.nodes.len()] {
        // Makes sure that it is there; what it has is the nodes' matter.
        looked_at(node, &[], ground.patience()).await?;
        if holds_map(node).await? {
            return Ok(node.clone());
        }
    }
    Ok(ground.nodes[0].clone())
}

async fn holds_map(node: &Node) -> Result<bool, ShardError> {
    if !node.database().is_made().await? {
        return Ok(false);
    }
    has_table(&mut node.database().reader().await?, "ms_keyspace").await
}

/// The nodes of the catalog's map, or, before there is one, of the first.
async fn listed(ground: &Ground, home: &Node) -> Result<Vec<Node>, FleetError> {
    let first = || Ok(ground.nodes[..ground.charter.config.nodes.len()].to_vec());
    if !holds_map(home).await? {
        return first();
    }
    let home = home.database().called("catalog");
    match catalog::newest(&home, &ground.charter.keyspace).await {
        Ok((_, map)) => Ok(ground.listed(&map)),
        // Its table is that of an older program, when maps listed no spares.
        Err(FleetError::Shard(ShardError::Statement { .. } | ShardError::NoRow { .. })) => first(),
        Err(error) => Err(error),
    }
}

// === impl Plan ===

impl Plan {
    /// Whether nothing would run.
    pub fn is_empty(&self) -> bool {
        self.steps().next().is_none()
    }

    fn steps(&self) -> impl Iterator<Item = &PlannedStep> {
        let nodes = self.waves.iter().flatten().flat_map(|node| &node.steps);
        self.catalog.iter().chain(nodes)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "catalog, before all waves")?;
        writeln!(f, "  {}", names(&self.catalog))?;
        for (number, wave) in (1..).zip(&self.waves) {
            heading(f, number)?;
            for node in wave {
                writeln!(f, "  {}: {}", node.node, names(&node.steps))?;
            }
        }
        let mut told: Vec<&PlannedStep> = Vec::new();
        for step in self.steps() {
            if !told.contains(&step) {
                writeln!(f, "\n{step}")?;
                told.push(step);
            }
        }
        Ok(())
    }
}

fn names(steps: &[PlannedStep]) -> String {
    if steps.is_empty() {
        return "nothing is pending".to_owned();
    }
    let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    names.join(", ")
}

// === impl PlannedNode ===

impl PlannedNode {
    fn of(leg: &Leg) -> Self {
        let engine = leg.node.database().engine();
        let steps = leg.steps.iter();
        Self {
            node: leg.node.id().clone(),
            steps: steps.map(|step| PlannedStep::of(step, engine)).collect(),
        }
    }
}

// === impl PlannedStep ===

impl PlannedStep {
    fn of(step: &Step, engine: Engine) -> Self {
        Self {
            name: step.to_string(),
            sql: step.text(engine),
            apart: step.is_apart(engine),
        }
    }
}

impl fmt::Display for PlannedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.apart {
            ", in no transaction"
        } else {
            ""
        };
        write!(f, "{}{how}", self.name)?;
        let lines = self.sql.lines().filter(|line| !line.trim().is_empty());
        let depth = |line: &str| line.len() - line.trim_start().len();
        let indent = lines.clone().map(depth).min().unwrap_or_default();
        for line in lines {
            write!(f, "\n    {}", line.get(indent..).unwrap_or(line).trim_end())?;
        }
        Ok(())
    }
}
