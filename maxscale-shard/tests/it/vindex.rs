use std::fs;

use maxscale_core::clock::Clock;
use maxscale_core::fact::{RegionId, VirtualShard};
use maxscale_core::id::{Id, IdGenerator, KeyspaceTag};
use maxscale_shard::{Engine, Key, Vindex, sql};
use uuid::Uuid;

use crate::support::Nodes;

/// A page of the book, whose statements are what users run.
fn statement(page: &str, after: &str) -> String {
    let book = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/decisions/");
    let book = fs::read_to_string(format!("{book}{page}")).unwrap();
    let (_, after) = book.split_once(after).unwrap();
    let (_, after) = after.split_once("```sql\n").unwrap();
    after.split_once("```").unwrap().0.to_owned()
}

/// Keys as a client sends them, and how PostgreSQL makes text of them.
struct Keys {
    sent: Vec<String>,
    cast: &'static str,
    /// The key of `sent`, as Rust code has it.
    key: fn(&str) -> Key<'_>,
}

/// `each` keys of every kind that has a text: whoever spells a UUID in capitals
/// or a number with a sign gets the same place.
fn keys(from: u64, each: u64) -> [Keys; 3] {
    // Odd, so that no two numbers meet.
    let spread = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let uuid = |n| Uuid::from_u64_pair(spread(n), spread(!n)).to_string();
    let number = |n: u64| match n {
        0 => i64::MIN,
        1 => i64::MAX,
        n if n % 2 == 0 => i64::try_from(n / 2).unwrap(),
        n => spread(n).cast_signed(),
    };
    let text = |n: u64| match n % 4 {
        // The first of all is the empty one.
        0 if n == 0 => String::new(),
        0 => format!(" schlüssel 🎵 {n}\t"),
        1 => format!("tenant-{n}@example.org"),
        2 => format!("鍵{}", spread(n)),
        _ => "a\u{301}".repeat(usize::try_from(n % 90).unwrap()) + &n.to_string(),
    };
    let range = from..from + each;
    [
        Keys {
            sent: range.clone().map(|n| uuid(n).to_uppercase()).collect(),
            cast: "::uuid::text",
            key: |sent| Uuid::parse_str(sent).unwrap().into(),
        },
        Keys {
            sent: range.clone().map(|n| format!("{:+}", number(n))).collect(),
            cast: "::bigint::text",
            key: |sent| sent.parse::<i64>().unwrap().into(),
        },
        Keys {
            sent: range.map(text).collect(),
            cast: "",
            key: |sent| sent.into(),
        },
    ]
}

/// Holds Md5, Sha256 and Region to the statements of the book.
async fn formulas_give_what_postgres_gives(count: u32, from: u64, each: u64) {
    let nodes = Nodes::fresh(Engine::Postgres, 1).await;
    let database = nodes.database().await;
    let told = statement("0001-virtual-shards.md", "In PostgreSQL:").replace("1024", "$2");
    let eu: RegionId = RegionId::new("eu").unwrap();
    let us: RegionId = RegionId::new("us").unwrap();
    let by_region: Vindex = "region:eu=0+256,us=256+512".parse().unwrap();
    for Keys { sent, cast, key } in keys(from, each) {
        let text = format!(
            "WITH named (key, region, at) AS (
                 SELECT t.key{cast}, CASE at % 2 WHEN 0 THEN 'eu' ELSE 'us' END, at
                 FROM unnest(string_to_array($1, chr(10))) WITH ORDINALITY AS t (key, at)
             ), told AS ({told} ORDER BY at)
             SELECT by_md5, by_sha256, CAST(by_region AS bigint) AS by_region FROM told"
        );
        let asked = sql(text.leak()).bind(sent.join("\n")).bind(count);
        let rows = database.fetch_all(asked).await.unwrap();
        assert_eq!(rows.len(), sent.len());
        for (at, (sent, row)) in (1..).zip(sent.iter().zip(rows)) {
            let key = key(sent).within(if at % 2 == 0 { &eu } else { &us });
            let told = |name| row.get::<i64>(name).unwrap();
            for (vindex, told) in [
                (&Vindex::Md5, told("by_md5")),
                (&Vindex::Sha256, told("by_sha256")),
                (&by_region, told("by_region")),
            ] {
                let ours = vindex.shard(key, count).unwrap().as_i64();
                assert_eq!(ours, told, "{vindex} of {key:?} among {count}");
            }
        }
    }
}

#[tokio::test]
async fn formulas_give_what_postgres_gives_for_some_keys() {
    for count in [1024, 1000, 7, 131_072] {
        formulas_give_what_postgres_gives(count, 0, 1_000).await;
    }
}

/// Run by `cargo test -p maxscale-shard --all-features --test it -- --ignored million`.
#[tokio::test]
#[ignore = "a million keys take 15 s"]
async fn formulas_give_what_postgres_gives_for_a_million_keys() {
    for from in (0..334_000).step_by(33_400) {
        formulas_give_what_postgres_gives(1024, from, 33_400).await;
    }
}

/// The statement that the book tells users of `engine`, over a relation `named (id)`.
fn told_by_the_book(engine: Engine) -> String {
    let engine = match engine {
        Engine::Postgres => "In PostgreSQL:",
        Engine::Sqlite => "In SQLite:",
    };
    statement("0002-ids-carry-their-shard.md", engine)
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
