//! What is in the databases that no migration made.

use maxscale_shard::fleet::{Change, Drift, Part};
use maxscale_shard::{Database, Engine, Fleet, Migration, MigrationSet, sql};

use crate::support::{Nodes, open, options};

on_both!(
    nothing_is_reported_of_what_migrations_made,
    each_change_by_hand_is_reported_with_its_node_and_table,
    column_that_was_dropped_or_is_of_another_type_is_reported,
    later_migration_does_not_hide_a_change_by_hand,
    accepted_change_is_reported_only_where_nodes_are_unlike,
);

const fn step(version: u32, name: &'static str, text: &'static str) -> Migration {
    Migration {
        version,
        name,
        postgres: text,
        sqlite: text,
    }
}

const FIRST: Migration = step(
    1,
    "first",
    "CREATE TABLE one (n bigint NOT NULL DEFAULT 7, m bigint);
     CREATE INDEX one_m ON one (m);
     CREATE TABLE two (n bigint, CONSTRAINT small CHECK (n < 9));
     CREATE TABLE three (n bigint);
     CREATE TABLE five (n bigint, m bigint)",
);

const LATER: Migration = step(2, "later", "ALTER TABLE one ADD COLUMN late text");

const APP: MigrationSet = MigrationSet {
    owner: "app",
    steps: &[FIRST],
};

const LATER_APP: MigrationSet = MigrationSet {
    owner: "app",
    steps: &[FIRST, LATER],
};

async fn fleet(nodes: &Nodes, set: MigrationSet) -> Fleet {
    open(nodes.config().migrations(set)).await
}

/// Runs `text` on the node of this number.
async fn by_hand(nodes: &Nodes, number: usize, text: &'static str) {
    let database = Database::open("test", &nodes.urls[number - 1], &options()).unwrap();
    database.execute(sql(text)).await.unwrap();
}

async fn drifts(fleet: &Fleet) -> Vec<Drift> {
    let report = fleet.drift().await;
    assert!(report.unseen.is_empty(), "{report}");
    report.drifts
}

fn places(drifts: &[Drift]) -> Vec<String> {
    let place = |drift: &Drift| {
        let how = match &drift.change {
            Change::Added { .. } => "added",
            Change::Dropped { .. } => "dropped",
            Change::Changed { .. } => "changed",
            Change::Unlike { .. } => "unlike",
            _ => "other",
        };
        format!("{} {} {} {how}", drift.node, drift.table, drift.part)
    };
    drifts.iter().map(place).collect()
}

async fn nothing_is_reported_of_what_migrations_made(engine: Engine) {
    let nodes = Nodes::fresh(engine, 2).await;
    let before = fleet(&nodes, APP).await;
    assert_eq!(drifts(&before).await, []);
    before.close().await;

    let after = fleet(&nodes, LATER_APP).await;
    assert_eq!(drifts(&after).await, []);
    assert!(after.drift().await.is_clean());
}

async fn each_change_by_hand_is_reported_with_its_node_and_table(engine: Engine) {
    let nodes = Nodes::fresh(engine, 2).await;
    let fleet = fleet(&nodes, APP).await;
    by_hand(&nodes, 1, "DROP INDEX one_m").await;
    by_hand(&nodes, 2, "ALTER TABLE one ADD COLUMN extra bigint").await;
    by_hand(&nodes, 2, "CREATE INDEX by_hand ON one (n)").await;
    by_hand(&nodes, 2, "DROP TABLE three").await;
    by_hand(&nodes, 2, "CREATE TABLE four (n bigint, m bigint)").await;

    let drifts = drifts(&fleet).await;

    assert_eq!(
        places(&drifts),
        [
            "node-1 one index one_m dropped",
            "node-2 four table added",
            "node-2 one column extra added",
            "node-2 one index by_hand added",
            "node-2 three table dropped",
        ]
    );
    assert_eq!(drifts[2].part, Part::Column("extra".to_owned()));
    let told = drifts[2].to_string();
    assert!(
        told.starts_with("node-2: column extra of one was added: bigint"),
        "{told}"
    );
}

async fn column_that_was_dropped_or_is_of_another_type_is_reported(engine: Engine) {
    let nodes = Nodes::fresh(engine, 2).await;
    let fleet = fleet(&nodes, APP).await;
    by_hand(&nodes, 1, "ALTER TABLE five DROP COLUMN m").await;
    match engine {
        Engine::Postgres => by_hand(&nodes, 2, "ALTER TABLE five ALTER n TYPE text").await,
        // SQLite alters no type but by making the table anew.
        Engine::Sqlite => {
            by_hand(&nodes, 2, "DROP TABLE five").await;
            by_hand(&nodes, 2, "CREATE TABLE five (n text, m bigint)").await;
        }
    }

    let drifts = drifts(&fleet).await;

    assert_eq!(
        places(&drifts),
        [
            "node-1 five column m dropped",
            "node-2 five column n changed",
        ]
    );
    // SQLite writes the types that it knows in its own way.
    let told = drifts[1].to_string().to_lowercase();
    assert!(told.ends_with("was changed: bigint is text"), "{told}");
}

