//! The one place that speaks SQL about jobs.
//!
//! Leases are judged by the database's clock: of all writers of a row, each
//! sees the same one. Statements marked *node-wide* serve no single key and
//! have an index of their own; all others name `shard_id` by equality.

use std::collections::HashSet;
use std::time::Duration;

use maxscale_core::Chain;
use maxscale_core::clock::Timestamp;
use maxscale_core::fact::{TraceId, VirtualShard};
use maxscale_core::id::Id;
use maxscale_shard::{Database, Row, Shard, ShardError, Sql, Tx};
use serde::Serialize;
use uuid::Uuid;

use crate::job::{EnqueueOptions, JobId, JobState, JobStatus};

/// A job that does not exist yet.
#[derive(Debug)]
pub(crate) struct NewJob {
    pub(crate) shard: VirtualShard,
    pub(crate) id: JobId,
    pub(crate) kind: &'static str,
    pub(crate) version: u32,
    pub(crate) queue: &'static str,
    pub(crate) args: String,
    pub(crate) max_attempts: u32,
    pub(crate) options: EnqueueOptions,
}

/// The right to run a job and to end it, until another claim takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub(crate) shard: VirtualShard,
    pub(crate) job: JobId,
    /// Which life of which worker; a worker that starts again is another one.
    pub(crate) worker: Uuid,
    pub(crate) token: i64,
}

/// What a run knows besides its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) lease: Lease,
    pub(crate) version: u32,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) crashes: u32,
    pub(crate) trace_id: Option<TraceId>,
}

/// A job that a claim gave.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) kind: String,
    pub(crate) args: String,
    pub(crate) facts: Facts,
    /// It has killed so many workers that it will not run again.
    pub(crate) poison: bool,
}

/// What a claimer is after.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) queue: &'a str,
    /// JSON array of `{kind, version}`: what it has handlers for.
    pub(crate) kinds: &'a str,
    pub(crate) worker: Uuid,
    pub(crate) lease: Duration,
    pub(crate) most: usize,
}

/// How a run ends in its row.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    Done { result: Option<String> },
    Retry { after: Duration, error: String },
    Dead { reason: String },
    Snooze { after: Duration },
    HandBack,
}

macro_rules! pg_now {
    // Stable within its statement, so that it can bound an index scan.
    () => {
        "(extract(epoch from statement_timestamp()) * 1000000)::bigint"
    };
}

macro_rules! sqlite_now {
    () => {
        "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
    };
}

/// A job whose worker died this often while it ran is dead.
macro_rules! deaths {
    () => {
        "3"
    };
}

macro_rules! insert {
    ($now:expr) => {
        concat!(
            "INSERT INTO ms_job (shard_id, job_id, kind, version, queue, args, max_attempts,
                trace_id, run_at, state, attempt, crashes, lease_token, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, ",
            $now,
            " + $9, 'ready', 0, 0, 0, ",
            $now,
            ")"
        )
    };
}

const INSERT: Sql = Sql::each(insert!(pg_now!()), insert!(sqlite_now!()));

const FIND: Sql = Sql::both(
    "SELECT state, attempt, crashes, last_error, result, created_at, finished_at
     FROM ms_job WHERE shard_id = $1 AND job_id = $2",
);

// What is due, oldest first. A row of a dead worker is as due as a ready one.
macro_rules! due {
    ($columns:expr, $now:expr, $kinds:expr) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM ms_job
             WHERE state IN ('ready', 'running') AND queue = $1 AND run_at <= ",
            $now,
            " AND (state = 'ready' OR lease_until < ",
            $now,
            ") AND EXISTS (",
            $kinds,
            ") ORDER BY run_at LIMIT $3"
        )
    };
}

// The right sides see the row as it was before.
macro_rules! take {
    ($now:expr) => {
        concat!(
            "UPDATE ms_job SET
                state = CASE WHEN state = 'running' AND crashes + 1 >= ",
            deaths!(),
            " THEN 'dead' ELSE 'running' END,
                last_error = CASE WHEN state = 'running' AND crashes + 1 >= ",
            deaths!(),
            " THEN 'worker died ",
            deaths!(),
            " times' ELSE last_error END,
                finished_at = CASE WHEN state = 'running' AND crashes + 1 >= ",
            deaths!(),
            " THEN ",
            $now,
            " END,
                attempt = attempt + CASE WHEN state = 'ready' THEN 1 ELSE 0 END,
                crashes = crashes + CASE WHEN state = 'running' THEN 1 ELSE 0 END,
                lease_token = lease_token + 1,
                lease_until = ",
            $now,
            " + $4,
                worker = $5 "
        )
    };
}

