use uuid::Uuid;

use super::FleetError;
use crate::database::Database;
use crate::sql::sql;
use crate::topology::NodeId;

/// Writes into a fresh node which node it is; compares on every later start.
pub(super) async fn recognise(
    database: &Database,
    id: &NodeId,
    cluster: Uuid,
    shards: u32,
) -> Result<(), FleetError> {
    let name = sql(
        "INSERT INTO ms_node (only_row, cluster, name, shards) VALUES (1, $1, $2, $3)
         ON CONFLICT (only_row) DO NOTHING",
    );
    let name = name.bind(cluster).bind(id.as_str()).bind(shards);
    let mut conn = database.writer().await?;
    conn.execute(name).await?;
    let row = conn
        .fetch_one(sql(
            "SELECT cluster, name, shards FROM ms_node WHERE only_row = 1",
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
    let found_shards: i64 = row.get("shards")?;
    if found_shards != i64::from(shards) {
        return wrong(format!("{found} with {found_shards} virtual shards"));
    }
    Ok(())
}
