use maxscale_core::Chain;
use maxscale_shard::{Engine, Fleet, Migration, MigrationSet, ShardError, fleet::FleetError, sql};

use crate::support::{Nodes, open};

on_both!(
    edited_migration_is_refused,
    failing_migration_is_named_and_leaves_nothing,
    later_steps_run_on_the_next_start,
    older_program_starts_where_a_newer_one_migrated_and_migrates_nothing,
);

const fn step(version: u32, name: &'static str, text: &'static str) -> Migration {
    Migration {
        version,
        name,
        postgres: text,
        sqlite: text,
    }
}

const FIRST: Migration = step(1, "first", "CREATE TABLE one (n bigint PRIMARY KEY)");

fn set(steps: &'static [Migration]) -> MigrationSet {
    MigrationSet {
        owner: "app",
        steps,
    }
}

async fn edited_migration_is_refused(engine: Engine) {
    const EDITED: Migration = step(1, "first", "CREATE TABLE one (n text PRIMARY KEY)");
    let nodes = Nodes::fresh(engine, 1).await;
    open(nodes.config().migrations(set(&[FIRST])))
        .await
        .close()
        .await;

    let refused = Fleet::open(nodes.config().migrations(set(&[EDITED])))
        .await
        .unwrap_err();

    let FleetError::Shard(ShardError::Migration { .. }) = &refused else {
        panic!("{refused:?}");
    };
    assert!(
        refused.to_string().contains("app/1 first was edited"),
        "{refused}"
    );
}

async fn failing_migration_is_named_and_leaves_nothing(engine: Engine) {
    const BAD: Migration = step(
        2,
        "second",
        "CREATE TABLE two (n bigint); INSERT INTO absent (n) VALUES (1)",
    );
    let nodes = Nodes::fresh(engine, 1).await;

    let refused = Fleet::open(nodes.config().migrations(set(&[FIRST, BAD])))
        .await
        .unwrap_err();

    let FleetError::Shard(ShardError::Migration { .. }) = &refused else {
        panic!("{refused:?}");
    };
    assert!(refused.to_string().contains("app/2 second"), "{refused}");
    assert!(
        Chain(&refused).to_string().contains("absent"),
        "{}",
        Chain(&refused)
    );
    let database = nodes.database().await;
    for table in ["SELECT n FROM one", "SELECT n FROM two"] {
        assert!(database.fetch_all(sql(table)).await.is_err(), "{table}");
    }
}

async fn later_steps_run_on_the_next_start(engine: Engine) {
    const SECOND: Migration = step(
        2,
        "second",
        "CREATE TABLE two (n bigint); INSERT INTO two (n) VALUES (2)",
    );
    let nodes = Nodes::fresh(engine, 1).await;
    open(nodes.config().migrations(set(&[FIRST])))
        .await
        .close()
        .await;

    for _ in 0..2 {
        let fleet = open(nodes.config().migrations(set(&[FIRST, SECOND]))).await;
        fleet.close().await;
    }

    let database = nodes.database().await;
    assert_eq!(
        database
            .fetch_all(sql("SELECT n FROM two"))
            .await
            .unwrap()
            .len(),
        1
    );
}

async fn older_program_starts_where_a_newer_one_migrated_and_migrates_nothing(engine: Engine) {
    const NEWER: Migration = step(3, "third", "CREATE TABLE three (n bigint)");
    const OTHER: Migration = step(2, "second", "CREATE TABLE two (n bigint)");
    let nodes = Nodes::fresh(engine, 1).await;
    open(nodes.config().migrations(set(&[FIRST, NEWER])))
        .await
        .close()
        .await;

    open(nodes.config().migrations(set(&[FIRST])))
        .await
        .close()
        .await;
    let refused = Fleet::open(nodes.config().migrations(set(&[FIRST, OTHER])))
        .await
        .unwrap_err();

    let FleetError::Shard(ShardError::Newer { steps, .. }) = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(steps, "app/3 third");
    let database = nodes.database().await;
    let two = sql("SELECT n FROM two");
    assert!(database.fetch_all(two).await.is_err(), "it was migrated");
}
