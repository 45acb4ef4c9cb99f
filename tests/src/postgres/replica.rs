//! Streaming replicas: servers that follow another, until they are promoted.

use std::{path::Path, time::Duration};

use sqlx::{Connection, Decode, PgConnection, Postgres, Type};

use super::{
    Database, PostgresServer,
    cluster::{Origin, Setup},
    execute, with_database,
};
use crate::wait::within;

/// How long a running server may take for what it does by itself.
const LIMIT: Duration = Duration::from_secs(60);

// === impl PostgresServer ===

impl PostgresServer {
    /// Starts a replica that streams from this server, with a slot: what it
    /// misses while it is down is kept for it.
    ///
    /// It is a server like any other, to be stopped, killed, paused and
    /// restarted, and can be read from. What this server acknowledges is not
    /// there at once: [`wait_for_replay`](Self::wait_for_replay).
    pub async fn replica(&self) -> Self {
        // A slot on the shared server would stay.
        self.own();
        Self::launch(Setup {
            origin: Origin::Backup(self.url.clone()),
            ..Setup::new(false)
        })
        .await
    }

    /// Makes a replica a server that accepts writes, and returns once it does.
    ///
    /// Its primary knows nothing of this: one that is not down goes on.
    pub async fn promote(&self) {
        let limit = LIMIT.as_secs();
        let sql = format!("SELECT pg_promote(wait_seconds => {limit})");
        let promoted: bool = self.ask(&sql).await;
        assert!(promoted, "not promoted within {LIMIT:?}");
    }

    /// Whether it follows another server and accepts no writes.
    pub async fn is_replica(&self) -> bool {
        self.ask("SELECT pg_is_in_recovery()").await
    }

    /// How far the log of changes (WAL) is written; on a replica: how far it is
    /// replayed.
    pub async fn wal_position(&self) -> u64 {
        let position: i64 = self
            .ask(
                "SELECT pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() \
                 THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, '0/0')::int8",
            )
            .await;
        position.unsigned_abs()
    }

    /// Waits until a replica has replayed up to this
    /// [`wal_position`](Self::wal_position) of its primary.
    ///
    /// # Panics
    ///
    /// Panics after `limit`.
    pub async fn wait_for_replay(&self, position: u64, limit: Duration) {
        let replayed = within(limit, async || match self.wal_position().await {
            at if at >= position => Ok(()),
            at => Err(format!("at {at}, which is {} bytes behind", position - at)),
        });
        if let Err(missing) = replayed.await {
            panic!("not replayed within {limit:?}: {missing}");
        }
    }

    /// Lets a replica replay each transaction no sooner than `delay` after its
    /// commit; zero takes that back at once.
    pub async fn delay_replay(&self, delay: Duration) {
        let millis = delay.as_millis();
        let sql = format!("ALTER SYSTEM SET recovery_min_apply_delay = {millis}");
        if let Err(error) = execute(&self.url, sql).await {
            panic!("a delay of {delay:?}: {error}");
        }
        let _: bool = self.ask("SELECT pg_reload_conf()").await;
        // A process born with the new setting was born after the others were
        // told.
        let set = within(LIMIT, async || {
            let now: String = self
                .ask("SELECT setting FROM pg_settings WHERE name = 'recovery_min_apply_delay'")
                .await;
            (now == millis.to_string()).then_some(()).ok_or(now)
        });
        if let Err(now) = set.await {
            panic!("the delay is {now} ms and not {millis} ms");
        }
    }

    /// Holds a replica where it is, while it goes on to receive; returns once
    /// it replays no more.
    pub async fn pause_replay(&self) {
        self.replay("pg_wal_replay_pause()", "paused").await;
    }

    /// Lets a replica replay again what [`pause_replay`](Self::pause_replay)
    /// held.
    pub async fn resume_replay(&self) {
        self.replay("pg_wal_replay_resume()", "not paused").await;
    }

    async fn replay(&self, order: &str, expected: &str) {
        if let Err(error) = execute(&self.url, format!("SELECT {order}")).await {
            panic!("{order}: {error}");
        }
        let obeyed = within(LIMIT, async || {
            let state: String = self.ask("SELECT pg_get_wal_replay_pause_state()").await;
            (state == expected).then_some(()).ok_or(state)
        });
        if let Err(state) = obeyed.await {
            panic!("replay is {state:?} and not {expected:?} within {LIMIT:?}");
        }
    }

    /// Where a database of this server's primary is on this server, for a
    /// client.
    pub fn url_of(&self, database: &Database) -> String {
        with_database(&self.url, database.name())
    }

    async fn ask<T>(&self, sql: &str) -> T
    where
        T: Send + Unpin + Type<Postgres> + for<'r> Decode<'r, Postgres>,
    {
        let answer = async {
            let mut connection = PgConnection::connect(&self.url).await?;
            let sql = sqlx::AssertSqlSafe(sql);
            let value = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
            connection.close().await?;
            Ok::<T, sqlx::Error>(value)
        };
        answer
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

/// The arguments that make `pg_basebackup` copy a running server.
pub(super) fn backup_arguments(primary: &str, data: &Path, slot: &str) -> Vec<String> {
    [
        format!("--dbname={primary}"),
        format!("--pgdata={}", data.display()),
        format!("--slot={slot}"),
    ]
    .into_iter()
    .chain(
        [
            "--create-slot",
            // It leaves a file that makes the copy a replica.
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
        ]
        .map(str::to_owned),
    )
    .collect()
}
