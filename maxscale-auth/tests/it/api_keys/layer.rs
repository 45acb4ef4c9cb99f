//! Requests that bring a key, over HTTP and gRPC.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::{Request, Response, StatusCode, header};
use maxscale_auth::api_key::NewApiKey;
use maxscale_auth::{Allowed, Demand, Guard, Principal, RequireLayer, SessionLayer, StrongLayer};
use maxscale_core::limit::Quota;
use maxscale_shard::Engine;
use tokio::net::TcpListener;
use tonic::Code;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower::util::MapRequestLayer;
use tower::{Layer as _, ServiceExt as _};

use super::{DAY, Desk, HERE, scopes};
use crate::grpc::{COOKIE, call};
use crate::support::{Bench, Handled, ask, authorization, cookie, handler};

struct Pays;

impl Demand for Pays {
    fn guard() -> Guard {
        Guard::logged_in().scope("pay")
    }
}

/// A request with a key, of a client whose address is known.
pub(super) fn bearer(text: &str) -> Request<()> {
    let mut request = authorization(&format!("Bearer {text}"));
    request.extensions_mut().insert(HERE);
    request
}

/// Whether the handler is told who it is; on a strong route, as the rows say.
pub(super) async fn serves(layer: &SessionLayer, request: Request<()>, strong: bool) -> bool {
    if !strong {
        return who(&ask(layer, request).await).is_some();
    }
    let service = layer.layer(StrongLayer.layer(handler()));
    who(&service.oneshot(request).await.unwrap()).is_some()
}

fn who<B>(answer: &Response<B>) -> Option<&Principal> {
    answer.extensions().get()
}

async fn desk() -> Desk {
    Desk::of(Bench::new(Engine::Sqlite).await).await
}

