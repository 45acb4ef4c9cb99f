//! Steps that PostgreSQL runs in no transaction.

use maxscale_shard::{Engine, Fleet, Migration, MigrationSet, ShardError, fleet::FleetError, sql};

use crate::support::{Nodes, open};

const TABLE: Migration = Migration {
    version: 1,
    name: "table",
    postgres: "CREATE TABLE one (n bigint NOT NULL); INSERT INTO one (n) VALUES (1), (1)",
    sqlite: "CREATE TABLE one (n bigint NOT NULL)",
};

const INDEX: Migration = Migration {
    version: 2,
    name: "index",
    postgres: "-- no-transaction
        CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS one_n ON one (n)",
    sqlite: "CREATE UNIQUE INDEX one_n ON one (n)",
};

const AFTER: Migration = Migration {
    version: 3,
    name: "after",
    postgres: "ALTER TABLE one REPLICA IDENTITY USING INDEX one_n",
    sqlite: "SELECT 1",
};

const APP: MigrationSet = MigrationSet {
    owner: "app",
    steps: &[TABLE, INDEX, AFTER],
};

const IS_VALID: &str =
    "SELECT indisvalid AS valid FROM pg_index WHERE indexrelid = 'one_n'::regclass";

#[tokio::test]
async fn index_that_was_left_invalid_is_built_anew() {
    let nodes = Nodes::fresh(Engine::Postgres, 1).await;
    let config = || nodes.config().migrations(APP);
    let refused = Fleet::open(config()).await.unwrap_err();
    assert!(
        refused.to_string().contains("app/2 index failed"),
        "{refused}"
    );
    let database = nodes.database().await;
    let left = database.fetch_optional(sql(IS_VALID)).await.unwrap();
    assert!(!left.unwrap().get::<bool>("valid").unwrap());

    database.execute(sql("DELETE FROM one")).await.unwrap();
    open(config()).await.close().await;

    let built = database.fetch_optional(sql(IS_VALID)).await.unwrap();
    assert!(built.unwrap().get::<bool>("valid").unwrap());
}

#[tokio::test]
async fn index_is_built_once_by_several_starters() {
    const EMPTY: Migration = Migration {
        postgres: "CREATE TABLE one (n bigint NOT NULL)",
        ..TABLE
    };
    const EMPTY_APP: MigrationSet = MigrationSet {
        owner: "app",
        steps: &[EMPTY, INDEX, AFTER],
    };
    let nodes = Nodes::fresh(Engine::Postgres, 1).await;

    let starts = [1, 2, 3].map(|_| tokio::spawn(open(nodes.config().migrations(EMPTY_APP))));
    for start in starts {
        start.await.unwrap().close().await;
    }

    let database = nodes.database().await;
    let built = database.fetch_optional(sql(IS_VALID)).await.unwrap();
    assert!(built.unwrap().get::<bool>("valid").unwrap());
}

#[tokio::test]
async fn step_that_cannot_run_again_is_refused_before_any_runs() {
    const BAD: Migration = Migration {
        postgres: "-- no-transaction
            CREATE INDEX CONCURRENTLY one_n ON one (n)",
        ..INDEX
    };
    const BAD_APP: MigrationSet = MigrationSet {
        owner: "app",
        steps: &[TABLE, BAD],
    };
    let nodes = Nodes::fresh(Engine::Postgres, 1).await;

    let refused = Fleet::open(nodes.config().migrations(BAD_APP)).await;

    let refused = refused.unwrap_err();
    let FleetError::Shard(ShardError::Migration { why, .. }) = &refused else {
        panic!("{refused:?}");
    };
    assert!(why.contains("IF NOT EXISTS"), "{why}");
    let database = nodes.database().await;
    let one = database.fetch_all(sql("SELECT n FROM one")).await;
    assert!(one.is_err(), "the step before it ran");
}
