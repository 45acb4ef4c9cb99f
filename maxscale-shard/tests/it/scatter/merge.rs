use std::fmt::Write as _;

use maxscale_shard::scatter::{KeyType, OrderBy, OrderKey};
use maxscale_shard::{Database, Engine, Sql, sql};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::fixture::{NODES, SHARDS, Thing, Things, by_id, ids, insert, make_table, one_each};
use crate::support::Nodes;

on_both!(
    merged_rows_are_in_one_databases_order,
    shards_are_asked_for_where_a_new_map_says,
    only_the_shards_that_were_named_are_asked_for,
);

/// A column of an order, for the crate and for the one database.
#[derive(Clone, Debug)]
struct By {
    column: &'static str,
    descending: bool,
    nulls_first: bool,
}

fn by() -> impl Strategy<Value = Vec<By>> {
    let columns = Just(vec!["n", "name", "flag", "raw"]).prop_shuffle();
    let ways = prop::collection::vec(any::<(bool, bool)>(), 0..4);
    (columns, ways).prop_map(|(columns, ways)| {
        let by = |(column, (descending, nulls_first))| By {
            column,
            descending,
            nulls_first,
        };
        columns.into_iter().zip(ways).map(by).collect()
    })
}

/// Of few different values, so that there are ties.
fn thing() -> impl Strategy<Value = Thing> {
    let name = prop::sample::select(vec![
        "", "a", "A", "b", "B", "Ab", "ä", "é", "Z", "a\u{301}", "😀", "\u{e000}",
    ]);
    let raw = prop::sample::select(vec![&b""[..], b"\0", b"\0\0", b"\xff", b"a", b"a\0"]);
    let n = prop_oneof![Just(i64::MIN), Just(i64::MAX), -2..3_i64];
    (
        0..SHARDS,
        any::<u128>(),
        prop::option::of(n),
        prop::option::of(name),
        any::<Option<bool>>(),
        prop::option::of(raw),
    )
        .prop_map(|(shard, id, n, name, flag, raw)| Thing {
            shard,
            id,
            n,
            name: name.map(str::to_owned),
            flag,
            raw: raw.map(<[u8]>::to_vec),
            owner: None,
        })
}

/// For the crate: by these columns, and by the id in the end.
fn order(by: &[By]) -> OrderBy {
    let key = |by: &By| {
        let of = match by.column {
            "n" => KeyType::I64,
            "name" => KeyType::Text,
            "flag" => KeyType::Bool,
            _ => KeyType::Bytes,
        };
        let key = match by.descending {
            true => OrderKey::desc(by.column, of),
            false => OrderKey::asc(by.column, of),
        };
        if by.nulls_first {
            key.nulls_first()
        } else {
            key.nulls_last()
        }
    };
    let keys = by.iter().map(key);
    OrderBy::new(keys.chain([OrderKey::desc("id", KeyType::Uuid)])).unwrap()
}

/// The same as somebody writes it who has all rows in one place.
async fn ordered_by_one(database: &Database, by: &[By]) -> Vec<Thing> {
    let mut text = "SELECT * FROM thing ORDER BY ".to_owned();
    for By {
        column,
        descending,
        nulls_first,
    } in by
    {
        let collation = match (*column, database.engine()) {
            ("name", Engine::Postgres) => "COLLATE \"C\"",
            ("name", Engine::Sqlite) => "COLLATE BINARY",
            _ => "",
        };
        let direction = if *descending { "DESC" } else { "ASC" };
        let nulls = if *nulls_first { "FIRST" } else { "LAST" };
        write!(text, "{column} {collation} {direction} NULLS {nulls}, ").unwrap();
    }
    text += "id DESC";
    let rows = database.fetch_all(sql(text.leak())).await.unwrap();
    rows.iter().map(Thing::read).collect()
}

async fn merged_rows_are_in_one_databases_order(engine: Engine) {
    let things = Things::fresh(engine).await;
    let alone = Nodes::fresh(engine, 1).await;
    let one = alone.database().await;
    make_table(&one).await;
    let mut config = Config::with_cases(24);
    config.failure_persistence = None;
    config.max_shrink_iters = 64;
    let cases = (prop::collection::vec(thing(), 0..60), by());
    let told = block_in_place(|| {
        TestRunner::new(config).run(&cases, |(rows, by)| {
            Handle::current().block_on(async {
                things.clear().await;
                things.fill(&rows).await;
                one.execute(sql("DELETE FROM thing")).await.unwrap();
                insert(one.clone(), &rows).await;
                let merged = things.merged(&order(&by)).await.unwrap();
                prop_assert_eq!(merged, ordered_by_one(&one, &by).await);
                Ok(())
            })
        })
    });
    told.unwrap();
}

async fn shards_are_asked_for_where_a_new_map_says(engine: Engine) {
    let things = Things::fresh(engine).await;
    things.fill(&one_each()).await;
    let wanted = ids(&one_each());
    assert_eq!(ids(&things.merged(&by_id()).await.unwrap()), wanted);

    // The first node's rows go to the last one, and copies stay behind.
    let first = one_each()
        .into_iter()
        .filter(|thing| thing.shard < SHARDS / 4);
    things.put(NODES - 1, &first.collect::<Vec<_>>()).await;
    let map = things.router.topology();
    let (from, to) = (map.nodes()[0].clone(), map.nodes()[NODES - 1].clone());
    let moves = (0..SHARDS / 4).map(|shard| maxscale_shard::SlotMove {
        shard: maxscale_core::fact::VirtualShard::new(shard),
        from: from.clone(),
        to: to.clone(),
    });
    let moves: Vec<_> = moves.collect();
    let map = map.change().apply(&moves).build().unwrap();
    let specs = super::fixture::specs(&things.nodes.urls);
    things.router.reload(map, &specs).unwrap();

    assert_eq!(ids(&things.merged(&by_id()).await.unwrap()), wanted);
    let rows = things.router.scatter(super::fixture::things()).rows().await;
    let nodes: Vec<String> = (rows.unwrap().value.iter())
        .map(|rows| format!("{} {}", rows.node, rows.rows.len()))
        .collect();
    assert_eq!(nodes, ["node-2 16", "node-3 16", "node-4 32"]);
}

async fn only_the_shards_that_were_named_are_asked_for(engine: Engine) {
    let things = Things::fresh(engine).await;
    things.fill(&one_each()).await;
    let named = [17, 3, 20, 3].map(maxscale_core::fact::VirtualShard::new);
    const ABOVE: Sql =
        Sql::both("SELECT id, n FROM thing WHERE n > $1 AND shard_id = ANY($shards) AND n < $2");
    let asked = ABOVE.statement().bind(3_i64).bind(20_i64);
    let rows = things
        .router
        .scatter(asked)
        .among(named)
        .rows()
        .await
        .unwrap();
    let found: Vec<i64> = (rows.value.iter())
        .flat_map(|rows| &rows.rows)
        .map(|row| row.get("n").unwrap())
        .collect();
    assert_eq!(found, [17]);
    assert_eq!(rows.value.len(), 2);
}
