//! Statements through the router, alone and in transactions, against sqlx's own pool.
//!
//! Same server, same rows, same text and parameters, one statement at a time.
//! The server does not wait for its disk, so the client's share shows.

use std::hint::black_box;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use maxscale_core::BoxError;
use maxscale_core::clock::Clock;
use maxscale_core::id::{Id, IdGenerator};
use maxscale_core::telemetry::Metrics;
use maxscale_measure::{Bar, Median, Op, Plan, Report};
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::telemetry::{LoadOptions, Telemetry};
use maxscale_shard::{DatabaseOptions, Fleet, FleetConfig, Migration, MigrationSet, Router, sql};
use maxscale_tests::PostgresServer;
use sqlx::Row as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};

const ROWS: usize = 1_024;

const READ: &str = "SELECT n, body FROM bench_row WHERE shard_id = $1 AND id = $2";
const WRITE: &str = "UPDATE bench_row SET n = n + 1 WHERE shard_id = $1 AND id = $2";
const INSERT: &str = "INSERT INTO bench_row (shard_id, id, n, body) VALUES ($1, $2, $3, $4)";

/// Half-filled pages, so that updated rows stay on their page through the run.
const TABLE: MigrationSet = MigrationSet {
    owner: "maxscale-benches",
    steps: &[Migration {
        version: 1,
        name: "rows to read and write",
        postgres: "CREATE TABLE bench_row (
            shard_id integer NOT NULL,
            id uuid NOT NULL,
            n bigint NOT NULL,
            body text NOT NULL,
            PRIMARY KEY (shard_id, id)
        ) WITH (fillfactor = 50)",
        sqlite: "",
    }],
};

/// What a comparison repeats.
#[derive(Clone, Copy)]
enum Verb {
    Read,
    Write,
    /// Both, in a transaction.
    Transaction,
}

/// Rows that both sides ask for, in the same order.
struct Rows {
    url: String,
    ids: Arc<[Id]>,
}

pub(crate) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let database = PostgresServer::shared().await.database().await;
    let rows = Rows::fill(database.url()).await?;

    let same = rows.speed(plan, Verb::Read, same_options).await?;
    bar(report, "shard.read_vs_sqlx", same, 0.98);
    let same = rows.speed(plan, Verb::Write, same_options).await?;
    bar(report, "shard.write_vs_sqlx", same, 0.98);
    let same = rows.speed(plan, Verb::Transaction, same_options).await?;
    bar(report, "shard.tx_vs_sqlx", same, 0.95);
    let defaults = rows.speed(plan, Verb::Read, PgPool::connect_lazy).await?;
    bar(report, "shard.read_vs_sqlx_defaults", defaults, 1.3);
    Ok(())
}

fn bar(report: &mut Report, name: &'static str, speed: Median, target: f64) {
    report.note(&format!("{name}: {speed}"));
    report.bar(Bar {
        name,
        measured: speed.value,
        op: Op::AtLeast,
        target,
    });
}

/// A pool with what a node's pool is given, built by hand.
fn same_options(url: &str) -> Result<PgPool, sqlx::Error> {
    let options = DatabaseOptions::default();
    let millis = |timeout: Duration| timeout.as_millis().to_string();
    let connect = PgConnectOptions::from_str(url)?
        .ssl_mode(PgSslMode::Disable)
        .application_name("maxscale")
        .options([
            ("statement_timeout", millis(options.statement_timeout)),
            ("lock_timeout", millis(options.lock_timeout)),
            (
                "idle_in_transaction_session_timeout",
                millis(options.idle_in_transaction),
            ),
            ("client_connection_check_interval", "1000".to_owned()),
        ]);
    Ok(PgPoolOptions::new()
        .max_connections(options.connections)
        .acquire_timeout(options.acquire_timeout)
        .test_before_acquire(false)
        .idle_timeout(options.idle_timeout)
        .connect_lazy_with(connect))
}

/// Told of as in production: sqlx's side has nothing of the kind to pay for.
async fn open(url: &str, metrics: &Metrics) -> Result<Fleet, BoxError> {
    let node = NodeSpec::parse(url, 1)?;
    let telemetry = Telemetry::new().meter(&metrics.meter("bench"));
    let config = FleetConfig::new(vec![node])
        .telemetry(telemetry.load(LoadOptions::new()))
        .migrations(TABLE);
    Ok(Fleet::open(config).await?)
}

