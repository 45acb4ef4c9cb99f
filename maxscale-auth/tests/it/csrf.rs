//! What is told of requests that other sites have browsers send, and what caches are
//! told of answers that depend on who asks.

use axum::body::Body;
use http::header::{CACHE_CONTROL, COOKIE, HeaderName, ORIGIN, VARY};
use http::{Method, Request, Response, StatusCode};
use maxscale_auth::routes::Routes;
use maxscale_auth::session::{Which, Why};
use maxscale_auth::{Accounts, AuditEvent, Audited, CookiePolicy, CsrfLayer, SessionLayer};
use maxscale_shard::Engine;
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::activity::{Desk, PROOF};
use crate::letters::build;
use crate::support::{Bench, cookie, handler};

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const EVIL: &str = "https://evil.example";

/// A request as a browser sends it for a page of another site.
fn cross_site(method: Method, token: Option<&str>, origin: &str) -> Request<()> {
    let mut request = token.map_or_else(Request::default, cookie);
    *request.method_mut() = method;
    let headers = request.headers_mut();
    headers.insert(SITE, "cross-site".parse().unwrap());
    headers.insert(ORIGIN, origin.parse().unwrap());
    request
}

fn told(events: &[AuditEvent]) -> Vec<&AuditEvent> {
    let crossed = |it: &&AuditEvent| matches!(it.what, Audited::CrossSite { .. });
    events.iter().filter(crossed).collect()
}

#[tokio::test]
async fn audit_hears_of_other_sites_and_no_store_is_asked() {
    let desk = Desk::new();
    let (sessions, events) = desk.audited();
    let (user, policy) = (desk.user(), CookiePolicy::new(true));
    let token = sessions.begin(user, PROOF, "").await.unwrap();
    let session = desk.who(&token).await.unwrap().session();
    let forged = format!("{}A", &token[..token.len() - 1]);
    let layer = CsrfLayer::new(policy, []).unwrap().audit(sessions.clone());
    let loads = desk.store.loads();
    for (token, origin, expected) in [
        (Some(&token), EVIL, Some(EVIL)),
        (Some(&forged), EVIL, Some(EVIL)),
        (None, EVIL, Some(EVIL)),
        // Whatever a program puts there is not kept.
        (Some(&token), "null", None),
        (Some(&token), "javascript:alert(1)", None),
    ] {
        let request = cross_site(Method::POST, token.map(String::as_str), origin);
        let answer = layer.layer(handler()).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        let events = std::mem::take(&mut *events.lock().unwrap());
        let [event] = *told(&events) else {
            panic!("{events:?}");
        };
        let origin = expected.map(str::to_owned);
        assert_eq!(event.what, Audited::CrossSite { origin });
        let known = token.is_some_and(|it| *it != forged);
        assert_eq!(event.user, known.then_some(user));
        assert_eq!(event.session, known.then_some(session));
    }

    // What is harmless, one's own, or no site's.
    let mut own = cross_site(Method::POST, Some(&token), EVIL);
    own.headers_mut()
        .insert(SITE, "same-origin".parse().unwrap());
    let mut ambiguous = cross_site(Method::POST, Some(&token), EVIL);
    let twice = ambiguous.headers()[COOKIE].clone();
    ambiguous.headers_mut().append(COOKIE, twice);
    for request in [cross_site(Method::GET, Some(&token), EVIL), own, ambiguous] {
        layer.layer(handler()).oneshot(request).await.unwrap();
    }
    assert!(told(&events.lock().unwrap()).is_empty());
    assert_eq!(desk.store.loads(), loads);

    // The token alone says whose it is: nobody looks whether it is over.
    sessions
        .revoke(user, Which::All, Why::LoggedOut)
        .await
        .unwrap();
    let request = cross_site(Method::POST, Some(&token), EVIL);
    layer.layer(handler()).oneshot(request).await.unwrap();
    assert_eq!(told(&events.lock().unwrap())[0].user, Some(user));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_tell_of_other_sites_and_no_answer_of_theirs_is_stored() {
    let (bench, desk) = (Bench::new(Engine::Sqlite).await, Desk::new());
    let (sessions, events) = desk.audited();
    let (ids, keys) = (bench.ids.clone(), bench.keys.clone());
    let builder = Accounts::builder(bench.router().clone(), ids, keys, bench.passwords.clone());
    let accounts = build(builder.sessions(sessions), &bench.letters);
    let router = Routes::new(accounts, CookiePolicy::new(true)).router();
    let router = router.unwrap();
    for (method, path, expected) in [
        (Method::POST, "/logout", 403),
        (Method::GET, "/session", 401),
        (Method::GET, "/magic", 200),
        (Method::GET, "/login", 405),
        (Method::GET, "/nowhere", 404),
    ] {
        let mut request = cross_site(method, None, EVIL).map(|()| Body::empty());
        *request.uri_mut() = path.parse().unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status().as_u16(), expected, "{path}");
        assert_eq!(answer.headers()[CACHE_CONTROL], "no-store", "{path}");
    }
    assert_eq!(told(&events.lock().unwrap()).len(), 1);
}

#[tokio::test]
async fn answer_of_a_session_layer_says_that_it_varies() {
    let desk = Desk::new();
    let layer = SessionLayer::new(desk.sessions.clone(), CookiePolicy::new(true));
    let token = desk.begin().await;
    for (method, token, said, varies) in [
        (Method::GET, Some(&*token), "max-age=60", true),
        (Method::GET, Some(&token), "", true),
        // A cache that keeps this one must not show it to who is logged in.
        (Method::GET, None, "max-age=60", true),
        (Method::HEAD, None, "", true),
        (Method::GET, Some(&token), "public, max-age=60", false),
        (Method::GET, Some(&token), "no-store", false),
        (Method::POST, Some(&token), "", false),
    ] {
        let inner = service_fn(move |_: Request<()>| async move {
            let answer = Response::builder().header(CACHE_CONTROL, said).body(());
            Ok::<_, std::convert::Infallible>(answer.unwrap())
        });
        let mut request = token.map_or_else(Request::default, cookie);
        *request.method_mut() = method.clone();
        let answer = layer.layer(inner).oneshot(request).await.unwrap();
        let vary = answer.headers().get(VARY).map(|it| it.to_str().unwrap());
        let expected = varies.then_some("cookie, authorization");
        assert_eq!(vary, expected, "{method} {token:?} {said}");
    }
    let refused = {
        let mut request = cookie(&token);
        let twice = request.headers()[COOKIE].clone();
        request.headers_mut().append(COOKIE, twice);
        layer.layer(handler()).oneshot(request).await.unwrap()
    };
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert!(refused.headers().contains_key(VARY));
}