macro_rules! taken {
    () => {
        " RETURNING ms_job.shard_id, ms_job.job_id, kind, version, args, state, attempt,
            crashes, max_attempts, lease_token, trace_id"
    };
}

/// Node-wide: one claim for all virtual shards of a node.
const CLAIM: Sql = Sql::each(
    concat!(
        // Materialized, so that no more rows are locked than the limit says.
        "WITH due AS MATERIALIZED (",
        due!(
            "shard_id, job_id",
            pg_now!(),
            "SELECT 1 FROM json_to_recordset($2::json) AS k(kind text, version integer)
             WHERE k.kind = ms_job.kind AND k.version >= ms_job.version"
        ),
        " FOR UPDATE OF ms_job SKIP LOCKED) ",
        take!(pg_now!()),
        "FROM due WHERE ms_job.shard_id = due.shard_id AND ms_job.job_id = due.job_id",
        taken!(),
    ),
    concat!(
        take!(sqlite_now!()),
        "WHERE rowid IN (",
        due!(
            "rowid",
            sqlite_now!(),
            "SELECT 1 FROM json_each($2) AS k WHERE k.value ->> 'kind' = ms_job.kind
             AND k.value ->> 'version' >= ms_job.version"
        ),
        ")",
        taken!(),
    ),
);

/// Node-wide: all leases of a worker on a node at once.
///
/// A row that a handler's open transaction completes is passed over, or it
/// would hold up the renewal of all others.
const RENEW: Sql = Sql::each(
    concat!(
        "WITH held AS MATERIALIZED (
            SELECT ms_job.shard_id, ms_job.job_id FROM ms_job
            JOIN json_to_recordset($2::json) AS l(shard integer, id uuid, token bigint)
              ON ms_job.shard_id = l.shard AND ms_job.job_id = l.id
            WHERE ms_job.lease_token = l.token AND ms_job.worker = $1 AND ms_job.state = 'running'
            FOR UPDATE OF ms_job SKIP LOCKED)
         UPDATE ms_job SET lease_until = ",
        pg_now!(),
        " + $3 FROM held WHERE ms_job.shard_id = held.shard_id AND ms_job.job_id = held.job_id
         RETURNING ms_job.job_id, lease_token"
    ),
    concat!(
        "UPDATE ms_job SET lease_until = ",
        sqlite_now!(),
        " + $3 FROM (SELECT value ->> 'shard' AS shard, unhex(value ->> 'id') AS id,
                value ->> 'token' AS token FROM json_each($2)) AS l
         WHERE ms_job.shard_id = l.shard AND ms_job.job_id = l.id AND lease_token = l.token
           AND worker = $1 AND state = 'running'
         RETURNING job_id, lease_token"
    ),
);

macro_rules! settle {
    ($now:expr, $endings:expr) => {
        concat!(
            "UPDATE ms_job SET
                state = e.state,
                run_at = CASE WHEN e.delay IS NULL THEN run_at ELSE ",
            $now,
            " + e.delay END,
                attempt = attempt - e.refund,
                last_error = coalesce(e.error, last_error),
                result = e.result,
                finished_at = CASE WHEN e.state IN ('done', 'dead') THEN ",
            $now,
            " END,
                lease_until = NULL,
                worker = NULL
             FROM ",
            $endings,
            " WHERE ms_job.shard_id = e.shard AND ms_job.job_id = e.id
               AND lease_token = e.token AND worker = $1 AND ms_job.state = 'running'
             RETURNING job_id, lease_token"
        )
    };
}

/// Node-wide: the ends of many runs at once, each fenced by worker and token.
const SETTLE: Sql = Sql::each(
    settle!(
        pg_now!(),
        "json_to_recordset($2::json) AS e(shard integer, id uuid, token bigint, state text,
            delay bigint, refund integer, error text, result text)"
    ),
    settle!(
        sqlite_now!(),
        "(SELECT value ->> 'shard' AS shard, unhex(value ->> 'id') AS id,
            value ->> 'token' AS token, value ->> 'state' AS state,
            value ->> 'delay' AS delay, value ->> 'refund' AS refund,
            value ->> 'error' AS error, value ->> 'result' AS result FROM json_each($2)) AS e"
    ),
);

