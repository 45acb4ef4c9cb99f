//! PostgreSQL: connections whose every setting comes from the URL.

use std::str::FromStr;
use std::sync::Arc;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use sqlx_core::transaction::TransactionManager;

use super::driver::{self, bound, verbs};
use crate::database::DatabaseOptions;
use crate::error::ShardError;
use crate::sql::row::{RawRow, Row};
use crate::sql::{Engine, Statement};

verbs!(sqlx::Postgres, Engine::Postgres, Postgres, "BEGIN");

/// A pool that connects when first used.
pub(crate) fn pool(
    database: &Arc<str>,
    url: &str,
    options: &DatabaseOptions,
) -> Result<PgPool, ShardError> {
    let connect = connect_options(url).map_err(|why| ShardError::Url {
        database: database.clone(),
        why,
    })?;
    let (statement, idle) = (options.statement_timeout, options.idle_in_transaction);
    let connect = connect.options([
        ("statement_timeout", statement.as_millis().to_string()),
        ("lock_timeout", options.lock_timeout.as_millis().to_string()),
        (
            "idle_in_transaction_session_timeout",
            idle.as_millis().to_string(),
        ),
    ]);
    Ok(PgPoolOptions::new()
        .max_connections(options.connections)
        .min_connections(0)
        .acquire_timeout(options.acquire_timeout)
        // A ping per acquire costs a round trip; a broken connection fails its statement.
        .test_before_acquire(false)
        .idle_timeout(options.idle_timeout)
        .connect_lazy_with(connect))
}

/// Reads a URL so that no `PG*` variable has a say.
///
/// sqlx fills what a URL leaves out from the environment, so each such part is
/// set here; `PGOPTIONS`, which cannot be unset, is refused.
fn connect_options(url: &str) -> Result<PgConnectOptions, String> {
    let parts = UrlParts::of(url)?;
    let mut full = url.to_owned();
    let mut add = |name: &str, value: &str| {
        let mark = if full.contains('?') { '&' } else { '?' };
        full.push(mark);
        full.push_str(name);
        full.push('=');
        full.push_str(value);
    };
    if !parts.has_password && !parts.asks("password") {
        add("password", "");
    }
    if !parts.asks("sslmode") && !parts.asks("ssl-mode") {
        add(
            "sslmode",
            if cfg!(feature = "tls") {
                "prefer"
            } else {
                "disable"
            },
        );
    }
    let options = PgConnectOptions::from_str(&full).map_err(|error| error.to_string())?;
    let tls = !matches!(
        options.get_ssl_mode(),
        PgSslMode::Disable | PgSslMode::Prefer | PgSslMode::Allow
    );
    if tls && !cfg!(feature = "tls") {
        return Err(
            "sslmode asks for TLS, and this program was built without the feature `tls`".into(),
        );
    }
    if !parts.asks("options") && options.get_options().is_some() {
        return Err("PGOPTIONS is set and would change every connection; unset it and put `options=` into the URL".into());
    }
    let options = if parts.asks("application_name") {
        options
    } else {
        options.application_name("maxscale")
    };
    let options = if parts.has_port || parts.asks("port") {
        options
    } else {
        options.port(5432)
    };
    Ok(options)
}

struct UrlParts<'a> {
    has_password: bool,
    has_port: bool,
    query: &'a str,
}

impl<'a> UrlParts<'a> {
    fn of(url: &'a str) -> Result<Self, String> {
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or("it does not start with postgres://")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let parts = Self {
            has_password: user.split_once(':').is_some_and(|(_, p)| !p.is_empty()),
            has_port: host
                .rsplit_once(':')
                .is_some_and(|(_, p)| p.parse::<u16>().is_ok()),
            query,
        };
        for (missing, name) in [
            (user.is_empty() && !parts.asks("user"), "a user"),
            (host.is_empty() && !parts.asks("host"), "a host"),
            (database.is_empty() && !parts.asks("dbname"), "a database"),
        ] {
            if missing {
                return Err(format!("it names no {}", name.trim_start_matches("a ")));
            }
        }
        Ok(parts)
    }

    fn asks(&self, name: &str) -> bool {
        self.query
            .split('&')
            .any(|pair| pair.split_once('=').map_or(pair, |(k, _)| k) == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_without_user_host_or_database_is_refused() {
        for url in [
            "postgres://h/d",
            "postgres://u@/d",
            "postgres://u@h",
            "mysql://u@h/d",
        ] {
            assert!(connect_options(url).is_err(), "{url}");
        }
        assert!(connect_options("postgres://u:p@h:5433/d").is_ok());
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn tls_without_the_feature_is_refused_and_never_plaintext() {
        for mode in ["require", "verify-ca", "verify-full"] {
            let url = format!("postgres://u@h/d?sslmode={mode}");
            assert!(connect_options(&url).unwrap_err().contains("feature `tls`"));
        }
    }
}
