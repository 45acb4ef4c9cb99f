//! Servers that speak TLS, and a client that trusts one CA.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
};

use maxscale_tests::{Certificate, Certificates, PostgresServer, RedisServer};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

type Secured = StreamOwned<ClientConnection, TcpStream>;

/// Shakes hands with a server, unless the client refuses what it shows.
fn secure(mut stream: TcpStream, ca: &Path) -> std::io::Result<Secured> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca).unwrap())
        .unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

fn redis(server: &RedisServer, ca: &Path) -> std::io::Result<Secured> {
    let url = server.tls_url();
    secure(
        TcpStream::connect(url.strip_prefix("rediss://").unwrap())?,
        ca,
    )
}

fn postgres(server: &PostgresServer, ca: &Path) -> std::io::Result<Secured> {
    let url = server.url();
    let address = url.split(['@', '/']).nth(3).unwrap();
    let mut stream = TcpStream::connect(address)?;
    // The protocol's question whether there is TLS: its length and its code.
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47])?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    assert_eq!(answer, *b"S");
    secure(stream, ca)
}

/// Each wrong certificate, with what rustls says of it.
fn wrong(certificates: &Certificates) -> [(&Certificate, &str); 3] {
    [
        (certificates.wrong_name(), "not valid for name"),
        (certificates.expired(), "expired"),
        (certificates.unknown_ca(), "UnknownIssuer"),
    ]
}

#[tokio::test]
async fn redis_speaks_tls_to_a_client_that_knows_its_ca() {
    let certificates = Certificates::new();
    let server = RedisServer::start_with_tls(certificates.valid()).await;

    let mut stream = redis(&server, certificates.ca()).unwrap();
    stream.write_all(b"PING\r\n").unwrap();
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).unwrap();

    assert_eq!(answer, *b"+PONG\r\n");
}

#[tokio::test]
async fn a_wrong_certificate_of_redis_is_refused_for_what_is_wrong_with_it() {
    let certificates = Certificates::new();
    for (certificate, expected) in wrong(&certificates) {
        let server = RedisServer::start_with_tls(certificate).await;

        let said = redis(&server, certificates.ca()).unwrap_err().to_string();

        assert!(said.contains(expected), "{said}");
    }
}

#[tokio::test]
async fn postgres_speaks_tls_to_a_client_that_knows_its_ca() {
    let certificates = Certificates::new();
    let server = PostgresServer::start_with_tls(certificates.valid()).await;

    let secured = postgres(&server, certificates.ca());

    assert!(secured.is_ok(), "{:?}", secured.err());
}

#[tokio::test]
async fn a_wrong_certificate_of_postgres_is_refused_for_what_is_wrong_with_it() {
    let certificates = Certificates::new();
    for (certificate, expected) in wrong(&certificates) {
        let server = PostgresServer::start_with_tls(certificate).await;

        let said = postgres(&server, certificates.ca())
            .unwrap_err()
            .to_string();

        assert!(said.contains(expected), "{said}");
    }
}

#[tokio::test]
async fn a_server_keeps_its_certificate_when_it_restarts() {
    let certificates = Certificates::new();
    let server = RedisServer::start_with_tls(certificates.valid()).await;
    let ca = std::fs::read(certificates.ca()).unwrap();
    drop(certificates);

    server.restart().await;

    let copy = server.folder().unwrap().join("ca.pem");
    std::fs::write(&copy, ca).unwrap();
    assert!(redis(&server, &copy).is_ok());
}
