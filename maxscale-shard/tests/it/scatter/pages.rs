use maxscale_core::fact::VirtualShard;
use maxscale_core::keys::{KeyRing, Keys, Secret};
use maxscale_core::refusal::{Class, Classify};
use maxscale_shard::scatter::{
    Cursor, CursorError, KeyType, Listing, OnFailure, OrderBy, OrderKey, Page, ScatterError,
};
use maxscale_shard::{Engine, SlotMove, sql};

use super::fixture::{NODES, SHARDS, Thing, Things, by_id, ids, one_each, specs, things};

on_both!(
    pages_of_every_size_are_all_rows_in_order,
    cursor_survives_a_change_of_the_map,
    cursor_opens_in_its_own_listing_only,
    order_that_does_not_tell_rows_apart_is_refused,
    page_without_a_node_says_so,
);

fn keys(key: u8) -> Keys {
    Keys::new(KeyRing::new(1, Secret::new([key; 32])).unwrap())
}

fn listing(order: OrderBy) -> Listing {
    Listing::new("things", order, keys(1))
}

async fn page(
    things: &Things,
    listing: &Listing,
    rows: u32,
    from: Option<&Cursor>,
) -> Result<Page, ScatterError> {
    things
        .router
        .scatter(self::things())
        .page(listing, rows, from)
        .await
}

/// All pages, by way of the cursors' text.
async fn turned(things: &Things, listing: &Listing, rows: u32) -> Vec<Thing> {
    let (mut found, mut from) = (Vec::new(), None::<Cursor>);
    loop {
        let page = page(things, listing, rows, from.as_ref()).await.unwrap();
        assert!(page.failures.is_empty());
        assert!(page.next.is_none() || page.rows.len() == rows as usize);
        found.extend(page.rows.iter().map(Thing::read));
        match page.next {
            Some(next) => from = Some(next.to_string().parse().unwrap()),
            None => return found,
        }
    }
}

/// Every kind of null, tie and direction, small enough to turn page by page.
fn mixed() -> Vec<Thing> {
    let mut things = Vec::new();
    for n in 0..96_u32 {
        let pick = |of: &[&str], by: u32| of[(n / by) as usize % of.len()].to_owned();
        things.push(Thing {
            shard: n * 7 % SHARDS,
            id: u128::from(n) << 64,
            n: (n % 5 != 0).then_some(i64::from(n % 3) - 1),
            name: (n % 4 != 0).then(|| pick(&["a", "B", "", "ä"], 4)),
            flag: (n % 7 != 0).then_some(n % 2 == 0),
            raw: (n % 6 != 0).then(|| pick(&["\0", "a", ""], 6).into_bytes()),
            owner: None,
        });
    }
    things
}

async fn pages_of_every_size_are_all_rows_in_order(engine: Engine) {
    let things = Things::fresh(engine).await;
    things.fill(&mixed()).await;
    use KeyType::{Bool, Bytes, I64, Text, Uuid};
    let orders = [
        vec![OrderKey::desc("id", Uuid)],
        vec![OrderKey::desc("shard_id", I64), OrderKey::desc("id", Uuid)],
        vec![
            OrderKey::desc("n", I64).nulls_first(),
            OrderKey::asc("name", Text).nulls_last(),
            OrderKey::asc("id", Uuid),
        ],
        vec![
            OrderKey::asc("n", I64).nulls_last(),
            OrderKey::desc("flag", Bool).nulls_last(),
            OrderKey::asc("raw", Bytes).nulls_first(),
            OrderKey::desc("id", Uuid),
        ],
        vec![
            OrderKey::desc("name", Text).nulls_last(),
            OrderKey::asc("flag", Bool).nulls_first(),
            OrderKey::asc("id", Uuid),
        ],
    ];
    for order in orders {
        let order = OrderBy::new(order).unwrap();
        let wanted = things.merged(&order).await.unwrap();
        assert_eq!(wanted.len(), 96);
        for rows in [1, 7, 95, 96, 97] {
            assert_eq!(turned(&things, &listing(order.clone()), rows).await, wanted);
        }
    }
}

