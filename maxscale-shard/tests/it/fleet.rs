use maxscale_core::fact::VirtualShard;
use maxscale_shard::fleet::{FleetError, Migrate};
use maxscale_shard::{Database, Engine, Fleet, KeyspaceError, Sql, sql};
use tokio::task::JoinSet;

use crate::support::{Nodes, SHARDS, config, note, open, options};

on_both!(
    second_start_finds_names_map_and_rows,
    order_of_the_list_does_not_matter,
    order_does_not_matter_with_the_catalog_apart,
    longer_list_is_refused_saying_what_would_move,
    shorter_and_renamed_lists_are_refused,
    swapped_databases_are_recognised,
    database_listed_twice_is_refused_before_it_is_written,
    database_of_another_fleet_is_recognised,
    direct_url_to_another_database_is_refused,
    other_number_of_virtual_shards_is_refused,
    six_first_starts_at_once_make_one_fleet,
    check_on_an_empty_database_writes_nothing,
    catalog_remembers_the_first_of_many,
);

fn names(fleet: &Fleet) -> Vec<String> {
    let nodes = fleet.router().nodes();
    nodes.iter().map(|node| node.id().to_string()).collect()
}

async fn write(fleet: &Fleet, number: u32) {
    let shard = fleet
        .router()
        .virtual_shard(VirtualShard::new(number))
        .unwrap();
    shard.execute(note(i64::from(number), 0)).await.unwrap();
}

/// The node that holds the row of [`write`], if the router leads there.
async fn found(fleet: &Fleet, number: u32) -> Option<String> {
    let shard = fleet
        .router()
        .virtual_shard(VirtualShard::new(number))
        .unwrap();
    let row = sql("SELECT n FROM note WHERE n = $1").bind(number);
    let row = shard.fetch_optional(row).await.unwrap();
    row.map(|_| shard.node().id().to_string())
}

async fn second_start_finds_names_map_and_rows(engine: Engine) {
    let nodes = Nodes::fresh(engine, 2).await;
    let first = open(nodes.config()).await;
    for number in 0..SHARDS {
        write(&first, number).await;
    }
    let map = first.router().topology();
    first.close().await;

    let second = open(nodes.config()).await;

    assert_eq!(second.router().topology(), map);
    for number in 0..SHARDS {
        let node = if number < SHARDS / 2 {
            "node-1"
        } else {
            "node-2"
        };
        assert_eq!(found(&second, number).await.as_deref(), Some(node));
    }
}

async fn order_of_the_list_does_not_matter(engine: Engine) {
    let nodes = Nodes::fresh(engine, 3).await;
    let [a, b, c] = [0, 1, 2].map(|at| format!("{}={}", ["a", "b", "c"][at], nodes.urls[at]));
    let first = open(config(&[&a, &b, &c])).await;
    write(&first, 0).await;
    let map = first.router().topology();
    first.close().await;

    let second = open(config(&[&c, &a, &b])).await;

    assert_eq!(second.router().topology(), map);
    assert_eq!(names(&second), ["a", "b", "c"]);
    assert_eq!(found(&second, 0).await.as_deref(), Some("a"));
}

async fn order_does_not_matter_with_the_catalog_apart(engine: Engine) {
    let nodes = Nodes::fresh(engine, 3).await;
    let [a, b] = [0, 1].map(|at| format!("{}={}", ["a", "b"][at], nodes.urls[at]));
    let catalog = &nodes.urls[2];
    let first = open(config(&[&a, &b]).catalog(catalog)).await;
    write(&first, 0).await;
    first.close().await;

    let second = open(config(&[&b, &a]).catalog(catalog)).await;

    assert_eq!(names(&second), ["a", "b"]);
    assert_eq!(found(&second, 0).await.as_deref(), Some("a"));
}

async fn refusal(entries: &[&str]) -> FleetError {
    match Fleet::open(config(entries)).await {
        Ok(_) => panic!("{entries:?} was opened"),
        Err(error) => error,
    }
}

