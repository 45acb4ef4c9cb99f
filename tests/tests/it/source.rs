//! Where servers come from, seen from outside.

use std::time::Duration;

use maxscale_tests::Process;

const LIMIT: Duration = Duration::from_secs(60);

/// Output of a holder that cannot start its servers.
async fn refused(variables: &[(&str, &str)]) -> String {
    let mut holder = Process::builder(env!("CARGO_BIN_EXE_hold_servers"));
    for (name, value) in variables {
        holder = holder.env(name, value);
    }
    let holder = holder.start();
    let status = holder.wait(LIMIT).await;
    assert!(!status.success());
    holder.stderr().join("\n")
}

#[tokio::test]
async fn an_unknown_way_is_refused_with_the_known_ones() {
    let said = refused(&[("MAXSCALE_TEST_SERVERS", "dokcer")]).await;

    assert!(
        said.contains("MAXSCALE_TEST_SERVERS=dokcer: expected url, path, packages or docker"),
        "{said}"
    );
}

#[tokio::test]
async fn a_forced_url_that_is_not_set_is_refused() {
    let said = refused(&[("MAXSCALE_TEST_SERVERS", "url")]).await;

    assert!(said.contains("DATABASE_URL is not set"), "{said}");
}

#[tokio::test]
async fn a_missing_server_fails_with_what_was_tried_and_what_to_do() {
    let said = refused(&[
        ("MAXSCALE_TEST_SERVERS", "docker"),
        // A docker that does not answer, whatever this machine has.
        ("PATH", "/nonexistent"),
    ])
    .await;

    assert!(
        said.contains("no PostgreSQL (version 15 or newer)"),
        "{said}"
    );
    assert!(said.contains("  url: DATABASE_URL is not set"), "{said}");
    assert!(said.contains("  docker: docker: No such file"), "{said}");
    assert!(said.contains("To fix it: "), "{said}");
}

#[tokio::test]
async fn an_unreachable_url_fails_and_names_its_variable() {
    let said = refused(&[("DATABASE_URL", "postgres://127.0.0.1:1/x")]).await;

    assert!(said.contains("DATABASE_URL: "), "{said}");
}
