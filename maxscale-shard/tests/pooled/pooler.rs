//! What is different behind a pooler.

use std::fs;
use std::process::Command;
use std::time::Duration;

use maxscale_shard::{Database, DatabaseOptions, ShardError, Statement, sql};
use maxscale_tests::{PgBouncer, PostgresServer, eventually};
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;

use crate::support::{LIMIT, config, note, open, options};

/// A pooler of the test's own, before an empty database.
async fn own() -> (PgBouncer, maxscale_tests::Database) {
    let server = PostgresServer::shared().await;
    (PgBouncer::start(server).await, server.database().await)
}

/// Changes one line of the pooler's configuration, which it has yet to read.
fn reconfigure(pooler: &PgBouncer, from: &str, to: &str) {
    let file = pooler.folder().unwrap().join("pgbouncer.ini");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(&file, text.replace(from, to)).unwrap();
}

fn at(pooler: &PgBouncer, database: &maxscale_tests::Database, parameters: &str) -> Database {
    let url = format!("{}?{parameters}", pooler.url_of(database));
    Database::open("pooled", &url, &options()).unwrap()
}

fn setting(name: &'static str) -> Statement {
    sql("SELECT setting FROM pg_settings WHERE name = $1").bind(name)
}

async fn shown(database: &Database, name: &'static str) -> String {
    let row = database.fetch_optional(setting(name)).await.unwrap();
    row.unwrap().get("setting").unwrap()
}

/// What sqlx wants by default at the start of a session, PgBouncer refuses by default.
#[tokio::test]
async fn pooler_that_ignores_no_startup_parameter_is_enough() {
    let (pooler, database) = own().await;
    let ignored = "ignore_startup_parameters = extra_float_digits";
    reconfigure(&pooler, ignored, "ignore_startup_parameters =");
    // Restarted, it would refuse whoever waits for it too.
    let reload = ["-HUP".to_owned(), pooler.pid().unwrap().to_string()];
    assert!(
        Command::new("kill")
            .args(reload)
            .status()
            .unwrap()
            .success()
    );
    let url = pooler.url_of(&database);
    eventually(LIMIT, async || PgConnection::connect(&url).await.is_err()).await;

    at(&pooler, &database, "pooler=prepared")
        .reach()
        .await
        .unwrap();
}

