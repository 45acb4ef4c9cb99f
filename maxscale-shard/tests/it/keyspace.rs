//! What is fixed for ever when a fleet is created, stored and compared.

use std::collections::BTreeSet;

use maxscale_core::id::KeyspaceTag;
use maxscale_shard::fleet::FleetError;
use maxscale_shard::{Database, Engine, Fleet, KeyspaceError, Node, Vindex, sql};

use crate::support::{Nodes, note, open, options};

on_both!(
    other_vindex_or_tag_is_refused,
    node_of_another_keyspace_is_recognised,
    fleet_from_before_vindexes_goes_on_by_id,
    text_keys_are_found_again_after_a_restart,
);

async fn other_vindex_or_tag_is_refused(engine: Engine) {
    let nodes = Nodes::fresh(engine, 2).await;
    open(nodes.config().vindex(Vindex::Md5)).await.close().await;

    let other = [
        nodes.config(),
        nodes.config().vindex("region:eu=0+16".parse().unwrap()),
        nodes
            .config()
            .vindex(Vindex::Md5)
            .tag(KeyspaceTag::new(1).unwrap()),
    ];
    let told = [
        "the keyspace has the vindex md5 for ever, id is configured",
        "the keyspace has the vindex md5 for ever, region:eu=0+16 is configured",
        "the keyspace has the tag 0 for ever, 1 is configured",
    ];
    for (other, told) in other.into_iter().zip(told) {
        let refused = Fleet::open(other).await.unwrap_err();
        assert!(matches!(refused, FleetError::Keyspace(_)), "{refused:?}");
        assert_eq!(refused.to_string(), told);
    }
}

async fn node_of_another_keyspace_is_recognised(engine: Engine) {
    let nodes = Nodes::fresh(engine, 2).await;
    open(nodes.config()).await.close().await;
    for (change, told) in [
        (
            "UPDATE ms_node SET vindex = 'md5'",
            "16 virtual shards by md5",
        ),
        (
            "UPDATE ms_node SET vindex = 'id', tag = 5",
            "keyspace 5 of 16",
        ),
    ] {
        let second = Database::open("second", &nodes.urls[1], &options()).unwrap();
        second.execute(sql(change)).await.unwrap();
        second.close().await;

        let refused = Fleet::open(nodes.config()).await.unwrap_err();

        assert!(
            matches!(refused, FleetError::WrongNode { .. }),
            "{refused:?}"
        );
        assert!(refused.to_string().contains(told), "{refused}");
    }
}

/// Takes away what the second step of each set brought.
async fn as_before_vindexes(url: &str, table: &'static str) {
    let database = Database::open("old", url, &options()).unwrap();
    for column in ["tag", "vindex"] {
        let text = format!("ALTER TABLE {table} DROP COLUMN {column}");
        database.execute(sql(text.leak())).await.unwrap();
    }
    let step = "DELETE FROM ms_migration WHERE version = 2 AND owner LIKE 'maxscale%'";
    database.execute(sql(step)).await.unwrap();
    database.close().await;
}

async fn fleet_from_before_vindexes_goes_on_by_id(engine: Engine) {
    let nodes = Nodes::fresh(engine, 2).await;
    open(nodes.config()).await.close().await;
    as_before_vindexes(&nodes.urls[0], "ms_keyspace").await;
    for url in &nodes.urls {
        as_before_vindexes(url, "ms_node").await;
    }

    let refused = Fleet::open(nodes.config().vindex(Vindex::Md5)).await;
    assert!(matches!(
        refused.unwrap_err(),
        FleetError::Keyspace(KeyspaceError::OtherVindex { .. })
    ));
    let fleet = open(nodes.config()).await;
    assert!(fleet.router().nodes().iter().all(Node::is_ready));
}

async fn text_keys_are_found_again_after_a_restart(engine: Engine) {
    let nodes = Nodes::fresh(engine, 2).await;
    let config = || nodes.config().vindex(Vindex::Xxh3);
    let tenants: Vec<String> = (0..20).map(|n| format!("tenant-{n}")).collect();
    let fleet = open(config()).await;
    for (n, tenant) in (0_i64..).zip(&tenants) {
        let shard = fleet.router().shard(tenant).unwrap();
        shard.execute(note(n, shard.id().as_i64())).await.unwrap();
    }
    fleet.close().await;

    let fleet = open(config()).await;
    let mut used = BTreeSet::new();
    for (n, tenant) in (0_i64..).zip(&tenants) {
        let shard = fleet.router().shard(tenant).unwrap();
        let row = sql("SELECT part FROM note WHERE n = $1").bind(n);
        let row = shard.fetch_optional(row).await.unwrap().unwrap();
        assert_eq!(row.get::<i64>("part").unwrap(), shard.id().as_i64());
        used.insert(shard.node().id().clone());
    }
    assert_eq!(used.len(), 2);
}
