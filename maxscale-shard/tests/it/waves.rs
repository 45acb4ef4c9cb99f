//! Migrating every node in waves.

use std::num::NonZeroUsize;
use std::path::Path;

use maxscale_shard::fleet::{Rollout, RolloutError, Waves};
use maxscale_shard::{
    Database, Engine, Fleet, FleetConfig, Migration, MigrationSet, NodeId, ShardError, sql,
};
use maxscale_tests::{Process, eventually};

use crate::support::{LIMIT, Nodes, config, open, options};

on_both!(
    canary_comes_first_and_then_wave_after_wave,
    failing_node_stops_the_waves_after_its_own,
    of_two_starters_one_runs_each_step_and_neither_hangs,
    starter_gives_up_on_one_that_goes_on_and_on,
    killed_in_a_wave_it_resumes_where_it_was,
    nothing_runs_where_one_ledger_is_that_of_a_newer_program,
    dry_run_tells_what_would_run_and_writes_nothing,
    canary_that_is_no_node_is_refused,
);

const TABLE: &str = "CREATE TABLE one (n bigint)";

/// Fails where it runs twice, and tells when it ran.
const SECOND: Migration = Migration {
    version: 2,
    name: "second",
    postgres: "ALTER TABLE one ADD COLUMN at bigint;
        INSERT INTO one (n, at)
        VALUES (2, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)",
    sqlite: "ALTER TABLE one ADD COLUMN at bigint;
        INSERT INTO one (n, at)
        VALUES (2, CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER))",
};

const FIRST: Migration = Migration {
    version: 1,
    name: "first",
    postgres: TABLE,
    sqlite: TABLE,
};

pub(crate) const APP: MigrationSet = MigrationSet {
    owner: "app",
    steps: &[FIRST, SECOND],
};

const BEFORE: MigrationSet = MigrationSet {
    owner: "app",
    steps: &[FIRST],
};

fn id(number: usize) -> NodeId {
    NodeId::new(&format!("node-{number}")).unwrap()
}

/// Four nodes with the first step.
pub(crate) async fn begun(engine: Engine) -> Nodes {
    let nodes = Nodes::fresh(engine, 4).await;
    let fleet = open(nodes.config().migrations(BEFORE)).await;
    fleet.close().await;
    nodes
}

/// A handle of its own to the node of this number.
pub(crate) async fn database(nodes: &Nodes, number: usize) -> Database {
    let database = Database::open("test", &nodes.urls[number - 1], &options()).unwrap();
    database.reach().await.unwrap();
    database
}

/// When the second step ran on the node; none if it did not.
pub(crate) async fn at(nodes: &Nodes, number: usize) -> Option<i64> {
    let rows = sql("SELECT at FROM one WHERE n = 2");
    let rows = database(nodes, number).await.fetch_all(rows).await.ok()?;
    assert_eq!(rows.len(), 1, "it ran twice");
    Some(rows[0].get("at").unwrap())
}

fn waves_of(rollout: &Rollout) -> Vec<(usize, &str)> {
    let nodes = rollout.nodes.iter();
    nodes.map(|node| (node.wave, node.node.as_str())).collect()
}

/// Whether the second step ran on each node, as the rollout tells.
fn ran(rollout: &Rollout) -> Vec<bool> {
    let second = "app/2 second".to_owned();
    let ran = |node: &maxscale_shard::fleet::NodeRollout| {
        assert_ne!(node.ran.contains(&second), node.pending.contains(&second));
        node.ran.contains(&second)
    };
    rollout.nodes.iter().map(ran).collect()
}

async fn canary_comes_first_and_then_wave_after_wave(engine: Engine) {
    let nodes = begun(engine).await;
    let config = || nodes.config().migrations(APP);
    let waves = Waves::new().canary(id(3)).by("a person");

    let done = Fleet::migrate(config(), &waves).await.unwrap();

    let order = [(1, "node-3"), (2, "node-1"), (2, "node-2"), (3, "node-4")];
    assert_eq!(waves_of(&done), order);
    assert_eq!(ran(&done), [true; 4]);
    let mut times = Vec::new();
    for number in 1..=4 {
        times.push(at(&nodes, number).await.unwrap());
    }
    assert!(times[2] < times[0].min(times[1]), "{times:?}");
    assert!(times[0].max(times[1]) < times[3], "{times:?}");

    let fleet = open(config()).await;
    let noted = fleet.rolled_out().await.unwrap();
    let noted = noted.iter().filter(|done| done.step == "app/2 second");
    let noted: Vec<_> = noted
        .map(|done| (done.node.as_str(), done.wave, done.by.as_deref()))
        .collect();
    assert_eq!(noted.len(), 4);
    assert_eq!(noted[0], ("node-3", 1, Some("a person")));
    assert_eq!(noted[3], ("node-4", 3, Some("a person")));
}

