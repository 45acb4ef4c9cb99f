use std::fs;

use maxscale_core::clock::Clock;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::{Id, IdGenerator, KeyspaceTag};
use maxscale_shard::{Engine, Vindex, sql};
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

/// The statement that the book tells users of `engine`, over a relation `named (id)`.
fn told_by_the_book(engine: Engine) -> String {
    let book = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/src/decisions/0002-ids-carry-their-shard.md"
    );
    let book = fs::read_to_string(book).unwrap();
    let engine = match engine {
        Engine::Postgres => "PostgreSQL:",
        Engine::Sqlite => "SQLite:",
    };
    let (_, after) = book.split_once(engine).unwrap();
    let (_, after) = after.split_once("```sql\n").unwrap();
    after.split_once("```").unwrap().0.to_owned()
}

on_both!(shard_and_keyspace_of_an_id_are_read_by_the_books_sql);

async fn shard_and_keyspace_of_an_id_are_read_by_the_books_sql(engine: Engine) {
    let nodes = Nodes::fresh(engine, 1).await;
    let database = nodes.database().await;
    let text = format!(
        "WITH named (id) AS (SELECT $1), told AS ({})
         SELECT CAST(shard AS bigint) AS shard, CAST(keyspace AS bigint) AS keyspace FROM told",
        told_by_the_book(engine)
    );
    let text: &'static str = text.leak();
    let read = async |id: Id| {
        let row = database.fetch_optional(sql(text).bind(id)).await.unwrap();
        let row = row.unwrap();
        let part = |name| row.get::<i64>(name).unwrap();
        (part("shard"), part("keyspace"))
    };
    for (golden, shard, keyspace) in [
        ("00000000-0000-7000-8000-000000000000", 0, 0),
        ("ffffffff-ffff-7fff-bfff-ffffffffffff", 131_071, 31),
        ("01991234-5678-7abc-ab4b-531122334455", 0x1_5a5a, 0x13),
        ("018bcfe5-6800-7001-807f-e10000000001", 1_023, 1),
    ] {
        let read = read(golden.parse().unwrap()).await;
        assert_eq!(read, (shard, keyspace), "{golden}");
    }
    for bit in 0..17 {
        let tag = KeyspaceTag::new(1 << (bit % 5)).unwrap();
        let ids = IdGenerator::new(Clock::system(), tag);
        let id = ids.draw(VirtualShard::new(1 << bit));
        assert_eq!(read(id).await, (1 << bit, i64::from(tag.get())), "{id}");
    }
}