macro_rules! complete {
    ($now:expr) => {
        concat!(
            "UPDATE ms_job SET state = 'done', finished_at = ",
            $now,
            ", lease_until = NULL, worker = NULL
             WHERE shard_id = $1 AND job_id = $2 AND worker = $3 AND lease_token = $4
               AND state = 'running'"
        )
    };
}

const COMPLETE: Sql = Sql::each(complete!(pg_now!()), complete!(sqlite_now!()));

pub(crate) async fn insert(tx: &mut Tx, job: NewJob) -> Result<(), ShardError> {
    let trace = job.options.trace_id;
    let statement = (INSERT.statement())
        .bind(job.shard)
        .bind(job.id)
        .bind(job.kind)
        .bind(job.version)
        .bind(job.queue)
        .bind(job.args)
        .bind(job.max_attempts)
        .bind(trace.map(|trace| trace.as_str().to_owned()))
        .bind(micros(job.options.delay));
    tx.execute(statement).await.map(drop)
}

pub(crate) async fn find(shard: &Shard<'_>, id: JobId) -> Result<Option<JobStatus>, ShardError> {
    let statement = FIND.statement().bind(shard.id()).bind(id);
    let Some(row) = shard.fetch_optional(statement).await? else {
        return Ok(None);
    };
    let state: String = row.get("state")?;
    let result: Option<String> = row.get("result")?;
    let finished: Option<i64> = row.get("finished_at")?;
    Ok(Some(JobStatus {
        state: JobState::parse(&state).ok_or_else(|| unreadable("state", "no such state"))?,
        attempt: count(&row, "attempt")?,
        crashes: count(&row, "crashes")?,
        last_error: row.get("last_error")?,
        result: (result.map(|text| serde_json::from_str(&text)).transpose())
            .map_err(|source| unreadable("result", source))?,
        created_at: Timestamp::from_micros(row.get("created_at")?),
        finished_at: finished.map(Timestamp::from_micros),
    }))
}

/// Leases what is due, up to `wanted.most` jobs.
pub(crate) async fn claim(
    node: &Database,
    wanted: &Wanted<'_>,
) -> Result<Vec<Claimed>, ShardError> {
    let statement = (CLAIM.statement())
        .bind(wanted.queue)
        .bind(wanted.kinds)
        .bind(i64::try_from(wanted.most).unwrap_or(i64::MAX))
        .bind(micros(wanted.lease))
        .bind(wanted.worker);
    let rows = node.execute_returning(statement).await?;
    let readable = rows.iter().filter_map(|row| {
        claimed(row, wanted.worker)
            // Its lease runs out; the jobs claimed beside it shall not suffer.
            .inspect_err(|error| tracing::error!(error = %Chain(error), "unreadable job"))
            .ok()
    });
    Ok(readable.collect())
}

/// Prolongs what the database still knows as these leases; gives those.
pub(crate) async fn renew(
    node: &Database,
    worker: Uuid,
    leases: &[Lease],
    lease: Duration,
) -> Result<HashSet<(JobId, i64)>, ShardError> {
    let listed: Vec<_> = leases.iter().map(Listed::of).collect();
    let statement = (RENEW.statement())
        .bind(worker)
        .bind(json(&listed)?)
        .bind(micros(lease));
    names(&node.execute_returning(statement).await?)
}

/// Ends runs; gives those that were still under their lease.
pub(crate) async fn settle(
    node: &Database,
    worker: Uuid,
    endings: &[(Lease, Ending)],
) -> Result<HashSet<(JobId, i64)>, ShardError> {
    let listed: Vec<_> = endings
        .iter()
        .map(|(lease, ending)| Ended::of(lease, ending))
        .collect();
    let statement = SETTLE.statement().bind(worker).bind(json(&listed)?);
    names(&node.execute_returning(statement).await?)
}

/// Ends a run well within the caller's transaction; false if its lease is lost.
pub(crate) async fn complete(tx: &mut Tx, lease: &Lease) -> Result<bool, ShardError> {
    let statement = (COMPLETE.statement())
        .bind(lease.shard)
        .bind(lease.job)
        .bind(lease.worker)
        .bind(lease.token);
    Ok(tx.execute(statement).await? == 1)
}