async fn failing_node_stops_the_waves_after_its_own(engine: Engine) {
    let nodes = begun(engine).await;
    let config = || nodes.config().migrations(APP);
    let third = database(&nodes, 3).await;
    let by_hand = "ALTER TABLE one ADD COLUMN at bigint";
    third.execute(sql(by_hand)).await.unwrap();

    let stopped = Fleet::migrate(config(), &Waves::new()).await.unwrap_err();

    let RolloutError::Stopped { wave: 2, rollout } = &stopped else {
        panic!("{stopped:?}");
    };
    assert_eq!(stopped.to_string(), "the rollout stopped in wave 2: node-3");
    let failed = |node: &maxscale_shard::fleet::NodeRollout| node.failure.is_some();
    let failed: Vec<bool> = rollout.nodes.iter().map(failed).collect();
    assert_eq!(failed, [false, false, true, false]);
    let pending = |node: &maxscale_shard::fleet::NodeRollout| node.pending.clone();
    let pending: Vec<_> = rollout.nodes[2..].iter().map(pending).collect();
    assert_eq!(pending, [["app/2 second"], ["app/2 second"]]);
    assert!(at(&nodes, 2).await.is_some());
    assert!(at(&nodes, 4).await.is_none(), "a later wave was begun");

    let back = "ALTER TABLE one DROP COLUMN at";
    third.execute(sql(back)).await.unwrap();
    let done = Fleet::migrate(config(), &Waves::new()).await.unwrap();
    let ran: Vec<usize> = done.nodes.iter().map(|node| node.ran.len()).collect();
    assert_eq!(ran, [0, 0, 1, 1]);
}

async fn of_two_starters_one_runs_each_step_and_neither_hangs(engine: Engine) {
    let nodes = begun(engine).await;
    let starters = [1, 2].map(|number| {
        let config = nodes.config().migrations(APP);
        let waves = Waves::new().by(format!("starter {number}"));
        tokio::spawn(async move { Fleet::migrate(config, &waves).await.unwrap() })
    });

    let mut ran = 0;
    for starter in starters {
        let done = starter.await.unwrap();
        ran += done.nodes.iter().map(|node| node.ran.len()).sum::<usize>();
    }

    assert_eq!(ran, 4);
    for number in 1..=4 {
        assert!(at(&nodes, number).await.is_some());
    }
}

async fn starter_gives_up_on_one_that_goes_on_and_on(engine: Engine) {
    let nodes = begun(engine).await;
    let held = "INSERT INTO ms_rollout (only_row, fence, holder, lease_until)
        VALUES (1, 1, 'somebody', 9000000000000000000)";
    let catalog = nodes.database().await;
    catalog.execute(sql(held)).await.unwrap();

    let config = nodes.config().migrations(APP).wait(LIMIT / 12);
    let refused = Fleet::migrate(config, &Waves::new()).await.unwrap_err();

    assert!(
        matches!(&refused, RolloutError::Held { by } if by == "somebody"),
        "{refused:?}"
    );
    assert!(at(&nodes, 1).await.is_none());
}

const URLS: &str = "MAXSCALE_TEST_WAVES_URLS";

/// The process that is killed; run by the test below and by nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of another test"]
#[expect(
    clippy::disallowed_methods,
    reason = "how one test tells another process of it what to do"
)]
async fn starter() {
    let Ok(urls) = std::env::var(URLS) else {
        return;
    };
    let config = config(&urls.split(',').collect::<Vec<_>>()).migrations(APP);
    Fleet::migrate(config, &Waves::new()).await.unwrap();
}

async fn killed_in_a_wave_it_resumes_where_it_was(engine: Engine) {
    let nodes = begun(engine).await;
    // Nobody alters the table on the third node while somebody reads it.
    let third = database(&nodes, 3).await;
    let mut reading = third.begin().await.unwrap();
    let read = sql("SELECT n FROM one");
    reading.fetch_all(read).await.unwrap();
    let process = Process::builder(std::env::current_exe().unwrap())
        .args(["waves::starter", "--exact", "--ignored"])
        .env(URLS, nodes.urls.join(","))
        .start();
    eventually(LIMIT, async || at(&nodes, 2).await).await;
    process.kill();
    reading.rollback().await.unwrap();
    assert!(at(&nodes, 1).await.is_some());
    assert!(at(&nodes, 3).await.is_none());
    assert!(at(&nodes, 4).await.is_none());

    let config = nodes.config().migrations(APP);
    let resumed = Fleet::migrate(config, &Waves::new()).await.unwrap();

    let ran: Vec<usize> = resumed.nodes.iter().map(|node| node.ran.len()).collect();
    assert_eq!(ran, [0, 0, 1, 1]);
    for number in 1..=4 {
        assert!(at(&nodes, number).await.is_some());
    }
}

