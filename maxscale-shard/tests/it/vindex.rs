use maxscale_core::clock::Clock;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::{Id, IdGenerator, KeyspaceTag};
use maxscale_shard::{Engine, Sql, Vindex, sql};
use uuid::Uuid;

use crate::support::Nodes;

/// Decimal numbers, UUIDs, and text beyond ASCII.
fn keys() -> Vec<String> {
    let numbers = (0..1_000).map(|n: u32| n.to_string());
    let uuids = (0..900).map(|_| Uuid::new_v4().to_string());
    let texts = (0..100).map(|n| format!("schlüssel 🎵 {n}"));
    numbers.chain(uuids).chain(texts).collect()
}

#[tokio::test]
async fn formulas_give_what_postgres_gives() {
    let nodes = Nodes::fresh(Engine::Postgres, 1).await;
    let database = nodes.database().await;
    let keys = keys();
    let text = sql(
        "SELECT ABS(('x' || md5(key))::bit(64)::bigint % $2) AS by_md5,
                ('x' || substr(encode(sha256(convert_to(key, 'UTF8')), 'hex'), 1, 8))::bit(32)::bigint
                    % $2 AS by_sha256
         FROM unnest(string_to_array($1, chr(10))) WITH ORDINALITY AS t (key, at) ORDER BY at",
    );
    for count in [1024, 1000, 7, 131_072] {
        let asked = text.clone().bind(keys.join("\n")).bind(count);
        let rows = database.fetch_all(asked).await.unwrap();
        assert_eq!(rows.len(), keys.len());
        for (key, row) in keys.iter().zip(rows) {
            let ours = |vindex: Vindex| vindex.shard(key.as_bytes(), count).as_i64();
            assert_eq!(
                ours(Vindex::Md5),
                row.get::<i64>("by_md5").unwrap(),
                "{key} {count}"
            );
            assert_eq!(
                ours(Vindex::Sha256),
                row.get::<i64>("by_sha256").unwrap(),
                "{key} {count}"
            );
        }
    }
}

/// The expressions of the 17 bits after the variant, fixed for ever with the layout.
const SHARD_OF_ID: Sql = Sql::each(
    "SELECT (('x' || substr($1::uuid::text, 20, 4) || substr($1::uuid::text, 25, 4))::bit(32)::bigint
             >> 13) & 131071 AS shard",
    "WITH RECURSIVE digit (at, n) AS (
         VALUES (16, 0)
         UNION ALL
         SELECT at + 1, n * 16 + instr('123456789ABCDEF', substr(hex($1), at + 1, 1))
         FROM digit WHERE at < 24
     )
     SELECT (n >> 13) & 131071 AS shard FROM digit WHERE at = 24",
);

on_both!(shard_of_an_id_is_read_by_sql);

async fn shard_of_an_id_is_read_by_sql(engine: Engine) {
    let nodes = Nodes::fresh(engine, 1).await;
    let database = nodes.database().await;
    let ids = IdGenerator::new(Clock::system(), KeyspaceTag::new(31).unwrap());
    for shard in [0, 1, 255, 1023, 65_535, 65_536, 131_070, 131_071] {
        let id: Id = ids.draw(VirtualShard::new(shard));
        let asked = SHARD_OF_ID.statement().bind(id);
        let row = database.fetch_optional(asked).await.unwrap().unwrap();
        assert_eq!(row.get::<i64>("shard").unwrap(), i64::from(shard), "{id}");
    }
}
