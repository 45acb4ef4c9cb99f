//! What a database says of its tables, and what was recorded of them.

use super::Shape;
use crate::error::ShardError;
use crate::sql::{Conn, Sql, sql};

/// Where it is recorded.
pub(crate) const RECORD: Sql = Sql::both(
    "CREATE TABLE IF NOT EXISTS ms_schema (
        only_row integer PRIMARY KEY CHECK (only_row = 1),
        body text NOT NULL
    )",
);

const HAS_RECORD: Sql = Sql::each(
    "SELECT 1 AS present FROM pg_catalog.pg_tables
     WHERE tablename = 'ms_schema' AND schemaname = current_schema()",
    "SELECT 1 AS present FROM sqlite_master WHERE type = 'table' AND name = 'ms_schema'",
);

/// Every table but those of extensions and partitions of another. From
/// PostgreSQL 18 on, NOT NULL is a constraint too; here it belongs to its column.
const FOUND: Sql = Sql::each(
    "WITH t AS (
        SELECT c.oid, c.relname::text AS name, c.relkind::text || c.relpersistence::text AS kind
        FROM pg_catalog.pg_class AS c
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND NOT EXISTS (
            SELECT 1 FROM pg_catalog.pg_depend AS e
            WHERE e.objid = c.oid AND e.deptype = 'e' AND e.classid = 'pg_catalog.pg_class'::regclass
        )
     )
     SELECT t.name AS of_table, 'table' AS part, '' AS name, t.kind AS definition FROM t
     UNION ALL
     SELECT t.name, 'column', a.attname::text,
        pg_catalog.format_type(a.atttypid, a.atttypmod)
        || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
        || COALESCE(' DEFAULT ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid), '')
        || CASE WHEN a.attidentity = '' THEN '' ELSE ' IDENTITY ' || a.attidentity::text END
        || CASE WHEN a.attgenerated = '' THEN '' ELSE ' GENERATED ' || a.attgenerated::text END
        || COALESCE(' COLLATE ' || o.collname::text, '')
     FROM t
     JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.oid
     LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     LEFT JOIN pg_catalog.pg_collation AS o ON o.oid = a.attcollation AND o.collname <> 'default'
     WHERE a.attnum > 0 AND NOT a.attisdropped
     UNION ALL
     SELECT t.name, 'index', i.relname::text,
        pg_catalog.pg_get_indexdef(x.indexrelid)
        || CASE WHEN x.indisvalid THEN '' ELSE ' INVALID' END
     FROM t
     JOIN pg_catalog.pg_index AS x ON x.indrelid = t.oid
     JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
     UNION ALL
     SELECT t.name, 'constraint', k.conname::text, pg_catalog.pg_get_constraintdef(k.oid)
     FROM t
     JOIN pg_catalog.pg_constraint AS k ON k.conrelid = t.oid
     WHERE k.contype NOT IN ('n', 't')",
    "SELECT m.name AS of_table, 'table' AS part, '' AS name, m.sql AS definition
     FROM sqlite_master AS m WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite~_%' ESCAPE '~'
     UNION ALL
     SELECT m.name, 'column', c.name,
        c.type || CASE WHEN c.\"notnull\" = 1 THEN ' NOT NULL' ELSE '' END
        || COALESCE(' DEFAULT ' || c.dflt_value, '')
        || CASE WHEN c.pk = 0 THEN '' ELSE ' KEY ' || c.pk END
     FROM sqlite_master AS m, pragma_table_xinfo(m.name) AS c
     WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite~_%' ESCAPE '~'
     UNION ALL
     SELECT m.tbl_name, 'index', m.name, COALESCE(m.sql, 'of a constraint')
     FROM sqlite_master AS m WHERE m.type = 'index'",
);

/// What is there.
pub(crate) async fn found(conn: &mut Conn) -> Result<Shape, ShardError> {
    let mut shape = Shape::default();
    for row in conn.fetch_all(FOUND.statement()).await? {
        let text = |column| row.get::<String>(column);
        let (part, table, name) = (text("part")?, text("of_table")?, text("name")?);
        shape.put(&part, &table, &name, &text("definition")?);
    }
    Ok(shape)
}

/// What was recorded, if anything was.
pub(crate) async fn recorded(conn: &mut Conn) -> Result<Option<Shape>, ShardError> {
    if conn.fetch_optional(HAS_RECORD.statement()).await?.is_none() {
        return Ok(None);
    }
    let body = sql("SELECT body FROM ms_schema WHERE only_row = 1");
    let row = conn.fetch_optional(body).await?;
    row.map(|row| Ok(Shape::parse(&row.get::<String>("body")?)))
        .transpose()
}

/// Records `shape` in the place of what was.
pub(crate) async fn record(conn: &mut Conn, shape: &Shape) -> Result<(), ShardError> {
    let record = sql("INSERT INTO ms_schema (only_row, body) VALUES (1, $1)
         ON CONFLICT (only_row) DO UPDATE SET body = excluded.body");
    conn.execute(record.bind(shape.text())).await.map(drop)
}