async fn longer_list_is_refused_saying_what_would_move(engine: Engine) {
    let nodes = Nodes::fresh(engine, 3).await;
    let [a, b, c] = [0, 1, 2].map(|at| format!("{}={}", ["a", "b", "c"][at], nodes.urls[at]));
    open(config(&[&a, &b])).await.close().await;

    // Wherever in the list the new node stands.
    for list in [[&a, &b, &c], [&c, &a, &b]] {
        let refused = refusal(&list.map(String::as_str)).await;
        let FleetError::Differs(text) = &refused else {
            panic!("{refused:?}");
        };
        // 16 over three nodes are 6, 5 and 5: two leave one node, three the other.
        assert!(text.contains("stored are a, b"), "{text}");
        assert!(text.contains("2 virtual shards from a to c"), "{text}");
        assert!(text.contains("3 virtual shards from b to c"), "{text}");
    }
    // The refused node was not touched, and joins another fleet.
    open(config(&[&c])).await;
}

async fn shorter_and_renamed_lists_are_refused(engine: Engine) {
    let nodes = Nodes::fresh(engine, 2).await;
    let [a, b] = [0, 1].map(|at| format!("{}={}", ["a", "b"][at], nodes.urls[at]));
    open(config(&[&a, &b])).await.close().await;

    let FleetError::Differs(text) = refusal(&[&a]).await else {
        panic!("a shorter list was no difference");
    };
    assert!(text.contains("8 virtual shards from b to a"), "{text}");
    let renamed = format!("z={}", nodes.urls[1]);
    let FleetError::Differs(text) = refusal(&[&a, &renamed]).await else {
        panic!("another name was no difference");
    };
    assert!(text.contains("8 virtual shards from b to z"), "{text}");
}

async fn swapped_databases_are_recognised(engine: Engine) {
    let nodes = Nodes::fresh(engine, 2).await;
    open(nodes.config()).await.close().await;

    let refused = refusal(&[&nodes.urls[1], &nodes.urls[0]]).await;

    assert!(
        matches!(refused, FleetError::WrongNode { .. }),
        "{refused:?}"
    );
    open(nodes.config()).await;
}

async fn database_listed_twice_is_refused_before_it_is_written(engine: Engine) {
    let nodes = Nodes::fresh(engine, 2).await;

    let refused = refusal(&[&nodes.urls[0], &nodes.urls[0]]).await;

    assert!(
        matches!(refused, FleetError::WrongNode { .. }),
        "{refused:?}"
    );
    // Corrected, the list makes a fleet: nothing of the mistake was kept.
    open(nodes.config()).await;
}

async fn database_of_another_fleet_is_recognised(engine: Engine) {
    let nodes = Nodes::fresh(engine, 3).await;
    open(config(&[&nodes.urls[0], &nodes.urls[1]]))
        .await
        .close()
        .await;

    let foreign = config(&[&nodes.urls[0], &nodes.urls[1]]).catalog(&nodes.urls[2]);
    let refused = Fleet::open(foreign).await.unwrap_err();

    assert!(
        matches!(refused, FleetError::WrongNode { .. }),
        "{refused:?}"
    );
    assert!(
        refused.to_string().contains("of another fleet"),
        "{refused}"
    );
}

/// Another text for the same database, as a copied URL may be.
fn alias(url: &str) -> String {
    match url.strip_prefix("sqlite:") {
        Some(path) => format!("sqlite://{path}"),
        None if url.contains('?') => format!("{url}&application_name=x"),
        None => format!("{url}?application_name=x"),
    }
}

async fn direct_url_to_another_database_is_refused(engine: Engine) {
    let nodes = Nodes::fresh(engine, 3).await;
    let [first, second] = [0, 1].map(|at| nodes.urls[at].as_str());
    let [a, b] = [format!("a={first}"), format!("b={second}")];
    let right = [
        format!("{a}|{}", alias(first)),
        format!("{b}|{}", alias(second)),
    ];
    let wrong_a = format!("{a}|{}", alias(second));
    let wrong_b = format!("{b}|{}", alias(first));
    let names = |refused: &FleetError, wrong: &str| {
        let FleetError::OtherDirect { node } = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(node.as_str(), wrong);
    };

    // The node with the catalog, and another: at the first start, and at a later one.
    names(&refusal(&[&wrong_a, &b]).await, "a");
    names(&refusal(&[&a, &wrong_b]).await, "b");
    open(config(&right.each_ref().map(String::as_str)))
        .await
        .close()
        .await;
    names(&refusal(&[&wrong_a, &b]).await, "a");
    names(&refusal(&[&a, &wrong_b]).await, "b");
    // Nothing of the mistakes was kept, and no database of somebody else's is migrated.
    let stray = format!("{b}|{}", nodes.urls[2]);
    names(&refusal(&[&a, &stray]).await, "b");
    let stray = Database::open("stray", &nodes.urls[2], &options()).unwrap();
    assert!(is_empty(&stray).await);
    open(config(&[&a, &b])).await;
    // The same text twice is seen before anybody is asked.
    let refused = refusal(&[&a, &format!("{b}|{first}")]).await;
    assert!(
        matches!(refused, FleetError::WrongNode { .. }),
        "{refused:?}"
    );
}

