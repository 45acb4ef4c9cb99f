//! Asks a server about itself, and reads the answer. Only [`ask`] does I/O.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Row as _;
use tokio::time::timeout;

use super::{Left, Pool, Pooler};
use crate::database::Lane;
use crate::engine::capabilities::{Capabilities, Product};
use crate::engine::driver;
use crate::error::ShardError;
use crate::sql::{Engine, Sql};

/// All that is asked, in one statement. What a product does not know is null.
const ASK: Sql = Sql::both(
    "SELECT version() AS version,
            current_setting('max_prepared_transactions', true) AS prepared,
            current_setting('wal_level', true) AS wal_level,
            (SELECT count(*) FROM pg_catalog.pg_extension WHERE extname = 'citus') AS citus",
);

/// The answer to [`ASK`].
#[derive(Clone, Debug, Default)]
struct Told {
    version: String,
    prepared: Option<String>,
    wal_level: Option<String>,
    citus: bool,
}

/// One round trip, as nothing is prepared; so no pooler minds it.
pub(crate) async fn ask(
    database: &Arc<str>,
    pool: &Pool,
    lane: Lane,
    patience: Duration,
) -> Result<Capabilities, ShardError> {
    let failed = |error| driver::error(database, error);
    let mut conn = pool.acquire(lane).await.map_err(failed)?;
    let asked = sqlx::raw_sql(ASK.text(Engine::Postgres)).fetch_one(&mut *conn);
    let answer = timeout(patience, asked).await;
    let row = answer
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
        .map_err(failed)?;
    conn.hear();
    conn.leave(Left::Clean);
    let told = Told::read(&row).map_err(failed)?;
    Ok(told.means(pool.pooler()))
}

// === impl Told ===

impl Told {
    fn read(row: &sqlx::postgres::PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            version: row.try_get("version")?,
            prepared: row.try_get("prepared")?,
            wal_level: row.try_get("wal_level")?,
            citus: row.try_get::<i64, _>("citus")? > 0,
        })
    }

    fn product(&self) -> Product {
        let number = self.version.split_whitespace().nth(1).unwrap_or_default();
        if self.version.starts_with("CockroachDB ") {
            Product::Cockroach
        } else if number.contains("-YB-") {
            Product::Yugabyte
        } else if self.citus {
            Product::Citus
        } else {
            Product::Postgres
        }
    }

    /// YugabyteDB and CockroachDB take some of these commands and do nothing, or
    /// do it in some versions: what is not known to work counts as absent.
    fn means(&self, pooler: Pooler) -> Capabilities {
        let product = self.product();
        let postgres = matches!(product, Product::Postgres | Product::Citus);
        let own_session = pooler == Pooler::None;
        let prepared = self.prepared.as_deref().map(str::parse::<u32>);
        Capabilities {
            product,
            listen: postgres && own_session,
            session_locks: postgres && own_session,
            advisory_locks: postgres,
            two_phase: postgres && matches!(prepared, Some(Ok(1..))),
            logical_replication: postgres && self.wal_level.as_deref() == Some("logical"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "PostgreSQL 15.13 (Debian 15.13-0+deb12u1) on x86_64-pc-linux-gnu, compiled by gcc (Debian 12.2.0-14+deb12u1) 12.2.0, 64-bit";

    fn told(version: &str) -> Told {
        Told {
            version: version.to_owned(),
            prepared: Some("10".to_owned()),
            wal_level: Some("logical".to_owned()),
            citus: false,
        }
    }

    #[test]
    fn products_are_told_apart_by_their_version() {
        for (version, product) in [
            (DEBIAN, Product::Postgres),
            (
                "PostgreSQL 16.14 on x86_64-pc-linux-musl, compiled by gcc (Alpine 15.2.0) 15.2.0, 64-bit",
                Product::Postgres,
            ),
            (
                "PostgreSQL 15.12-YB-2.25.2.0-b0 on x86_64-pc-linux-gnu, compiled by clang version 19.1.0 (https://github.com/yugabyte/llvm-project.git a2a6b655e14e7fa1fcf1011a6cb29cb8575249c0), 64-bit",
                Product::Yugabyte,
            ),
            (
                "PostgreSQL 11.2-YB-2.21.1.0-b0 on x86_64-pc-linux-gnu, compiled by clang version 17.0.6, 64-bit",
                Product::Yugabyte,
            ),
            (
                "CockroachDB CCL v20.1.15 (x86_64-unknown-linux-gnu, built 2021/04/26 16:11:58, go1.13.9)",
                Product::Cockroach,
            ),
            (
                "CockroachDB CCL v24.3.5 (x86_64-pc-linux-gnu, built 2025/02/03 17:28:15, go1.22.8)",
                Product::Cockroach,
            ),
        ] {
            assert_eq!(told(version).product(), product, "{version}");
        }
        let citus = Told {
            citus: true,
            ..told(DEBIAN)
        };
        assert_eq!(citus.product(), Product::Citus);
    }

    #[test]
    fn what_is_not_known_to_work_counts_as_absent() {
        let all = told(DEBIAN).means(Pooler::None);
        let can = |c: Capabilities| {
            [
                c.listen,
                c.session_locks,
                c.advisory_locks,
                c.two_phase,
                c.logical_replication,
            ]
        };
        assert_eq!(can(all), [true; 5]);
        for pooler in [Pooler::Prepared, Pooler::Unprepared] {
            let pooled = told(DEBIAN).means(pooler);
            assert_eq!(can(pooled), [false, false, true, true, true]);
        }
        let plain = Told {
            prepared: Some("0".to_owned()),
            wal_level: Some("replica".to_owned()),
            ..told(DEBIAN)
        };
        assert_eq!(
            can(plain.means(Pooler::None)),
            [true, true, true, false, false]
        );
        let silent = Told {
            prepared: None,
            wal_level: None,
            ..told(DEBIAN)
        };
        assert_eq!(
            can(silent.means(Pooler::None)),
            [true, true, true, false, false]
        );
        for version in [
            "CockroachDB CCL v24.3.5 (x)",
            "PostgreSQL 15.12-YB-2.25.2.0-b0 on x",
        ] {
            assert_eq!(can(told(version).means(Pooler::None)), [false; 5]);
        }
    }
}
