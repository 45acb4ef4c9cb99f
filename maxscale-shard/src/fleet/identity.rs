use uuid::Uuid;

use super::FleetError;
use super::catalog::stored;
use crate::database::Database;
use crate::keyspace::Keyspace;
use crate::sql::sql;
use crate::topology::NodeId;

/// Writes into a fresh node which node it is; compares on every later start.
pub(super) async fn recognise(
    database: &Database,
    id: &NodeId,
    cluster: Uuid,
    keyspace: &Keyspace,
) -> Result<(), FleetError> {
    let name = sql(
        "INSERT INTO ms_node (only_row, cluster, name, shards, tag, vindex)
         VALUES (1, $1, $2, $3, $4, $5) ON CONFLICT (only_row) DO NOTHING",
    );
    let name = name.bind(cluster).bind(id.as_str());
    let name = (name.bind(keyspace.shards()))
        .bind(u32::from(keyspace.tag().get()))
        .bind(keyspace.vindex().to_string());
    let mut conn = database.writer().await?;
    conn.execute(name).await?;
    let row = conn
        .fetch_one(sql(
            "SELECT cluster, name, shards, tag, vindex FROM ms_node WHERE only_row = 1",
        ))
        .await?;
    let (found_cluster, found): (Uuid, String) = (row.get("cluster")?, row.get("name")?);
    let wrong = |found| {
        Err(FleetError::WrongNode {
            expected: id.clone(),
            found,
        })
    };
    if found_cluster != cluster {
        return wrong(format!("{found} of another fleet ({found_cluster})"));
    }
    if found != id.as_str() {
        return wrong(found);
    }
    let found_keyspace = stored(&row)?;
    if found_keyspace != *keyspace {
        return wrong(format!("{found} with the {found_keyspace}"));
    }
    Ok(())
}
