//! PostgreSQL under TLS.

use maxscale_core::Chain;
use maxscale_shard::{Database, DatabaseOptions, sql};
use maxscale_tests::{Certificate, Certificates, PostgresServer};

/// A database of the server, reached by TLS as the query says.
fn database(server: &PostgresServer, query: &str) -> Database {
    let url = format!("{}?{query}", server.url());
    Database::open("secured", &url, &DatabaseOptions::default()).unwrap()
}

/// How one asks for a server of this authority, by name.
fn full(certificates: &Certificates) -> String {
    let ca = certificates.ca().display();
    format!("sslmode=verify-full&sslrootcert={ca}")
}

async fn refusal(server: &PostgresServer, query: &str) -> String {
    let refused = database(server, query).reach().await;
    Chain(&refused.unwrap_err()).to_string()
}

#[tokio::test]
async fn server_of_a_trusted_authority_is_reached_under_tls() {
    let certificates = Certificates::new();
    let server = PostgresServer::start_with_tls(certificates.valid()).await;
    let database = database(&server, &full(&certificates));
    let secured = sql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
    let row = database.fetch_optional(secured).await.unwrap().unwrap();
    assert!(row.get::<bool>("ssl").unwrap());
}

#[tokio::test]
async fn server_with_a_wrong_certificate_is_refused() {
    let certificates = Certificates::new();
    let wrong: [(&Certificate, &str); 3] = [
        (certificates.unknown_ca(), "UnknownIssuer"),
        (certificates.wrong_name(), "not valid for name"),
        (certificates.expired(), "expired"),
    ];
    for (certificate, says) in wrong {
        let server = PostgresServer::start_with_tls(certificate).await;
        let told = refusal(&server, &full(&certificates)).await;
        assert!(told.contains(says), "{says}: {told}");
    }
}

#[tokio::test]
async fn private_authority_is_refused_unless_it_is_named() {
    let certificates = Certificates::new();
    let server = PostgresServer::start_with_tls(certificates.valid()).await;
    let told = refusal(&server, "sslmode=verify-full").await;
    assert!(told.contains("UnknownIssuer"), "{told}");
}

#[tokio::test]
async fn server_without_tls_is_refused_where_tls_is_asked_for() {
    let server = PostgresServer::shared().await;
    for mode in ["require", "verify-ca", "verify-full"] {
        let told = refusal(server, &format!("sslmode={mode}")).await;
        assert!(told.contains("does not support TLS"), "{mode}: {told}");
    }
}
