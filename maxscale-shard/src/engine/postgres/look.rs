//! What a server says of itself: whether it takes writes, and in which history.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{ConnectOptions, Error, Row as _};
use tokio::time::timeout;

use crate::router::Seen;

/// Looks at one server, on a connection of its own.
pub(crate) struct Lookout {
    connect: PgConnectOptions,
    conn: Option<PgConnection>,
    limit: Duration,
}

/// The checkpoint's timeline stays behind after a promotion, that of the log does not.
const LOOK: &str = "SELECT pg_is_in_recovery() AS standby,
    (SELECT system_identifier FROM pg_control_system()) AS system,
    CASE WHEN NOT pg_is_in_recovery()
        THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS timeline";

impl Lookout {
    pub(super) const fn new(connect: PgConnectOptions, limit: Duration) -> Self {
        Self {
            connect,
            conn: None,
            limit,
        }
    }

    /// What it says now.
    pub(crate) async fn look(&mut self) -> Seen {
        let limit = self.limit;
        match timeout(limit, self.ask()).await {
            Ok(Ok(row)) => read(&row).unwrap_or(Seen::Away),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a server did not say whether it takes writes");
                Seen::Away
            }
            Err(_) => Seen::Away,
        }
    }

    async fn ask(&mut self) -> Result<PgRow, Error> {
        // Dropped amid its answer, it is not used again.
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.connect.connect().await?,
        };
        // Not prepared, so that it passes any pooler.
        let row = sqlx::raw_sql(LOOK).fetch_one(&mut conn).await?;
        self.conn = Some(conn);
        Ok(row)
    }
}

fn read(row: &PgRow) -> Option<Seen> {
    let system = row.try_get::<i64, _>("system").ok()?.cast_unsigned();
    if row.try_get::<bool, _>("standby").ok()? {
        return Some(Seen::Standby { system });
    }
    let timeline = row.try_get::<String, _>("timeline").ok()?;
    let timeline = u32::from_str_radix(&timeline, 16).ok()?;
    Some(Seen::Writable { system, timeline })
}