/// One that is older than 1.21, or does not want to know of prepared statements.
#[tokio::test]
async fn statements_run_behind_a_pooler_without_prepared_ones() {
    let (pooler, database) = own().await;
    let known = "max_prepared_statements = 100";
    reconfigure(&pooler, known, "max_prepared_statements = 0");
    pooler.restart().await;
    let unprepared = at(&pooler, &database, "pooler=unprepared");
    let table = sql("CREATE TABLE note (n bigint, part bigint, PRIMARY KEY (n, part))");
    unprepared.execute(table).await.unwrap();

    // Many at once, so that no client keeps its session of the server for long.
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let unprepared = unprepared.clone();
        tasks.spawn(async move {
            for n in (0..160).filter(|n| n % 8 == task) {
                unprepared.execute(note(n, 1)).await.unwrap();
                let twice = unprepared.execute(note(n, 1)).await.unwrap_err();
                assert!(matches!(twice, ShardError::Unique { .. }), "{twice:?}");
                let seen = sql("SELECT part FROM note WHERE n = $1").bind(n);
                assert_eq!(unprepared.fetch_all(seen.clone()).await.unwrap().len(), 1);
                let mut tx = unprepared.begin().await.unwrap();
                tx.execute(note(n, 2)).await.unwrap();
                assert!(tx.fetch_optional(seen).await.unwrap().is_some());
                tx.commit().await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let all = unprepared.fetch_all(sql("SELECT n FROM note")).await;
    assert_eq!(all.unwrap().len(), 320);

    // Without saying so it is an error, sooner or later.
    let prepared = at(&pooler, &database, "pooler=prepared");
    eventually(LIMIT, async || {
        let mut failed = prepared.fetch_all(sql("SELECT 1 AS one")).await.is_err();
        let _elsewhere = unprepared.begin().await.unwrap();
        failed |= prepared.fetch_all(sql("SELECT 1 AS one")).await.is_err();
        failed
    })
    .await;
}

/// Sessions that begin after the start have the limits; transactions have them at once.
#[tokio::test]
async fn limits_are_kept_with_the_role() {
    let (pooler, database) = own().await;
    let entry = format!("{}|{}", pooler.url_of(&database), database.url());
    let mut limited = options();
    limited.statement_timeout = Duration::from_millis(4_321);
    let old = at(&pooler, &database, "pooler=prepared");
    assert_eq!(shown(&old, "statement_timeout").await, "0");

    let fleet = open(config(&[&entry]).options(limited)).await;
    let node = &fleet.router().nodes()[0];
    let node = node.database();
    let mut tx = node.begin().await.unwrap();
    for (name, value) in [
        ("statement_timeout", "4321"),
        ("lock_timeout", "2000"),
        ("idle_in_transaction_session_timeout", "10000"),
    ] {
        let row = tx.fetch_one(setting(name)).await.unwrap();
        assert_eq!(row.get::<String>("setting").unwrap(), value, "{name}");
    }
    drop(tx);
    pooler.restart().await;

    eventually(LIMIT, async || node.reach().await).await;
    eventually(LIMIT, async || {
        shown(node, "statement_timeout").await == "4321"
    })
    .await;
    assert_eq!(shown(node, "lock_timeout").await, "2000");
}

/// The start goes on without, and each transaction is bounded all the same.
#[tokio::test]
async fn start_goes_on_where_the_role_may_not_be_altered() {
    let (pooler, database) = own().await;
    let direct = Database::open("direct", &database.url(), &options()).unwrap();
    let role = database.name();
    for text in [
        "DO $$ BEGIN EXECUTE format('CREATE ROLE %I LOGIN', current_database()); END $$",
        "DO $$ BEGIN EXECUTE format('GRANT ALL ON SCHEMA public TO %I', current_database()); END $$",
    ] {
        direct.execute(sql(text)).await.unwrap();
    }
    let powerless = database.url().replace("//postgres@", &format!("//{role}@"));
    let entry = format!("{}|{powerless}", pooler.url_of(&database));

    let fleet = open(config(&[&entry])).await;

    let stored = sql("SELECT 1 AS one FROM pg_db_role_setting AS s
         JOIN pg_database AS d ON d.oid = s.setdatabase WHERE datname = current_database()");
    assert!(direct.fetch_all(stored).await.unwrap().is_empty());
    let mut tx = fleet.router().nodes()[0].database().begin().await.unwrap();
    let row = tx.fetch_one(setting("statement_timeout")).await.unwrap();
    assert_eq!(row.get::<String>("setting").unwrap(), "5000");
    drop(tx);
    fleet.close().await;
    let drop = "DO $$ BEGIN EXECUTE format('REASSIGN OWNED BY %1$I TO postgres; DROP OWNED BY %1$I;
        DROP ROLE %1$I', current_database()); END $$";
    direct.execute(sql(drop)).await.unwrap();
}

/// A migration takes as long as it takes, through the pooler too.
#[tokio::test]
async fn migration_outlasts_the_limits_of_its_role() {
    use maxscale_shard::{Migration, MigrationSet};
    const SLOW: MigrationSet = MigrationSet {
        owner: "slow",
        steps: &[Migration {
            version: 1,
            name: "slow",
            postgres: "SELECT pg_sleep(4)",
            sqlite: "",
        }],
    };
    let (pooler, database) = own().await;
    let mut hasty = DatabaseOptions::default();
    hasty.statement_timeout = Duration::from_secs(2);
    let entry = format!("{}?pooler=prepared", pooler.url_of(&database));

    let opened = config(&[&entry]).options(hasty).migrations(SLOW);

    open(opened).await.close().await;
}
