use maxscale_core::fact::VirtualShard;
use maxscale_core::refusal::{Class, Classify};
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::scatter::{KeyType, Merged, OrderBy, OrderKey, Scatter, ScatterError};
use maxscale_shard::{
    Database, ReadPolicy, Router, Row, ShardError, SlotState, Statement, Watermark, sql,
};
use maxscale_tests::{PostgresServer, eventually};
use tokio::time::timeout;

use crate::replicas::over;
use crate::support::{LIMIT, SHARDS, options};

const ANY: ReadPolicy = ReadPolicy::Replica { max_lag: LIMIT };
const ROWS: i64 = 6_000;

/// A node with a replica, and rows of all its virtual shards on both.
struct Two {
    router: Router,
    entries: Vec<NodeSpec>,
    _primary: PostgresServer,
    replica: PostgresServer,
}

impl Two {
    async fn new() -> Self {
        let primary = PostgresServer::start().await;
        let replica = primary.replica().await;
        let (router, entries) = over(&primary, &[&replica]).await;
        let fill = sql("INSERT INTO visit SELECT n % $1, n, n FROM generate_series(1, $2) AS n");
        let fill = fill.bind(i64::from(SHARDS)).bind(ROWS);
        let two = Self {
            router,
            entries,
            _primary: primary,
            replica,
        };
        two.primary().execute(fill).await.unwrap();
        let position = two._primary.wal_position().await;
        two.replica.wait_for_replay(position, LIMIT).await;
        eventually(LIMIT, async || two.seen(ANY).await == [true; 2]).await;
        two
    }

    fn primary(&self) -> Database {
        self.router.nodes()[0].database().clone()
    }

    fn ask(&self, policy: ReadPolicy) -> Scatter {
        self.scatter(everything()).policy(policy)
    }

    fn scatter(&self, statement: Statement) -> Scatter {
        self.router.scatter(statement).limit(LIMIT)
    }

    /// Whether a replica gives all rows, together and one by one.
    async fn seen(&self, policy: ReadPolicy) -> [bool; 2] {
        let rows = self.ask(policy).rows().await.unwrap().value.remove(0).rows;
        let merged = self.ask(policy).merge(&by_id()).await.unwrap();
        let merged = read(merged).await.unwrap();
        [told(&rows), told(&merged)].map(|(count, by_replica)| {
            assert_eq!(count, ROWS);
            by_replica
        })
    }
}

fn everything() -> Statement {
    sql(
        "SELECT shard_id, id, pg_is_in_recovery() AS by_replica FROM visit
         WHERE shard_id = ANY($shards)",
    )
}

fn by_id() -> OrderBy {
    OrderBy::new([OrderKey::asc("id", KeyType::I64)]).unwrap()
}

async fn read(mut merged: Merged) -> Result<Vec<Row>, ScatterError> {
    let mut rows = Vec::new();
    while let Some(row) = merged.next().await? {
        rows.push(row);
    }
    Ok(rows)
}

fn told(rows: &[Row]) -> (i64, bool) {
    let by_replica = rows[0].get("by_replica").unwrap();
    (i64::try_from(rows.len()).unwrap(), by_replica)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn legs_read_from_a_replica_only_where_the_policy_says_so() {
    let two = Two::new().await;
    assert_eq!(two.seen(ReadPolicy::Primary).await, [false; 2]);
    let unasked = two.scatter(everything()).rows().await.unwrap();
    assert_eq!(told(&unasked.value[0].rows), (ROWS, false));
    // A position is one node's alone.
    let mark = ReadPolicy::AtLeast(Watermark::new(1, 8));
    assert_eq!(two.seen(mark).await, [false; 2]);

    let strict = (two.router.topology().change()).state(1..2, SlotState::Strict);
    (two.router.reload(strict.build().unwrap(), &two.entries)).unwrap();
    assert_eq!(two.seen(ANY).await, [false; 2], "a shard is about to move");
    let others = two.ask(ANY).among((2..SHARDS).map(VirtualShard::new));
    assert!(told(&others.rows().await.unwrap().value[0].rows).1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_that_is_away_is_passed_over_for_the_primary() {
    let two = Two::new().await;
    two.replica.kill().await;
    for _ in 0..10 {
        assert_eq!(two.seen(ANY).await, [false; 2]);
    }
}

/// Nobody waits on the replica for what is in the way of its replay.
async fn impatient(two: &Two) -> Database {
    let replica = Database::open("replica", &two.replica.url(), &options()).unwrap();
    let set = sql("ALTER SYSTEM SET max_standby_streaming_delay = 0");
    replica.execute(set).await.unwrap();
    replica
        .fetch_all(sql("SELECT pg_reload_conf()"))
        .await
        .unwrap();
    let show = "SELECT setting FROM pg_settings WHERE name = 'max_standby_streaming_delay'";
    eventually(LIMIT, async || {
        let row = replica.fetch_optional(sql(show)).await.unwrap().unwrap();
        row.get::<String>("setting").unwrap() == "0"
    })
    .await;
    replica
}

async fn holds(server: &Database, condition: &'static str) {
    eventually(LIMIT, async || {
        let row = server.fetch_optional(sql(condition)).await.unwrap();
        row.unwrap().get::<bool>("holds").unwrap()
    })
    .await;
}

const CHANGE: &str = "ALTER TABLE visit ADD COLUMN more integer";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leg_that_a_replica_cancels_is_read_from_the_primary() {
    let two = Two::new().await;
    let replica = impatient(&two).await;
    let slow = sql(
        "SELECT shard_id, id, pg_is_in_recovery() AS by_replica, pg_sleep(0.4)::text AS slept
         FROM visit WHERE id <= 10 AND shard_id = ANY($shards)",
    );
    let asked = tokio::spawn(two.scatter(slow).policy(ANY).rows());
    let runs = "SELECT count(*) > 0 AS holds FROM pg_stat_activity
        WHERE state = 'active' AND query LIKE '%pg_sleep(0.4)%' AND pid <> pg_backend_pid()";
    holds(&replica, runs).await;
    two.primary().execute(sql(CHANGE)).await.unwrap();
    let rows = timeout(LIMIT, asked).await.unwrap().unwrap().unwrap();
    assert_eq!(told(&rows.value[0].rows), (10, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leg_that_a_replica_cancels_amid_its_rows_is_told_as_busy() {
    let two = Two::new().await;
    let replica = impatient(&two).await;
    // More than fits into what lies between the server and who reads.
    let wide = sql(
        "SELECT shard_id, id, pg_is_in_recovery() AS by_replica, repeat('x', 4000) AS wide
         FROM visit WHERE shard_id = ANY($shards)",
    );
    let scatter = two.scatter(wide).policy(ANY);
    let mut merged = scatter.merge(&by_id()).await.unwrap();
    assert!(merged.next().await.unwrap().is_some());
    two.primary().execute(sql(CHANGE)).await.unwrap();
    // The replica waits for the end of what it has cancelled, or that has come.
    let waits = "SELECT EXISTS (SELECT FROM pg_locks
            WHERE mode = 'AccessExclusiveLock' AND NOT granted)
        OR EXISTS (SELECT FROM pg_attribute WHERE attname = 'more') AS holds";
    holds(&replica, waits).await;
    let error = timeout(LIMIT, read(merged)).await.unwrap().unwrap_err();
    assert_eq!(error.class(), Class::Unavailable);
    let ScatterError::Failed { failures, .. } = error else {
        panic!("{error}");
    };
    let ShardError::Busy { database, .. } = &failures[0].source else {
        panic!("{:?}", failures[0]);
    };
    assert_eq!(&**database, "node-1#2");
}
