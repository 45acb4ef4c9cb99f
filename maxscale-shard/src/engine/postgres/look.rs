//! What a server says of itself: whether it takes writes, in which history, and how
//! far it has come.

use std::time::Duration;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Error, Row as _};
use tokio::time::timeout;

use super::connect::Connector;
use crate::router::{Replayed, Seen};
use crate::sql::{Engine, Sql};

/// Looks at one server, on a connection of its own.
pub(crate) struct Lookout {
    connect: Connector,
    conn: Option<PgConnection>,
    limit: Duration,
}

/// The checkpoint's timeline stays behind after a promotion, that of the log does not.
///
/// Of a standby both sources of its timeline may stay behind, and then it counts
/// as one of the older history.
const LOOK: Sql = Sql::both(
    "SELECT pg_is_in_recovery() AS standby,
    (SELECT system_identifier FROM pg_control_system()) AS system,
    CASE WHEN pg_is_in_recovery()
        THEN greatest((SELECT timeline_id FROM pg_control_checkpoint()),
            (SELECT min_recovery_end_timeline FROM pg_control_recovery()))
        ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int
        END AS timeline,
    (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
        ELSE pg_current_wal_insert_lsn() END - '0/0'::pg_lsn)::text AS position",
);

/// What a server said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) seen: Seen,
    /// How far it has written its log, or replayed that of another.
    pub(crate) at: Option<Replayed>,
}

const AWAY: Look = Look {
    seen: Seen::Away,
    at: None,
};

impl Lookout {
    pub(super) const fn new(connect: Connector, limit: Duration) -> Self {
        Self {
            connect,
            conn: None,
            limit,
        }
    }

    /// What it says now.
    pub(crate) async fn look(&mut self) -> Look {
        let limit = self.limit;
        match timeout(limit, self.ask()).await {
            Ok(Ok(row)) => read(&row).unwrap_or(AWAY),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a server did not say whether it takes writes");
                AWAY
            }
            Err(_) => AWAY,
        }
    }

    async fn ask(&mut self) -> Result<PgRow, Error> {
        // Dropped amid its answer, it is not used again.
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.connect.connect().await?,
        };
        // Not prepared, so that it passes any pooler.
        let row = sqlx::raw_sql(LOOK.text(Engine::Postgres))
            .fetch_one(&mut conn)
            .await?;
        self.conn = Some(conn);
        Ok(row)
    }
}

fn read(row: &PgRow) -> Option<Look> {
    let system = row.try_get::<i64, _>("system").ok()?.cast_unsigned();
    let timeline = row.try_get::<i32, _>("timeline").ok()?.cast_unsigned();
    let seen = match row.try_get::<bool, _>("standby").ok()? {
        true => Seen::Standby { system },
        false => Seen::Writable { system, timeline },
    };
    // A standby that has replayed nothing yet says no position.
    let position = row.try_get::<String, _>("position").ok();
    let at = position.and_then(|text| {
        let position = text.parse().ok()?;
        Some(Replayed { timeline, position })
    });
    Some(Look { seen, at })
}
