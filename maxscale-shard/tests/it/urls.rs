use std::env;

use maxscale_core::Chain;
use maxscale_shard::{Database, DatabaseOptions, Engine, ShardError, sql};
use maxscale_tests::{Process, ProcessBuilder};

use crate::support::{LIMIT, Nodes, options};

fn refusal(url: &str) -> String {
    match Database::open("db", url, &DatabaseOptions::default()) {
        Err(error @ ShardError::Url { .. }) => Chain(&error).to_string(),
        other => panic!("{url}: {other:?}"),
    }
}

#[tokio::test]
async fn url_that_leaves_something_out_says_what() {
    for (url, missing) in [
        ("mysql://u@h/d", "scheme"),
        ("h/d", "scheme"),
        ("", "scheme"),
        ("postgres://h/d", "user"),
        ("postgres://:secret@h/d", "user"),
        ("postgres://u@/d", "host"),
        ("postgres://u@h", "database"),
        ("postgres://u@h/", "database"),
        ("postgres://u@h//", "database"),
        ("postgres://u@h?sslmode=disable", "database"),
        ("postgres://u@h/d#?sslmode=require", "#"),
        ("postgres://u@h/d?sslmode=sometimes", "ssl"),
        ("postgres://u@h:port/d", "port"),
        // The password has a `?` in it.
        ("postgres://u:12?secret=3@h/d", "user"),
    ] {
        let text = refusal(url);
        assert!(text.contains(missing), "{url}: {text}");
        assert!(!text.contains("secret"), "{text}");
    }
}

/// sqlx would pass it by, and log it with its value.
#[tokio::test]
async fn unknown_parameter_of_a_url_is_refused_and_its_value_not_told() {
    for (query, told) in [
        ("ssl=secret", "\"ssl\""),
        ("sslMode=secret", "\"sslMode\""),
        ("passwd=secret", "\"passwd\""),
        ("Password=secret", "\"Password\""),
        ("sslmode=disable&pasword=secret", "\"pasword\""),
        ("options[geqo=secret", "\"options[geqo\""),
        // The rest of a password that has an `&` in it.
        ("password=top&secret", "number 2"),
        ("password=top&secret=x", "number 2"),
        ("secret=", "number 1"),
    ] {
        let text = refusal(&format!("postgres://u@h/d?{query}"));
        assert!(text.contains(told), "{query}: {text}");
        assert!(!text.contains("secret"), "{text}");
    }
}

#[cfg(not(feature = "tls"))]
#[tokio::test]
async fn url_that_asks_for_tls_is_refused_without_the_feature() {
    for mode in ["require", "verify-ca", "verify-full", "REQUIRE"] {
        for name in ["sslmode", "ssl-mode"] {
            let text = refusal(&format!("postgres://u:secret@h/d?{name}={mode}"));
            assert!(text.contains("feature `tls`"), "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }
}

/// A server without TLS is an error for who asks for TLS, never plaintext.
#[cfg(feature = "tls")]
#[tokio::test]
async fn url_that_asks_for_tls_never_gets_plaintext() {
    let nodes = Nodes::fresh(Engine::Postgres, 1).await;
    let url = format!("{}?sslmode=require", nodes.urls[0]);
    let database = Database::open("db", &url, &options()).unwrap();
    let refused = database.reach().await.unwrap_err();
    assert!(
        Chain(&refused).to_string().contains("TLS"),
        "{}",
        Chain(&refused)
    );
}

#[tokio::test]
async fn settings_in_the_url_are_taken() {
    for url in [
        "postgres://u:p%40ss@h:5433/d",
        "postgresql://u@[::1]/d?sslmode=disable",
        "postgres:///d?host=/run/postgresql&user=u&port=5433",
        "postgres://u@h/d?options[geqo]=off&application_name=x",
        "postgres:///?hostaddr=::1&dbname=d&user=u&password=p&statement-cache-capacity=9",
        "postgres://u@h/d?ssl-mode=disable&ssl-root-cert=a&ssl-ca=a&ssl-cert=b&ssl-key=c",
        "postgres://u@h/d?sslmode=disable&sslrootcert=a&sslcert=b&sslkey=c&options=-c%20a=b",
    ] {
        Database::open("db", url, &DatabaseOptions::default()).unwrap();
    }
}

const URL: &str = "MAXSCALE_TEST_CHILD_URL";

/// This very test, run alone by a process of its own with variables of its own.
fn child(test: &str, url: &str) -> ProcessBuilder {
    let program = env::current_exe().unwrap();
    Process::builder(program)
        .args(["--exact", test, "--nocapture"])
        .env(URL, url)
}

fn child_url() -> Option<String> {
    Some(env::var_os(URL)?.into_string().unwrap())
}

#[tokio::test]
async fn pg_variables_never_change_a_connection() {
    if let Some(url) = child_url() {
        let database = Database::open("db", &url, &options()).unwrap();
        let asked = sql(
            "SELECT current_user::text AS u, current_database()::text AS d,
                         current_setting('application_name') AS a, inet_server_port() AS p",
        );
        let row = database.fetch_optional(asked).await.unwrap().unwrap();
        let text = |name| row.get::<String>(name).unwrap();
        println!(
            "got {} {} {} {}",
            text("u"),
            text("d"),
            text("a"),
            row.get::<i64>("p").unwrap()
        );
        return;
    }
    let nodes = Nodes::fresh(Engine::Postgres, 1).await;
    // The shared server listens on 127.0.0.1 without a password.
    let url = &nodes.urls[0];
    let process = child("urls::pg_variables_never_change_a_connection", url)
        .env("PGHOST", "nowhere.invalid")
        .env("PGHOSTADDR", "192.0.2.1")
        .env("PGPORT", "1")
        .env("PGUSER", "nobody")
        .env("PGPASSWORD", "wrong")
        .env("PGDATABASE", "nothing")
        .env("PGSSLMODE", "verify-full")
        .env("PGAPPNAME", "other")
        .env("PGPASSFILE", "/nowhere")
        .start();

    let line = process.wait_for_line("got ", LIMIT).await;

    assert!(process.wait(LIMIT).await.success());
    let (server, database) = url.rsplit_once('/').unwrap();
    let (server, port) = server.rsplit_once(':').unwrap();
    let user = server
        .trim_start_matches("postgres://")
        .split(['@', ':'])
        .next()
        .unwrap();
    assert!(
        line.ends_with(&format!("got {user} {database} maxscale {port}")),
        "{line}"
    );
}

/// Variables that cannot be overruled are refused instead, by name.
#[tokio::test]
async fn pg_variables_that_cannot_be_overruled_are_refused() {
    if let Some(url) = child_url() {
        for url in [url.clone(), format!("{url}?options=-c%20geqo%3Doff")] {
            println!("got {}", refusal(&url));
        }
        return;
    }
    let mut variables = vec![("PGOPTIONS", "-c search_path=other")];
    if cfg!(feature = "tls") {
        variables.extend(["PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"].map(|name| (name, "/nowhere")));
    }
    for (name, value) in variables {
        let test = "urls::pg_variables_that_cannot_be_overruled_are_refused";
        let process = child(test, "postgres://u@h/d")
            .env(name, value)
            // No URL can be made of this one.
            .env("PGHOST", "/run/no such folder")
            .start();
        let line = process.wait_for_line("got ", LIMIT).await;
        assert!(line.contains(name), "{line}");
        assert!(process.wait(LIMIT).await.success());
        assert_eq!(
            process
                .lines()
                .iter()
                .filter(|l| l.contains("got "))
                .count(),
            2
        );
    }
}