async fn nothing_runs_where_one_ledger_is_that_of_a_newer_program(engine: Engine) {
    let nodes = begun(engine).await;
    let newer = "INSERT INTO ms_migration (owner, version, name, checksum)
        VALUES ('app', 9, 'ninth', '')";
    let last = database(&nodes, 4).await;
    last.execute(sql(newer)).await.unwrap();

    let config = nodes.config().migrations(APP);
    let refused = Fleet::migrate(config, &Waves::new()).await.unwrap_err();

    let RolloutError::Refused { rollout } = &refused else {
        panic!("{refused:?}");
    };
    let failure = rollout.nodes[3].failure.as_ref().unwrap();
    let newer = |error: &ShardError| matches!(error, ShardError::Newer { .. });
    assert!(
        matches!(failure, maxscale_shard::fleet::FleetError::Shard(error) if newer(error)),
        "{failure:?}"
    );
    assert!(
        rollout.to_string().contains("app/9 ninth is unknown"),
        "{rollout}"
    );
    assert!(at(&nodes, 1).await.is_none(), "a node was migrated");
}

/// Every table's name, or every file's.
async fn written(nodes: &Nodes) -> Vec<String> {
    let mut names = Vec::new();
    for (number, url) in (1..).zip(&nodes.urls) {
        if let Some(path) = url.strip_prefix("sqlite:")
            && !Path::new(path).exists()
        {
            continue;
        }
        let tables = maxscale_shard::Sql::each(
            "SELECT tablename AS name FROM pg_tables WHERE schemaname = current_schema()
             ORDER BY tablename",
            "SELECT name || COALESCE(sql, '') AS name FROM sqlite_master ORDER BY name",
        );
        for row in database(nodes, number)
            .await
            .fetch_all(tables.statement())
            .await
            .unwrap()
        {
            names.push(format!("{number} {}", row.get::<String>("name").unwrap()));
        }
        let ledger = sql("SELECT owner FROM ms_migration");
        let ledger = database(nodes, number).await.fetch_all(ledger).await;
        names.push(ledger.map_or(0, |rows| rows.len()).to_string());
    }
    names
}

async fn dry_run_tells_what_would_run_and_writes_nothing(engine: Engine) {
    let waves = Waves::new().canary(id(2)).width(NonZeroUsize::MIN);
    let fresh = Nodes::fresh(engine, 2).await;
    let before = written(&fresh).await;
    let plan = Fleet::plan(fresh.config().migrations(APP), &waves)
        .await
        .unwrap();
    assert_eq!(written(&fresh).await, before);
    assert!(
        plan.to_string().contains("maxscale-catalog/1 keyspace"),
        "{plan}"
    );

    let nodes = begun(engine).await;
    let config = || -> FleetConfig { nodes.config().migrations(APP) };
    let before = written(&nodes).await;
    let plan = Fleet::plan(config(), &waves).await.unwrap();
    assert_eq!(written(&nodes).await, before);

    assert!(plan.catalog.is_empty());
    let order: Vec<&str> = (plan.waves.iter().flatten())
        .map(|node| node.node.as_str())
        .collect();
    assert_eq!(order, ["node-2", "node-1", "node-3", "node-4"]);
    assert_eq!(plan.waves.len(), 4, "one node each");
    for node in plan.waves.iter().flatten() {
        assert_eq!(node.steps.len(), 1);
        assert_eq!(node.steps[0].name, "app/2 second");
    }
    let told = plan.to_string();
    assert!(
        told.contains("wave 1, the canary\n  node-2: app/2 second"),
        "{told}"
    );
    assert_eq!(
        told.matches("ALTER TABLE one ADD COLUMN at bigint").count(),
        1
    );

    Fleet::migrate(config(), &waves).await.unwrap();
    assert!(Fleet::plan(config(), &waves).await.unwrap().is_empty());
}

async fn canary_that_is_no_node_is_refused(engine: Engine) {
    let nodes = begun(engine).await;
    let waves = Waves::new().canary(id(7));
    for refused in [
        Fleet::plan(nodes.config(), &waves).await.map(drop),
        Fleet::migrate(nodes.config(), &waves).await.map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert!(
            matches!(&refused, RolloutError::Unknown { node } if *node == id(7)),
            "{refused:?}"
        );
    }
}
