//! PostgreSQL: connections whose every setting comes from the URL.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection};
use sqlx_core::Url;
use sqlx_core::transaction::TransactionManager;

use super::driver::{self, bound, verbs};
use crate::database::DatabaseOptions;
use crate::error::ShardError;
use crate::sql::row::{RawRow, Row};
use crate::sql::{Engine, Statement};

verbs!(sqlx::Postgres, Engine::Postgres, Postgres, "BEGIN");

/// The driver reads the answer to its end, so an error after the row is seen.
pub(crate) async fn fetch_optional(
    conn: &mut Pooled,
    database: &Arc<str>,
    statement: Statement,
) -> Result<Option<Row>, ShardError> {
    let row = bound!(statement, Engine::Postgres).fetch_optional(&mut **conn);
    let row = row.await.map_err(|e| driver::error(database, e))?;
    Ok(row.map(|r| Row(RawRow::Postgres(r))))
}

/// A connection that idled for longer is asked for a sign of life before it is used.
/// No server is started anew in less.
const IDLE_UNASKED: Duration = Duration::from_millis(100);

/// The pool asks a connection that it gets back for a sign of life, for which
/// the server does nothing. One that hangs gives none in this time.
const LIFE_SIGN: Duration = Duration::from_secs(1);

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
        .test_before_acquire(false)
        // Each connection was asked when it was given back, at the cost of a round
        // trip that nobody waits for but whoever needs its place. One that idled
        // since may have broken unnoticed, and then its first statement would fail.
        .before_acquire(|conn, meta| {
            Box::pin(async move {
                if meta.idle_for >= IDLE_UNASKED {
                    conn.ping().await?;
                }
                Ok(true)
            })
        })
        .idle_timeout(options.idle_timeout)
        .connect_lazy_with(connect))
}

/// Gives a connection back to its pool, or closes it if the server hangs.
///
/// The pool's own way has no limit, and keeps the connection's place meanwhile.
pub(crate) fn give_back(conn: &mut Pooled) {
    // From here on `conn` is empty; its own drop gives nothing back.
    let asked = conn.return_to_pool();
    // Outside a runtime nobody can ask, and it is closed.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(tokio::time::timeout(LIFE_SIGN, asked));
    }
}

/// Reads a URL so that no `PG*` variable has a say.
///
/// sqlx fills what a URL leaves out from the environment, so each such part is
/// set here; variables that cannot be overruled are refused.
fn connect_options(text: &str) -> Result<PgConnectOptions, String> {
    let mut url = Url::parse(text).map_err(|error| error.to_string())?;
    if url.fragment().is_some() {
        return Err("a # in it must be written %23".into());
    }
    let pairs = url.query_pairs();
    let asked: Vec<String> = pairs
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, _)| key.into_owned())
        .collect();
    let asks = |names: &[&str]| asked.iter().any(|key| names.contains(&key.as_str()));
    let has_host = url.host_str().is_some_and(|host| !host.is_empty());
    let has_database = !url.path().trim_start_matches('/').is_empty();
    for (name, there) in [
        ("user", !url.username().is_empty() || asks(&["user"])),
        ("host", has_host || asks(&["host", "hostaddr"])),
        ("database", has_database || asks(&["dbname"])),
    ] {
        if !there {
            return Err(format!("it names no {name}"));
        }
    }
    refuse_unknown(&url)?;
    refuse_variables(asks)?;

    if url.password().is_none_or(str::is_empty) && !asks(&["password"]) {
        url.query_pairs_mut().append_pair("password", "");
    }
    if !asks(&["sslmode", "ssl-mode"]) {
        let tls = cfg!(feature = "tls");
        let mode = if tls { "prefer" } else { "disable" };
        url.query_pairs_mut().append_pair("sslmode", mode);
    }
    let mut options = PgConnectOptions::from_url(&url).map_err(|error| error.to_string())?;
    let tls = !matches!(
        options.get_ssl_mode(),
        PgSslMode::Disable | PgSslMode::Prefer | PgSslMode::Allow
    );
    if tls && !cfg!(feature = "tls") {
        return Err(
            "sslmode asks for TLS, and this program was built without the feature `tls`".into(),
        );
    }
    if !asks(&["application_name"]) {
        options = options.application_name("maxscale");
    }
    if url.port().is_none() && !asks(&["port"]) {
        options = options.port(5432);
    }
    Ok(options)
}

/// What sqlx reads of a URL's query, and besides `options[...]`.
const PARAMETERS: [&str; 18] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// Refuses what sqlx would pass by, with its value in a log line: a mistyped
/// password would be told, and a mistyped `sslmode` would get plaintext.
fn refuse_unknown(url: &Url) -> Result<(), String> {
    let known = |key: &str| {
        let option = key.strip_prefix("options[");
        PARAMETERS.contains(&key) || option.is_some_and(|rest| rest.ends_with(']'))
    };
    let mut behind_a_password = false;
    for (at, (key, value)) in (1..).zip(url.query_pairs()) {
        if !known(&key) {
            // This may be the rest of a password that has an `&` in it, and so is not told.
            return Err(if value.is_empty() || behind_a_password {
                format!("its parameter number {at} is unknown; in a value, & is written %26")
            } else {
                let parameters = PARAMETERS.join(", ");
                format!("its parameter {key:?} is none of {parameters} and options[...]")
            });
        }
        behind_a_password |= key == "password";
    }
    Ok(())
}

/// Refuses the variables that sqlx takes and offers no way to unset.
fn refuse_variables(asks: impl Fn(&[&str]) -> bool) -> Result<(), String> {
    // What sqlx takes from the environment alone. Host and user are overruled
    // because not every value of theirs makes a URL.
    let taken = PgConnectOptions::new_without_pgpass()
        .host("h")
        .username("u");
    let url = taken.to_url_lossy();
    let file = |name: &str, names: &[&str]| {
        cfg!(feature = "tls") && url.query_pairs().any(|(key, _)| key == name) && !asks(names)
    };
    for (variable, parameter, matters) in [
        // In the URL it would be added to the variable's.
        ("PGOPTIONS", "options", taken.get_options().is_some()),
        (
            "PGSSLROOTCERT",
            "sslrootcert",
            file("sslrootcert", &["sslrootcert", "ssl-root-cert", "ssl-ca"]),
        ),
        (
            "PGSSLCERT",
            "sslcert",
            file("sslcert", &["sslcert", "ssl-cert"]),
        ),
        ("PGSSLKEY", "sslkey", file("sslkey", &["sslkey", "ssl-key"])),
    ] {
        if matters {
            return Err(format!(
                "{variable} is set and would change every connection; \
                 unset it and put `{parameter}=` into the URL"
            ));
        }
    }
    Ok(())
}

/// Connects once, past the pool: a pool would try again and hide the cause.
pub(crate) async fn reach(database: &Arc<str>, pool: &PgPool) -> Result<(), ShardError> {
    let limit = pool.options().get_acquire_timeout();
    let connected = async {
        let conn = pool.connect_options().connect().await?;
        conn.close().await
    };
    match tokio::time::timeout(limit, connected).await {
        Ok(done) => done.map_err(|e| driver::error(database, e)),
        Err(_) => Err(ShardError::Connect {
            database: database.clone(),
            source: format!("no answer within {limit:?}").into(),
        }),
    }
}