impl Desk {
    fn layer(&self) -> SessionLayer {
        SessionLayer::new(self.bench.accounts.sessions().clone(), COOKIE).keys(self.keys.clone())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bearer_of_a_key_is_its_owner_and_what_is_none_is_nobody() {
    let desk = desk().await;
    let (made, ended) = (desk.make(&["read"]).await, desk.make(&["read"]).await);
    desk.keys.revoke(desk.user, ended.key.id).await.unwrap();
    let layer = desk.layer();
    let answer = ask(&layer, bearer(&made.text)).await;
    let known = who(&answer).unwrap();
    assert_eq!((known.user(), known.session()), (desk.user, made.key.id));
    assert_eq!(answer.extensions().get(), Some(desk.principal.subject()));
    assert_eq!(answer.headers()[header::VARY], "cookie, authorization");
    assert!(serves(&layer, bearer(&made.text), true).await);

    // Sessions are known as before, and no key is kept in a cookie.
    let session = &desk.begun.token;
    for request in [bearer(session), cookie(session)] {
        assert_eq!(who(&ask(&layer, request).await).unwrap().api_key(), None);
    }
    let plain = SessionLayer::new(desk.bench.accounts.sessions().clone(), COOKIE);
    for (layer, request) in [
        (&layer, cookie(&made.text)),
        (&layer, bearer(&ended.text)),
        (&layer, bearer("acme_")),
        (&layer, bearer(&made.text.replace("_test_", "_live_"))),
        (&plain, bearer(&made.text)),
    ] {
        let answer = ask(layer, request).await;
        assert!(answer.extensions().get::<Handled>().is_some());
        assert_eq!(who(&answer), None);
    }
    let mut both = bearer(&made.text);
    both.headers_mut().extend(cookie(session).headers().clone());
    assert_eq!(ask(&layer, both).await.status(), StatusCode::BAD_REQUEST);
    // Wrong keys could not be counted.
    let nowhere = authorization(&format!("Bearer {}", made.text));
    let answer = ask(&layer, nowhere).await;
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_goes_no_further_than_its_scopes() {
    let desk = desk().await;
    let (pays, reads) = (
        desk.make(&["pay", "read"]).await,
        desk.make(&["read"]).await,
    );
    let app = Router::new()
        .route("/pay", get(async |_: Allowed<Pays>| "paid"))
        .route("/who", get(async |_: Principal| "somebody"))
        .route(
            "/maybe",
            get(async |_: Option<Principal>| "somebody, or not"),
        )
        .layer(desk.layer());
    let session = desk.begun.token.as_str();
    let (ok, no) = (StatusCode::OK, StatusCode::FORBIDDEN);
    for (path, token, expected, code) in [
        ("/pay", &*pays.text, ok, ""),
        ("/pay", &*reads.text, no, "scope_required"),
        ("/pay", session, ok, ""),
        (
            "/pay",
            "acme_test_x",
            StatusCode::UNAUTHORIZED,
            "not_logged_in",
        ),
        // What names no scope is for people.
        ("/who", &*pays.text, no, "api_key_refused"),
        ("/maybe", &*pays.text, no, "api_key_refused"),
        ("/maybe", session, ok, ""),
    ] {
        let (mut parts, ()) = bearer(token).into_parts();
        parts.uri = path.parse().unwrap();
        let request = Request::from_parts(parts, Body::empty());
        let answer = app.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), expected, "{path}");
        let body = axum::body::to_bytes(answer.into_body(), 1_000)
            .await
            .unwrap();
        let body = String::from_utf8_lossy(&body).into_owned();
        assert!(body.contains(code), "{path}: {body}");
    }
    let known = desk.who(&pays.text).await.unwrap();
    for guard in [
        Guard::logged_in().in_person(),
        Guard::logged_in().scope("pay").in_person(),
        Guard::logged_in().scope("pay").fresh(DAY),
    ] {
        let refused = guard.check(Some(&known)).unwrap_err();
        assert_eq!(refused, maxscale_auth::Denied::ApiKey, "{guard:?}");
    }
    let wants_more = Guard::logged_in().scope("pay").role("admin");
    assert!(wants_more.check(Some(&known)).is_err(), "its owner is none");
    assert!(
        Guard::logged_in()
            .scope("pay")
            .aal2()
            .check(Some(&known))
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn used_up_quota_is_told_with_the_time_to_wait() {
    let desk = desk().await;
    let quota = Quota::new(2, std::time::Duration::from_secs(3_600)).unwrap();
    let new = NewApiKey::new("a program", scopes(&["read"])).quota(quota);
    let made = desk.keys.create(&desk.principal, &new).await.unwrap();
    let layer = desk.layer();
    // Asked for again on a strong route, it is one request.
    assert!(serves(&layer, bearer(&made.text), true).await);
    assert!(serves(&layer, bearer(&made.text), false).await);
    let full = ask(&layer, bearer(&made.text)).await;
    assert_eq!(full.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(full.headers().contains_key(header::RETRY_AFTER), "{full:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_knows_keys_by_the_same_layers() {
    let desk = desk().await;
    let address = serve(desk.layer(), Guard::logged_in().scope("pay")).await;
    let (pays, reads) = (desk.make(&["pay"]).await, desk.make(&["read"]).await);
    for (token, code) in [
        (&*pays.text, Code::Ok),
        (&*desk.begun.token, Code::Ok),
        (&*reads.text, Code::PermissionDenied),
        ("acme_test_x", Code::Unauthenticated),
    ] {
        let bearer = format!("Bearer {token}");
        assert_eq!(call(address, &[("authorization", &*bearer)]).await, code);
    }
}

/// Where a server answers whose clients' address is known, to who passes the guard.
async fn serve(sessions: SessionLayer, guard: Guard) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_reporter, health) = tonic_health::server::health_reporter();
    let here = MapRequestLayer::new(|mut request: Request<tonic::body::Body>| {
        request.extensions_mut().insert(HERE);
        request
    });
    let server = Server::builder()
        .layer(here)
        .layer(sessions)
        .layer(RequireLayer::new(guard))
        .add_service(health);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    address
}
