//! Requests that bring an access token, over HTTP and gRPC.

use http::{Request, Response, StatusCode, header};
use maxscale_auth::jwt::{Algorithm, KeyState, Keys, SigningKey};
use maxscale_auth::session::{MemorySessions, Sessions, Which, Why};
use maxscale_auth::{Guard, Principal, SessionLayer, StrongLayer};
use maxscale_cache::Hub;
use maxscale_shard::Engine;
use maxscale_tests::eventually;
use tonic::Code;
use tower::{Layer, ServiceExt as _};

use super::{BETTER, Desk, PROOF};
use crate::counting::Counting;
use crate::grpc::{COOKIE, call, serve};
use crate::support::{Bench, Handled, LIMIT, ask, authorization, cookie, handler, keys};

/// A desk whose sessions are in memory, and how often they are asked for: each time, or
/// where they are remembered.
async fn counted(hub: Option<&Hub>) -> (Desk, Counting) {
    let bench = Bench::new(Engine::Sqlite).await;
    let store = Counting::new(MemorySessions::new(bench.clock.clone()));
    let mut sessions = Sessions::builder(store.clone(), keys(), bench.ids.clone());
    if let Some(hub) = hub {
        sessions = sessions.near(hub);
    }
    let sessions = sessions.clock(bench.clock.clone()).build();
    (Desk::with(bench, sessions).await, store)
}

impl Desk {
    fn layer(&self) -> SessionLayer {
        SessionLayer::with_tokens(self.tokens.clone(), COOKIE)
    }
}

fn bearer(token: &str) -> Request<()> {
    authorization(&format!("Bearer {token}"))
}

fn who<B>(answer: &Response<B>) -> Option<&Principal> {
    answer.extensions().get()
}

/// A token that looks like ours, by a key that is none of ours.
fn foreign(desk: &Desk) -> String {
    let key = SigningKey::random(Algorithm::EdDsa).unwrap();
    let keys = Keys::new([(key, KeyState::Active)]).unwrap();
    desk.bench.sign(&keys)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bearer_of_an_access_token_is_who_has_the_session() {
    let (desk, store) = counted(None).await;
    let (session, principal) = desk.begin(PROOF).await;
    let token = desk.issue(&principal).await;
    let layer = desk.layer();
    for request in [bearer(&token), bearer(&session), cookie(&session)] {
        let answer = ask(&layer, request).await;
        let who = who(&answer).unwrap();
        assert_eq!(who.session(), principal.session());
        assert_eq!(who.level(), principal.level());
        assert_eq!(who.authenticated_at(), principal.authenticated_at());
        assert_eq!(answer.extensions().get(), Some(principal.subject()));
        assert_eq!(answer.headers()[header::VARY], "cookie, authorization");
    }

    // No access token is kept in a cookie, and nobody is asked what is none.
    let asked = store.loads();
    let plain = SessionLayer::new(desk.sessions.clone(), COOKIE);
    // In the middle of the signature, where all bits count.
    let (start, rest) = token.split_at(token.len() - 40);
    let other = if rest.starts_with('A') { "B" } else { "A" };
    let changed = format!("{start}{other}{}", &rest[1..]);
    let theirs = foreign(&desk);
    for (layer, request) in [
        (&layer, cookie(&token)),
        (&layer, bearer(&changed)),
        (&layer, bearer(&theirs)),
        (&layer, bearer("..")),
        (&plain, bearer(&token)),
    ] {
        let answer = ask(layer, request).await;
        assert!(answer.extensions().get::<Handled>().is_some());
        assert_eq!(who(&answer), None);
    }
    let mut both = bearer(&token);
    both.headers_mut()
        .extend(cookie(&session).headers().clone());
    let answer = ask(&layer, both).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(store.loads(), asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strong_route_asks_for_the_session_of_an_access_token() {
    let (desk, store) = counted(Some(&Hub::builder().build())).await;
    let (_, principal) = desk.begin(PROOF).await;
    let token = desk.issue(&principal).await;
    let layer = desk.layer();
    // On a machine that stands still it is forgotten before it is asked for again.
    eventually(LIMIT, async || {
        let asked = store.loads();
        assert!(who(&ask(&layer, bearer(&token)).await).is_some());
        store.loads() == asked
    })
    .await;
    let inside = layer.layer(StrongLayer.layer(handler()));
    let outside = StrongLayer.layer(layer.layer(handler()));
    let asked = store.loads();
    let answer = inside.clone().oneshot(bearer(&token)).await.unwrap();
    assert!(who(&answer).is_some());
    assert_eq!(store.loads(), asked + 1);
    let answer = outside.clone().oneshot(bearer(&token)).await.unwrap();
    assert!(who(&answer).is_some());
    assert_eq!(store.loads(), asked + 2);

    let which = Which::One(principal.session());
    let elsewhere = desk.bench.sessions_on(store);
    let _ = elsewhere
        .revoke(desk.user, which, Why::Ordered)
        .await
        .unwrap();
    let answer = inside.oneshot(bearer(&token)).await.unwrap();
    assert_eq!(who(&answer), None);
    let answer = outside.oneshot(bearer(&token)).await.unwrap();
    assert_eq!(who(&answer), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_of_a_key_that_may_have_come_since_is_not_called_none() {
    let (desk, _) = counted(None).await;
    let (_, principal) = desk.begin(PROOF).await;
    let token = desk.issue(&principal).await;
    let theirs = foreign(&desk);
    let layer = desk.layer();
    let status = async |token: &str| ask(&layer, bearer(token)).await.status();
    assert_eq!(status(&theirs).await, StatusCode::OK, "as of nobody");
    desk.bench.time.advance(desk.keys.rotation().seen_within());
    assert_eq!(status(&theirs).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status(&token).await, StatusCode::OK, "its key is known");
    desk.keys.look().await.unwrap();
    assert_eq!(status(&theirs).await, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_knows_access_tokens_by_the_same_layer() {
    let (desk, _) = counted(None).await;
    let (_, principal) = desk.begin(BETTER).await;
    let token = format!("Bearer {}", desk.issue(&principal).await);
    let (_, weak) = desk.begin(PROOF).await;
    let weak = format!("Bearer {}", desk.issue(&weak).await);
    let theirs = format!("Bearer {}", foreign(&desk));
    let guarded = serve(desk.layer(), Guard::logged_in().aal2()).await;
    for (token, code) in [
        (&token, Code::Ok),
        (&weak, Code::PermissionDenied),
        (&theirs, Code::Unauthenticated),
    ] {
        let header = ("authorization", token.as_str());
        assert_eq!(call(guarded, &[header]).await, code);
    }
}
