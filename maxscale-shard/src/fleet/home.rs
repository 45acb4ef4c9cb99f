use maxscale_core::Chain;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::patience::Patience;
use super::{FleetConfig, FleetError, NodeSpec, SpecError};
use crate::database::{Database, Opener};
use crate::error::ShardError;
use crate::router::Node;
use crate::sql::{Conn, Row, Sql, Statement, sql};
use crate::topology::NodeId;

/// What a database knows of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Holds {
    /// The catalog.
    Catalog,
    /// Its own name, so that a catalog exists somewhere.
    Name(String),
    /// Nothing: it is fresh.
    Nothing,
}

/// The catalog's own database.
pub(super) fn apart(url: &str, opener: &Opener) -> Result<Node, ShardError> {
    let spec = NodeSpec::parse(&format!("catalog={url}"), 0);
    let spec = spec.map_err(|error| ShardError::Url {
        database: "catalog".into(),
        why: match error {
            SpecError::Region(_) => "its region is not 1 to 63 of a-z, 0-9 and -".into(),
            _ => "it is empty".into(),
        },
    })?;
    Node::open(&spec, opener, None)
}

/// Whether the catalog is there, and not only a database to make one in.
pub(super) async fn holds(node: &Node) -> Result<bool, ShardError> {
    Ok(look(node.database()).await? == Holds::Catalog)
}

/// Finds the database that holds the catalog: the one `apart` if there is one,
/// else a node, by its place in the list.
///
/// The first start makes it apart or on the first of its list. A later list may
/// be in another order or begin with a new node, so all are asked, and none is
/// made before each has said that it knows of no fleet: the one that is away
/// may hold the catalog, or the name of a node of its fleet.
pub(super) async fn find(
    nodes: &[Node],
    apart: Option<&Node>,
    config: &FleetConfig,
    start: Instant,
) -> Result<usize, FleetError> {
    let place = apart.map(|_| nodes.len());
    let may_hold = |at: usize| place.is_none_or(|place| place == at);
    let mut asked_twice = false;
    let mut patience = Patience::until(start + config.wait);
    loop {
        let mut looks = JoinSet::new();
        for (at, node) in nodes.iter().chain(apart).cloned().enumerate() {
            looks.spawn(async move { (at, look(node.database()).await) });
        }
        let (mut known, mut away) = (None, Vec::new());
        while let Some(looked) = looks.join_next().await {
            let (at, look) = looked.expect("a look neither panics nor is aborted");
            match look {
                Ok(Holds::Catalog) if may_hold(at) => return Ok(at),
                Ok(Holds::Catalog) => known = Some((at, "the catalog".to_owned())),
                // The catalog's own database may be a node's as well, and then is listed.
                Ok(Holds::Name(name)) if place != Some(at) => known = Some((at, name)),
                Ok(Holds::Name(_) | Holds::Nothing) => {}
                Err(error) if error.may_pass() => away.push((at, error)),
                Err(error) => return Err(error.into()),
            }
        }
        let unseen = away.iter().any(|(at, _)| may_hold(*at));
        match known {
            None if away.is_empty() => return Ok(place.unwrap_or(0)),
            // Another process's first start may have come in between, so all are asked twice.
            Some(_) if !unseen && !asked_twice => asked_twice = true,
            Some((at, name)) if !unseen => {
                return Err(FleetError::WrongNode {
                    expected: config.nodes[at].id.clone(),
                    found: format!("{name} of another fleet, whose catalog is somewhere else"),
                });
            }
            known => {
                for (_, error) in &away {
                    tracing::info!(error = %Chain(error), "waiting for a database");
                }
                if !patience.pause().await {
                    return Err(given_up(away, known.is_some(), place, config));
                }
            }
        }
    }
}

/// Why there is no catalog, and none is made.
fn given_up(
    mut away: Vec<(usize, ShardError)>,
    known: bool,
    place: Option<usize>,
    config: &FleetConfig,
) -> FleetError {
    away.sort_by_key(|(at, _)| *at);
    let listed: Vec<NodeId> = (away.iter())
        .filter_map(|(at, _)| Some(config.nodes.get(*at)?.id.clone()))
        .collect();
    // It is the catalog that is missing if it exists, or if nobody is there at all.
    let missing = match place {
        Some(place) => away.iter().any(|(at, _)| *at == place),
        None => known || listed.len() == config.nodes.len(),
    };
    let waited = config.wait;
    let (_, source) = away.pop().expect("what is given up is away");
    if missing {
        FleetError::NoCatalog { waited, source }
    } else {
        FleetError::FirstStart {
            missing: listed,
            waited,
            source,
        }
    }
}

const HAS_TABLE: Sql = Sql::each(
    "SELECT 1 AS present FROM pg_catalog.pg_tables
     WHERE tablename = $1 AND schemaname = current_schema()",
    "SELECT 1 AS present FROM sqlite_master WHERE type = 'table' AND name = $1",
);

async fn look(database: &Database) -> Result<Holds, ShardError> {
    database.reach().await?;
    let mut conn = database.writer().await?;
    let keyspace = sql("SELECT 1 AS present FROM ms_keyspace");
    if row_of(&mut conn, "ms_keyspace", keyspace).await?.is_some() {
        return Ok(Holds::Catalog);
    }
    let name = sql("SELECT name FROM ms_node");
    Ok(match row_of(&mut conn, "ms_node", name).await? {
        Some(row) => Holds::Name(row.get("name")?),
        None => Holds::Nothing,
    })
}

pub(super) async fn has_table(conn: &mut Conn, table: &'static str) -> Result<bool, ShardError> {
    let there = HAS_TABLE.statement().bind(table);
    Ok(conn.fetch_optional(there).await?.is_some())
}

/// The first row of `statement`, if `table` is there at all.
pub(super) async fn row_of(
    conn: &mut Conn,
    table: &'static str,
    statement: Statement,
) -> Result<Option<Row>, ShardError> {
    if !has_table(conn, table).await? {
        return Ok(None);
    }
    conn.fetch_optional(statement).await
}