async fn other_number_of_virtual_shards_is_refused(engine: Engine) {
    let nodes = Nodes::fresh(engine, 2).await;
    open(nodes.config()).await.close().await;

    let refused = Fleet::open(nodes.config().shards(2 * SHARDS))
        .await
        .unwrap_err();

    assert!(
        matches!(
            refused,
            FleetError::Keyspace(KeyspaceError::OtherCount { .. })
        ),
        "{refused:?}"
    );
    let text = refused.to_string();
    assert!(
        text.contains("16 virtual shards for ever, 32 are configured"),
        "{text}"
    );
}

async fn six_first_starts_at_once_make_one_fleet(engine: Engine) {
    let nodes = Nodes::fresh(engine, 2).await;
    let mut starts = JoinSet::new();
    for _ in 0..6 {
        starts.spawn(Fleet::open(nodes.config()));
    }
    let fleets: Vec<Fleet> = (starts.join_all().await.into_iter())
        .map(Result::unwrap)
        .collect();

    for fleet in &fleets {
        assert_eq!(fleet.router().topology(), fleets[0].router().topology());
        assert!(
            fleet
                .router()
                .nodes()
                .iter()
                .all(maxscale_shard::Node::is_ready)
        );
    }
    let one = |text: &'static str| {
        let catalog = fleets[0].catalog();
        async move {
            let row = catalog.fetch_optional(sql(text)).await.unwrap().unwrap();
            row.get::<i64>("n").unwrap()
        }
    };
    assert_eq!(one("SELECT count(*) AS n FROM ms_keyspace").await, 1);
    assert_eq!(one("SELECT count(*) AS n FROM ms_map").await, 1);
    // the catalog's four steps, the node's five and the test's one: each once.
    assert_eq!(one("SELECT count(*) AS n FROM ms_migration").await, 10);
}

async fn is_empty(database: &Database) -> bool {
    let tables = Sql::each(
        "SELECT tablename AS name FROM pg_tables WHERE schemaname = current_schema()",
        "SELECT name FROM sqlite_master",
    );
    let tables = database.fetch_all(tables.statement()).await.unwrap();
    tables.is_empty()
}

async fn check_on_an_empty_database_writes_nothing(engine: Engine) {
    let nodes = Nodes::fresh(engine, 2).await;

    let refused = Fleet::open(nodes.config().migrate(Migrate::Check))
        .await
        .unwrap_err();

    assert!(matches!(refused, FleetError::Pending { .. }), "{refused:?}");
    assert!(
        refused.to_string().contains("maxscale-catalog/1"),
        "{refused}"
    );
    assert!(is_empty(&nodes.database().await).await);

    // Migrated by another start, the same check passes.
    open(nodes.config()).await.close().await;
    open(nodes.config().migrate(Migrate::Check)).await;
}

async fn catalog_remembers_the_first_of_many(engine: Engine) {
    let nodes = Nodes::fresh(engine, 1).await;
    let fleet = std::sync::Arc::new(open(nodes.config()).await);
    let mut asks = JoinSet::new();
    for number in 0..8_u8 {
        let fleet = fleet.clone();
        asks.spawn(async move { fleet.remember("secret", &[number]).await.unwrap() });
    }
    let told = asks.join_all().await;

    assert!(told.iter().all(|value| *value == told[0]), "{told:?}");
    assert_eq!(fleet.remember("secret", b"late").await.unwrap(), told[0]);
}