async fn later_migration_does_not_hide_a_change_by_hand(engine: Engine) {
    let nodes = Nodes::fresh(engine, 1).await;
    fleet(&nodes, APP).await.close().await;
    by_hand(&nodes, 1, "ALTER TABLE one ADD COLUMN extra bigint").await;

    let fleet = fleet(&nodes, LATER_APP).await;

    let drifts = drifts(&fleet).await;
    assert_eq!(places(&drifts), ["node-1 one column extra added"]);
}

async fn accepted_change_is_reported_only_where_nodes_are_unlike(engine: Engine) {
    let nodes = Nodes::fresh(engine, 3).await;
    let fleet = fleet(&nodes, APP).await;
    by_hand(&nodes, 1, "ALTER TABLE one ADD COLUMN extra bigint").await;
    fleet.accept_drift().await.unwrap();
    assert_eq!(
        places(&drifts(&fleet).await),
        ["node-1 one column extra unlike"]
    );

    for other in [2, 3] {
        by_hand(&nodes, other, "ALTER TABLE one ADD COLUMN extra bigint").await;
    }
    fleet.accept_drift().await.unwrap();
    assert_eq!(drifts(&fleet).await, []);
}

#[tokio::test]
async fn constraint_default_and_type_are_compared_on_postgres() {
    let nodes = Nodes::fresh(Engine::Postgres, 1).await;
    let fleet = fleet(&nodes, APP).await;
    by_hand(&nodes, 1, "ALTER TABLE two DROP CONSTRAINT small").await;
    by_hand(&nodes, 1, "ALTER TABLE one ALTER COLUMN n SET DEFAULT 8").await;
    by_hand(&nodes, 1, "ALTER TABLE three ALTER COLUMN n TYPE integer").await;

    let drifts = drifts(&fleet).await;

    assert_eq!(
        places(&drifts),
        [
            "node-1 one column n changed",
            "node-1 three column n changed",
            "node-1 two constraint small dropped",
        ]
    );
    let default = Change::Changed {
        recorded: "bigint NOT NULL DEFAULT 7".to_owned(),
        found: "bigint NOT NULL DEFAULT 8".to_owned(),
    };
    assert_eq!(drifts[0].change, default);
}

/// It slows down writes and serves no read.
#[tokio::test]
async fn index_that_was_left_invalid_is_reported() {
    let nodes = Nodes::fresh(Engine::Postgres, 2).await;
    let fleet = fleet(&nodes, APP).await;
    by_hand(&nodes, 1, "INSERT INTO one (n, m) VALUES (1, 1), (1, 1)").await;
    let database = Database::open("test", &nodes.urls[0], &options()).unwrap();
    let unique = sql("CREATE UNIQUE INDEX CONCURRENTLY by_hand ON one (m)");
    database.execute(unique).await.unwrap_err();
    let broken = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'one_m'::regclass";
    by_hand(&nodes, 2, broken).await;

    let drifts = drifts(&fleet).await;

    assert_eq!(
        places(&drifts),
        [
            "node-1 one index by_hand added",
            "node-2 one index one_m changed",
        ]
    );
    for drift in drifts {
        let told = drift.to_string();
        assert!(told.ends_with("INVALID"), "{told}");
    }
}

/// As after a crash between the index and the ledger.
#[tokio::test]
async fn index_that_a_step_found_built_is_no_drift() {
    const INDEX: Migration = Migration {
        version: 2,
        name: "index",
        postgres: "-- no-transaction
            CREATE INDEX CONCURRENTLY IF NOT EXISTS one_n ON one (n)",
        sqlite: "CREATE INDEX one_n ON one (n)",
    };
    const WITH_INDEX: MigrationSet = MigrationSet {
        owner: "app",
        steps: &[FIRST, INDEX],
    };
    let nodes = Nodes::fresh(Engine::Postgres, 2).await;
    fleet(&nodes, APP).await.close().await;
    by_hand(&nodes, 2, "CREATE INDEX one_n ON one (n)").await;

    let fleet = fleet(&nodes, WITH_INDEX).await;

    assert_eq!(drifts(&fleet).await, []);
}
