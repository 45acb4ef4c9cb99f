//! Redis under TLS.

use maxscale_core::redis::{Command, Event, Redis, RedisConfig, Reply};
use maxscale_tests::{Certificate, Certificates, RedisServer, eventually};
use tokio::time::timeout;

use super::log::Log;
use super::together::{are_read, set, talks};
use super::{SOON, connect};

fn trusting(url: &str, certificates: &Certificates) -> RedisConfig {
    let ca = certificates.ca().display();
    patient(RedisConfig::new(&format!("{url}?ca={ca}")).unwrap())
}

/// A handshake or a reply that is slow on a busy machine is no refusal.
fn patient(config: RedisConfig) -> RedisConfig {
    config.connect_timeout(SOON).timeout(SOON)
}

/// Why the first connection did not stand. On one thread, so that the log of
/// the handle's tasks is this test's.
async fn refusal(config: RedisConfig) -> String {
    let log = Log::default();
    let _log = log.listen();
    let redis = Redis::open(config);
    let cause = eventually(SOON, async || log.cause()).await;
    assert!(!redis.is_up(), "{cause}");
    cause
}

#[tokio::test]
async fn server_of_a_trusted_ca_is_used_for_commands_and_messages() {
    let certificates = Certificates::new();
    let server = RedisServer::start_with_tls(certificates.valid()).await;
    let redis = connect(trusting(&server.tls_url(), &certificates)).await;

    let mut events = redis.subscribe("news");
    let mut next = async || timeout(SOON, events.next()).await.unwrap();
    assert_eq!(next().await, Some(Event::Reconnected));
    let publish = Command::new("PUBLISH").arg("news").arg("one");
    assert_eq!(redis.command(publish).await.unwrap(), Reply::Int(1));
    assert_eq!(next().await, Some(Event::Message("one".into())));

    set(&redis, &["a", "b"]).await;
    assert!(are_read(&redis, &["a", "b"]).await);
    assert_eq!(talks(&redis).await.len(), 1);
}

#[tokio::test]
async fn server_with_a_wrong_certificate_is_refused() {
    let certificates = Certificates::new();
    let wrong: [(&Certificate, &str); 3] = [
        (certificates.unknown_ca(), "UnknownIssuer"),
        (certificates.wrong_name(), "NotValidForName"),
        (certificates.expired(), "Expired"),
    ];
    for (certificate, says) in wrong {
        let server = RedisServer::start_with_tls(certificate).await;
        let cause = refusal(trusting(&server.tls_url(), &certificates)).await;
        assert!(cause.contains(says), "{says}: {cause}");
    }
}

#[tokio::test]
async fn private_ca_is_refused_unless_it_is_named() {
    let certificates = Certificates::new();
    let server = RedisServer::start_with_tls(certificates.valid()).await;
    let config = patient(RedisConfig::new(&server.tls_url()).unwrap());
    let cause = refusal(config).await;
    assert!(cause.contains("UnknownIssuer"), "{cause}");
}

#[tokio::test]
async fn server_without_tls_is_refused() {
    let certificates = Certificates::new();
    let server = RedisServer::start().await;
    let url = server.url().replace("redis://", "rediss://");
    // It may wait for more of what it does not understand.
    let hasty = RedisConfig::DEFAULT_CONNECT_TIMEOUT;
    refusal(trusting(&url, &certificates).connect_timeout(hasty)).await;
}
