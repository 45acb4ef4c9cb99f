//! The same layers around a tonic server.

use maxscale_auth::{CookiePolicy, CsrfLayer, Guard, RequireLayer, SessionLayer};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::activity::Desk;

#[tokio::test]
async fn grpc_is_recognised_and_guarded_by_the_same_layers() {
    let desk = Desk::new();
    let token = desk.begin().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_reporter, health) = tonic_health::server::health_reporter();
    let cookie = CookiePolicy::new(true);
    let served = |guard: Guard, listener: TcpListener| {
        let server = Server::builder()
            .layer(SessionLayer::new(desk.sessions.clone(), cookie))
            .layer(CsrfLayer::new(cookie, ["https://app.example"]).unwrap())
            .layer(RequireLayer::new(guard))
            .add_service(health.clone());
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)))
    };
    let _plain = served(Guard::logged_in(), listener);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let guarded = listener.local_addr().unwrap();
    let _guarded = served(Guard::logged_in().aal2(), listener);

    let call = async |address: std::net::SocketAddr, headers: &[(&'static str, &str)]| {
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
    };
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