// === impl Rows ===

impl Rows {
    /// Fills the table on the shards of fresh ids.
    async fn fill(url: String) -> Result<Self, BoxError> {
        let fleet = open(&url, &Metrics::new()).await?;
        let router = fleet.router();
        let ids = IdGenerator::new(Clock::system(), router.keyspace());
        let ids: Arc<[Id]> = (0..ROWS)
            .map(|_| ids.draw_anywhere(router.shards()))
            .collect();
        for id in ids.iter() {
            let shard = router.shard(*id)?;
            let row = sql(INSERT).bind(shard.id()).bind(*id);
            shard.execute(row.bind(0_i64).bind("x".repeat(100))).await?;
        }
        fleet.close().await;
        Ok(Self { url, ids })
    }

    /// The router's speed, that of a pool made by `pool` being 1.
    async fn speed(
        &self,
        plan: &Plan,
        verb: Verb,
        pool: fn(&str) -> Result<PgPool, sqlx::Error>,
    ) -> Result<Median, BoxError> {
        let mut rounds = plan.compare();
        while !rounds.are_enough() {
            let metrics = Metrics::new();
            let (fleet, pool) = (open(&self.url, &metrics).await?, pool(&self.url)?);
            let ids = || self.ids.clone();
            let ours = |count| routed(fleet.router().clone(), ids(), verb, count);
            let theirs = |count| bare(pool.clone(), ids(), verb, count);
            rounds.round(ours, theirs).await?;
            pool.close().await;
            fleet.close().await;
        }
        Ok(rounds.speed())
    }
}

async fn routed(router: Router, ids: Arc<[Id]>, verb: Verb, count: u32) -> Result<(), BoxError> {
    for id in ids.iter().cycle().take(count as usize) {
        let shard = router.shard(*id)?;
        match verb {
            Verb::Read => {
                let statement = sql(READ).bind(shard.id()).bind(*id);
                let row = shard.fetch_optional(statement).await?.ok_or("no row")?;
                black_box((row.get::<i64>("n")?, row.get::<String>("body")?));
            }
            Verb::Write => {
                let statement = sql(WRITE).bind(shard.id()).bind(*id);
                one_row(shard.execute(statement).await?)?;
            }
            Verb::Transaction => {
                let mut tx = shard.begin().await?;
                let statement = sql(READ).bind(shard.id()).bind(*id);
                let row = tx.fetch_optional(statement).await?.ok_or("no row")?;
                black_box((row.get::<i64>("n")?, row.get::<String>("body")?));
                let statement = sql(WRITE).bind(shard.id()).bind(*id);
                one_row(tx.execute(statement).await?)?;
                tx.commit().await?;
            }
        }
    }
    Ok(())
}

async fn bare(pool: PgPool, ids: Arc<[Id]>, verb: Verb, count: u32) -> Result<(), BoxError> {
    for id in ids.iter().cycle().take(count as usize) {
        let (shard, id) = (id.shard().as_i64(), id.as_uuid());
        match verb {
            Verb::Read => {
                let query = sqlx::query(READ).bind(shard).bind(id);
                let row = query.fetch_optional(&pool).await?.ok_or("no row")?;
                let n: i64 = row.try_get("n")?;
                black_box((n, row.try_get::<String, _>("body")?));
            }
            Verb::Write => {
                let query = sqlx::query(WRITE).bind(shard).bind(id);
                one_row(query.execute(&pool).await?.rows_affected())?;
            }
            Verb::Transaction => {
                let mut tx = pool.begin().await?;
                let query = sqlx::query(READ).bind(shard).bind(id);
                let row = query.fetch_optional(&mut *tx).await?.ok_or("no row")?;
                let n: i64 = row.try_get("n")?;
                black_box((n, row.try_get::<String, _>("body")?));
                let query = sqlx::query(WRITE).bind(shard).bind(id);
                one_row(query.execute(&mut *tx).await?.rows_affected())?;
                tx.commit().await?;
            }
        }
    }
    Ok(())
}

/// A statement that touches nothing would be measured as a fast one.
fn one_row(touched: u64) -> Result<(), BoxError> {
    if touched == 1 {
        Ok(())
    } else {
        Err(format!("{touched} rows were written instead of one").into())
    }
}