async fn cursor_survives_a_change_of_the_map(engine: Engine) {
    let things = Things::fresh(engine).await;
    things.fill(&one_each()).await;
    let listing = listing(by_id());
    let (mut found, mut from) = (Vec::new(), None);
    for turn in 0..NODES {
        let page = page(&things, &listing, 10, from.as_ref()).await.unwrap();
        found.extend(page.rows.iter().map(Thing::read));
        from = page.next;
        // A quarter of the keyspace goes round; what it leaves behind stays.
        let map = things.router.topology();
        let node = |at: usize| map.nodes()[at % NODES].clone();
        let quarter = SHARDS / 4 * u32::try_from(turn).unwrap();
        let moved: Vec<u32> = (quarter..quarter + SHARDS / 4).collect();
        let rows = one_each()
            .into_iter()
            .filter(|thing| moved.contains(&thing.shard));
        things
            .put((turn + 1) % NODES, &rows.collect::<Vec<_>>())
            .await;
        let moves = moved.iter().map(|shard| SlotMove {
            shard: VirtualShard::new(*shard),
            from: node(turn),
            to: node(turn + 1),
        });
        let map = map
            .change()
            .apply(&moves.collect::<Vec<_>>())
            .build()
            .unwrap();
        things
            .router
            .reload(map, &specs(&things.nodes.urls))
            .unwrap();
    }
    let rest = page(&things, &listing, 100, from.as_ref()).await.unwrap();
    found.extend(rest.rows.iter().map(Thing::read));
    assert_eq!(ids(&found), ids(&one_each()));
}

async fn cursor_opens_in_its_own_listing_only(engine: Engine) {
    let things = Things::fresh(engine).await;
    things.fill(&one_each()).await;
    let own = listing(by_id());
    let cursor = page(&things, &own, 3, None).await.unwrap().next.unwrap();
    let other_order = OrderBy::new([OrderKey::desc("id", KeyType::Uuid)]).unwrap();
    // Who cannot open a cursor asks nobody.
    for at in 0..NODES {
        things
            .node(at)
            .execute(sql("DROP TABLE thing"))
            .await
            .unwrap();
    }
    let refused = async |listing: &Listing, cursor: &Cursor| {
        let refused = page(&things, listing, 3, Some(cursor)).await.unwrap_err();
        assert_eq!(refused.class(), Class::Invalid, "{refused:?}");
        assert!(matches!(
            refused,
            ScatterError::Cursor(CursorError::Foreign(_))
        ));
    };
    refused(&Listing::new("other things", by_id(), keys(1)), &cursor).await;
    refused(&Listing::new("things", by_id(), keys(2)), &cursor).await;
    refused(&listing(other_order), &cursor).await;
    let text = cursor.to_string();
    for at in 0..text.len() {
        let digit = if &text[at..=at] == "0" { "1" } else { "0" };
        let changed = format!("{}{digit}{}", &text[..at], &text[at + 1..]);
        refused(&own, &changed.parse().unwrap()).await;
    }
    refused(&own, &text[..text.len() - 2].parse().unwrap()).await;
    for text in [
        "",
        "0",
        "zz",
        "ÄÄ",
        &"00".repeat(Cursor::MOST_BYTES + 1),
        &text.to_uppercase(),
    ] {
        assert!(
            matches!(text.parse::<Cursor>(), Err(CursorError::Text)),
            "{text}"
        );
    }
    // Its own listing gets as far as the tables.
    let asked = page(&things, &own, 3, Some(&cursor)).await;
    assert!(matches!(asked, Err(ScatterError::Failed { .. })));
    for rows in [0, 1_001] {
        let refused = page(&things, &own, rows, None).await;
        assert!(matches!(refused, Err(ScatterError::PageSize { .. })));
    }
}

async fn order_that_does_not_tell_rows_apart_is_refused(engine: Engine) {
    let things = Things::fresh(engine).await;
    let twin = |shard| Thing {
        shard,
        id: shard.into(),
        n: Some(1),
        ..Thing::default()
    };
    things.fill(&[twin(0), twin(SHARDS - 1)]).await;
    let order = OrderBy::new([OrderKey::asc("n", KeyType::I64)]).unwrap();
    let refused = page(&things, &listing(order), 1, None).await;
    assert!(matches!(refused, Err(ScatterError::NotUnique)));
}

async fn page_without_a_node_says_so(engine: Engine) {
    let things = Things::fresh(engine).await;
    things.fill(&one_each()).await;
    things
        .node(0)
        .execute(sql("DROP TABLE thing"))
        .await
        .unwrap();
    let scatter = things.router.scatter(self::things());
    let enough = scatter.on_failure(OnFailure::BestEffort { min_ok: 1 });
    let page = enough.page(&listing(by_id()), 5, None).await.unwrap();
    assert_eq!(page.failures[0].node.as_str(), "node-1");
    let found: Vec<Thing> = page.rows.iter().map(Thing::read).collect();
    assert_eq!(ids(&found), [17, 18, 19, 20, 21]);
}
