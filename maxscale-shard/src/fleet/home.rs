use maxscale_core::Chain;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{FleetConfig, FleetError, PAUSE};
use crate::database::Database;
use crate::error::ShardError;
use crate::sql::{Conn, Row, Sql, Statement, sql};

/// What a listed node knows of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Holds {
    /// The catalog.
    Catalog,
    /// Its own name, so that a catalog exists somewhere.
    Name(String),
    /// Nothing: it is fresh.
    Nothing,
}

/// Finds the node that holds the catalog, where no URL names one.
///
/// The first start takes the first of its list. A later list may be in another
/// order or begin with a new node, so the nodes are asked; while one that may
/// hold the catalog is away, none is made elsewhere.
pub(super) async fn find(
    databases: &[Database],
    config: &FleetConfig,
    start: Instant,
) -> Result<usize, FleetError> {
    let mut complete_before = false;
    loop {
        let mut looks = JoinSet::new();
        for (at, database) in databases.iter().cloned().enumerate() {
            looks.spawn(async move { (at, look(&database).await) });
        }
        let (mut names, mut fresh_first, mut away) = (Vec::new(), false, None);
        while let Some(looked) = looks.join_next().await {
            let (at, look) = looked.expect("a look neither panics nor is aborted");
            match look {
                Ok(Holds::Catalog) => return Ok(at),
                Ok(Holds::Name(name)) => names.push((at, name)),
                Ok(Holds::Nothing) => fresh_first |= at == 0,
                Err(error) if error.is_unreachable() => away = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        match (names.pop(), away) {
            (None, _) if fresh_first => return Ok(0),
            // Another process's first start may have come in between, so all are asked twice.
            (Some((at, name)), None) if complete_before => {
                return Err(FleetError::WrongNode {
                    expected: config.nodes[at].id.clone(),
                    found: format!("{name} of a fleet whose catalog is none of the listed nodes"),
                });
            }
            (_, None) => complete_before = true,
            (_, Some(source)) if start.elapsed() >= config.wait => {
                return Err(FleetError::NoCatalog {
                    waited: config.wait,
                    source,
                });
            }
            (_, Some(error)) => {
                tracing::info!(error = %Chain(&error), "waiting for the node with the catalog");
                sleep(PAUSE).await;
            }
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

/// The first row of `statement`, if `table` is there at all.
async fn row_of(
    conn: &mut Conn,
    table: &'static str,
    statement: Statement,
) -> Result<Option<Row>, ShardError> {
    let there = HAS_TABLE.statement().bind(table);
    if conn.fetch_optional(there).await?.is_none() {
        return Ok(None);
    }
    conn.fetch_optional(statement).await
}
