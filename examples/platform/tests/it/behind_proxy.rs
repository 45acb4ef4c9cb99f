//! Whom the limits of addresses count, behind a proxy and without one.

use reqwest::Method;

use crate::client::send;
use crate::service::Service;

/// How many of four requests are admitted that say that they come from `client`.
async fn admitted(service: &Service, client: &str) -> usize {
    let mut admitted = 0;
    for _ in 0..4 {
        let request = service.client().request(Method::GET, "/v1/me");
        let answer = send(request.header("x-forwarded-for", client)).await;
        admitted += usize::from(answer.unwrap().status != 429);
    }
    admitted
}

#[tokio::test]
async fn clients_behind_a_trusted_proxy_are_counted_each_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    // A burst of 2, and one more each 3 s.
    let builder =
        Service::builder(folder.path()).env("MAXSCALE__LIMITS__ADDRESSES_PER_MINUTE", "20");
    let builder = builder.env("MAXSCALE__HTTP__TRUSTED_PROXIES", "127.0.0.0/8");
    let service = Service::start(builder).await;
    assert_eq!(admitted(&service, "203.0.113.1").await, 2);
    assert_eq!(admitted(&service, "203.0.113.2").await, 2);
    // What a client writes before its proxy does is nobody's word.
    assert_eq!(admitted(&service, "198.51.100.7, 203.0.113.1").await, 0);
}

#[tokio::test]
async fn what_nobody_trusted_says_is_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let builder =
        Service::builder(folder.path()).env("MAXSCALE__LIMITS__ADDRESSES_PER_MINUTE", "20");
    let service = Service::start(builder).await;
    assert_eq!(admitted(&service, "203.0.113.1").await, 2);
    assert_eq!(admitted(&service, "203.0.113.2").await, 0);
}

#[tokio::test]
async fn addresses_of_one_network_are_one_client() {
    let folder = tempfile::tempdir().unwrap();
    let builder =
        Service::builder(folder.path()).env("MAXSCALE__LIMITS__ADDRESSES_PER_MINUTE", "20");
    let builder = builder.env("MAXSCALE__HTTP__TRUSTED_PROXIES", "127.0.0.0/8");
    let service = Service::start(builder).await;
    assert_eq!(admitted(&service, "2001:db8:1:2::1").await, 2);
    assert_eq!(admitted(&service, "2001:db8:1:2:ffff::7").await, 0);
    assert_eq!(admitted(&service, "2001:db8:1:3::1").await, 2);
}