/// A lease as the statements read it.
#[derive(Serialize)]
struct Listed {
    shard: u32,
    id: String,
    token: i64,
}

#[derive(Serialize)]
struct Ended<'a> {
    #[serde(flatten)]
    lease: Listed,
    state: &'static str,
    /// Null keeps the job's place in its queue.
    delay: Option<i64>,
    /// What the attempt that ends here is given back.
    refund: u32,
    error: Option<String>,
    result: Option<&'a str>,
}

// === impl Listed ===

impl Listed {
    fn of(lease: &Lease) -> Self {
        Self {
            shard: lease.shard.get(),
            // Without dashes both engines read it.
            id: lease.job.as_id().as_uuid().simple().to_string(),
            token: lease.token,
        }
    }
}

// === impl Ended ===

impl<'a> Ended<'a> {
    fn of(lease: &Lease, ending: &'a Ending) -> Self {
        let ended = Self {
            lease: Listed::of(lease),
            state: ending.state().as_str(),
            delay: None,
            refund: 0,
            error: None,
            result: None,
        };
        match ending {
            Ending::Done { result } => Self {
                result: result.as_deref(),
                ..ended
            },
            Ending::Retry { after, error } => Self {
                delay: Some(micros(*after)),
                error: Some(storable(error)),
                ..ended
            },
            Ending::Dead { reason } => Self {
                error: Some(storable(reason)),
                ..ended
            },
            Ending::Snooze { after } => Self {
                delay: Some(micros(*after)),
                refund: 1,
                ..ended
            },
            Ending::HandBack => Self { refund: 1, ..ended },
        }
    }
}

// === impl Ending ===

impl Ending {
    const fn state(&self) -> JobState {
        match self {
            Self::Done { .. } => JobState::Done,
            Self::Dead { .. } => JobState::Dead,
            Self::Retry { .. } | Self::Snooze { .. } | Self::HandBack => JobState::Ready,
        }
    }
}

const MAX_ERROR_CHARS: usize = 2_000;

/// PostgreSQL stores no NUL, and nobody reads a megabyte of error.
fn storable(text: &str) -> String {
    let chars = text.chars().take(MAX_ERROR_CHARS);
    chars
        .map(|c| if c == '\0' { '\u{fffd}' } else { c })
        .collect()
}

fn claimed(row: &Row, worker: Uuid) -> Result<Claimed, ShardError> {
    let state: String = row.get("state")?;
    let trace: Option<String> = row.get("trace_id")?;
    let lease = Lease {
        shard: VirtualShard::new(count(row, "shard_id")?),
        job: job_id(row)?,
        worker,
        token: row.get("lease_token")?,
    };
    Ok(Claimed {
        kind: row.get("kind")?,
        args: row.get("args")?,
        facts: Facts {
            lease,
            version: count(row, "version")?,
            attempt: count(row, "attempt")?,
            max_attempts: count(row, "max_attempts")?,
            crashes: count(row, "crashes")?,
            trace_id: trace.as_deref().and_then(TraceId::new),
        },
        poison: state == JobState::Dead.as_str(),
    })
}

fn names(rows: &[Row]) -> Result<HashSet<(JobId, i64)>, ShardError> {
    rows.iter()
        .map(|row| Ok((job_id(row)?, row.get("lease_token")?)))
        .collect()
}

fn job_id(row: &Row) -> Result<JobId, ShardError> {
    let id = Id::from_uuid(row.get("job_id")?);
    id.map(JobId::from)
        .map_err(|source| unreadable("job_id", source))
}

fn count(row: &Row, column: &str) -> Result<u32, ShardError> {
    u32::try_from(row.get::<i64>(column)?).map_err(|source| unreadable(column, source))
}

fn json(value: &impl Serialize) -> Result<String, ShardError> {
    serde_json::to_string(value).map_err(|source| unreadable("(a list of leases)", source))
}

fn unreadable(column: &str, source: impl Into<maxscale_core::BoxError>) -> ShardError {
    ShardError::Column {
        column: column.to_owned(),
        source: source.into(),
    }
}

fn micros(span: Duration) -> i64 {
    // A quarter of the range: added to any moment it does not overflow.
    i64::try_from(span.as_micros()).map_or(i64::MAX / 4, |micros| micros.min(i64::MAX / 4))
}
