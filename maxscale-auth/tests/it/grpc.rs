//! The same layers around a tonic server.

use std::net::SocketAddr;

use maxscale_auth::{CookiePolicy, CsrfLayer, Guard, RequireLayer, SessionLayer};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::activity::Desk;

pub(crate) const COOKIE: CookiePolicy = CookiePolicy::new(true);

/// Where a server answers to who passes these layers, for as long as the test lasts.
pub(crate) async fn serve(sessions: SessionLayer, guard: Guard) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_reporter, health) = tonic_health::server::health_reporter();
    let server = Server::builder()
        .layer(sessions)
        .layer(CsrfLayer::new(COOKIE, ["https://app.example"]).unwrap())
        .layer(RequireLayer::new(guard))
        .add_service(health);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    address
}

pub(crate) async fn call(address: SocketAddr, headers: &[(&'static str, &str)]) -> Code {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = HealthClient::new(endpoint.connect().await.unwrap());
    let mut request = Request::new(HealthCheckRequest::default());
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    match client.check(request).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

#[tokio::test]
async fn grpc_is_recognised_and_guarded_by_the_same_layers() {
    let desk = Desk::new();
    let token = desk.begin().await;
    let layer = || SessionLayer::new(desk.sessions.clone(), COOKIE);
    let address = serve(layer(), Guard::logged_in()).await;
    let guarded = serve(layer(), Guard::logged_in().aal2()).await;
    let bearer = format!("Bearer {token}");
    let cookie = format!("__Host-maxscale={token}");
    let own = ("authorization", &*bearer);
    let by_cookie = ("cookie", &*cookie);
    assert_eq!(call(address, &[own]).await, Code::Ok);
    assert_eq!(call(address, &[]).await, Code::Unauthenticated);
    assert_eq!(call(guarded, &[own]).await, Code::PermissionDenied);
    assert_eq!(call(guarded, &[]).await, Code::Unauthenticated);
    // From a browser.
    let site = |site| ("sec-fetch-site", site);
    assert_eq!(
        call(address, &[by_cookie, site("same-origin")]).await,
        Code::Ok
    );
    assert_eq!(
        call(address, &[by_cookie, site("cross-site")]).await,
        Code::PermissionDenied
    );
    assert_eq!(call(address, &[by_cookie]).await, Code::PermissionDenied);
    let other = ("authorization", "Bearer other");
    assert_eq!(
        call(address, &[by_cookie, other]).await,
        Code::InvalidArgument
    );
}
