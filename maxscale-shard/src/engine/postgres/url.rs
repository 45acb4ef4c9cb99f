//! What a URL says about a server, and nothing else.

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx_core::Url;

/// What stands between us and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooler {
    /// Nothing: a connection is a session.
    None,
    /// A pooler in transaction mode that knows named prepared statements.
    Prepared,
    /// One that does not: whatever takes several messages has to be a transaction.
    Unprepared,
}

/// Reads a URL so that no `PG*` variable has a say.
///
/// sqlx fills what a URL leaves out from the environment, so each such part is
/// set here; variables that cannot be overruled are refused.
pub(super) fn connect_options(text: &str) -> Result<(PgConnectOptions, Pooler), String> {
    let mut url = Url::parse(text).map_err(|error| error.to_string())?;
    let pooler = take_pooler(&mut url)?;
    // Where the server stands matters to its node, not to the connection.
    take(&mut url, "region=");
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
    if pooler != Pooler::None {
        // PgBouncer refuses a connection that asks for it.
        options = options.extra_float_digits(None);
    }
    Ok((options, pooler))
}

fn take_pooler(url: &mut Url) -> Result<Pooler, String> {
    let own = take(url, "pooler=");
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    match own.as_slice() {
        [] | ["none"] => Ok(Pooler::None),
        ["prepared"] => Ok(Pooler::Prepared),
        ["unprepared"] => Ok(Pooler::Unprepared),
        _ => Err("its pooler is none of none, prepared and unprepared".into()),
    }
}

/// Takes a parameter of our own out of the URL, as sqlx knows no such.
fn take(url: &mut Url, name: &str) -> Vec<String> {
    let query = url.query().unwrap_or_default();
    let (own, others): (Vec<&str>, Vec<&str>) =
        query.split('&').partition(|part| part.starts_with(name));
    let own: Vec<String> = (own.iter())
        .map(|part| part[name.len()..].to_owned())
        .collect();
    if !own.is_empty() {
        let others = others.join("&");
        url.set_query(Some(others.as_str()).filter(|others| !others.is_empty()));
    }
    own
}

/// What is read of a URL's query, and besides `options[...]`.
const PARAMETERS: [&str; 20] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "pooler",
    "port",
    "region",
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
