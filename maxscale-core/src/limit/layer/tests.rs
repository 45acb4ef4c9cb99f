use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio_test::{assert_pending, assert_ready_ok};
use tower_test::mock;

use super::*;
use crate::clock::{Clock, ManualTime, Timestamp};
use crate::limit::{LocalLimits, Rate};
use crate::refusal::ReplyBody;

type Body = Full<bytes::Bytes>;
type Key = fn(&Request<()>) -> Option<String>;
type Mock = mock::Spawn<Limit<mock::Mock<Request<()>, Response<Body>>, Key>>;
type Inner = mock::Handle<Request<()>, Response<Body>>;

const SOON: Duration = Duration::from_secs(60);

fn by_path(request: &Request<()>) -> Option<String> {
    (request.uri() != "/nobody").then(|| request.uri().to_string())
}

fn layer() -> (LimitLayer<Key>, ManualTime) {
    let (clock, time) = Clock::manual(Timestamp::from_micros(1_000_000));
    let rate = Rate::per_minute(40).unwrap().burst(2).unwrap();
    let policy = Policy::new("api", rate).unwrap();
    let limits = Limits::local(LocalLimits::new(clock));
    (LimitLayer::new(policy, by_path as Key, limits), time)
}

fn spawn(layer: &LimitLayer<Key>) -> (Mock, Inner) {
    mock::spawn_with(|inner| layer.layer(inner))
}

fn get(path: &str) -> Request<()> {
    Request::get(path).body(()).unwrap()
}

/// Sends a request that the inner service answers.
async fn passed(service: &mut Mock, inner: &mut Inner, path: &str) -> Response<ReplyBody<Body>> {
    assert_ready_ok!(service.poll_ready());
    let answer = async {
        let (_, send) = inner.next_request().await.unwrap();
        send.send_response(Response::new(Body::from("inside")));
    };
    let both = async { tokio::join!(service.call(get(path)), answer) };
    let (response, ()) = tokio::time::timeout(SOON, both)
        .await
        .expect("the request reaches the inner service");
    response.unwrap()
}

/// Sends a request that must not reach the inner service.
async fn refused(
    service: &mut Mock,
    inner: &mut Inner,
    request: Request<()>,
) -> Response<ReplyBody<Body>> {
    assert_ready_ok!(service.poll_ready());
    let response = service.call(request).await.unwrap();
    let mut request = tokio_test::task::spawn(inner.next_request());
    assert_pending!(request.poll());
    response
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers[name].to_str().unwrap()
}

#[tokio::test]
async fn answer_within_the_quota_tells_what_is_left() {
    let (mut service, mut inner) = spawn(&layer().0);
    inner.allow(9);
    let response = passed(&mut service, &mut inner, "/a").await;
    let headers = response.headers();
    assert_eq!(header(headers, "ratelimit-policy"), "\"api\";q=40;w=60");
    assert_eq!(header(headers, "ratelimit"), "\"api\";r=1;t=2");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "inside");
}

#[tokio::test]
async fn request_over_the_quota_stops_here_and_is_told_when_to_come_back() {
    let (layer, time) = layer();
    let (mut service, mut inner) = spawn(&layer);
    inner.allow(9);
    for _ in 0..2 {
        passed(&mut service, &mut inner, "/a").await;
    }
    let response = refused(&mut service, &mut inner, get("/a")).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let headers = response.headers();
    assert_eq!(header(headers, "content-type"), "application/problem+json");
    assert_eq!(header(headers, "ratelimit"), "\"api\";r=0;t=2");
    let wait: u64 = header(headers, "retry-after").parse().unwrap();
    assert_eq!(wait, 2);

    time.advance(Duration::from_secs(wait));
    let response = passed(&mut service, &mut inner, "/a").await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn request_that_one_policy_denies_costs_nothing_of_the_other() {
    let wide = Policy::new("wide", Rate::per_minute(10).unwrap().burst(9).unwrap());
    let shadow = Policy::new("seen", Rate::per_minute(1).unwrap());
    let layer = layer()
        .0
        .and(wide.unwrap())
        .and(shadow.unwrap().shadow(true));
    let (mut service, mut inner) = spawn(&layer);
    inner.allow(9);
    for _ in 0..2 {
        passed(&mut service, &mut inner, "/a").await;
    }
    let response = refused(&mut service, &mut inner, get("/a")).await;
    let headers = response.headers();
    assert_eq!(
        header(headers, "ratelimit-policy"),
        "\"api\";q=40;w=60, \"wide\";q=10;w=60"
    );
    assert_eq!(
        header(headers, "ratelimit"),
        "\"api\";r=0;t=2, \"wide\";r=7;t=12"
    );
}

#[tokio::test]
async fn caller_s_tier_says_how_many_are_admitted_and_a_change_applies_at_once() {
    let (clock, _) = Clock::manual(Timestamp::from_micros(1_000_000));
    let limits = Limits::local(LocalLimits::new(clock));
    let tiers = Tiers::usual("api").unwrap();
    let layer = LimitLayer::by_tier(tiers, by_path as Key, limits);
    let (mut service, mut inner) = spawn(&layer);
    let mut admitted = async |path: &str, tier: Option<&str>| {
        let mut admitted = 0;
        loop {
            let mut request = get(path);
            if let Some(tier) = tier {
                request.add_fact(Tier::new(tier));
            }
            inner.allow(1);
            assert_ready_ok!(service.poll_ready());
            let answer = async {
                let (_, send) = inner.next_request().await.unwrap();
                send.send_response(Response::new(Body::from("inside")));
            };
            let status = tokio::select! {
                response = service.call(request) => response.unwrap().status(),
                () = answer => StatusCode::OK,
            };
            if status == StatusCode::TOO_MANY_REQUESTS {
                return admitted;
            }
            admitted += 1;
        }
    };
    for (tier, burst) in [
        (Some("premium"), 1_000),
        (Some("standard"), 100),
        (Some("free"), 10),
        (Some("gold"), 10),
        (None, 10),
        (Some("suspicious"), 1),
    ] {
        assert_eq!(
            admitted(tier.unwrap_or("none"), tier).await,
            burst,
            "{tier:?}"
        );
    }
    assert_eq!(admitted("falls", Some("free")).await, 10);
    assert_eq!(admitted("falls", Some("suspicious")).await, 0);
    // What was taken comes back within six seconds, and so does all of premium's burst.
    assert_eq!(admitted("falls", Some("premium")).await, 0);
}

#[tokio::test]
async fn other_keys_have_quotas_of_their_own() {
    let (mut service, mut inner) = spawn(&layer().0);
    inner.allow(9);
    for _ in 0..2 {
        passed(&mut service, &mut inner, "/a").await;
    }
    passed(&mut service, &mut inner, "/b").await;
}

#[tokio::test]
async fn refusal_over_grpc_is_resource_exhausted() {
    let (mut service, mut inner) = spawn(&layer().0);
    inner.allow(9);
    for _ in 0..2 {
        passed(&mut service, &mut inner, "/a").await;
    }
    let mut call = get("/a");
    let grpc = HeaderValue::from_static("application/grpc");
    call.headers_mut().insert("content-type", grpc);
    let response = refused(&mut service, &mut inner, call).await;
    assert_eq!(header(response.headers(), "grpc-status"), "8");
}

#[tokio::test]
async fn request_without_a_key_is_refused_naming_what_is_missing() {
    let (layer, _) = layer();
    let (mut service, mut inner) = spawn(&layer);
    inner.allow(9);
    let response = refused(&mut service, &mut inner, get("/nobody")).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        body["detail"],
        "the limit `api` needs what the limit's key function looks for"
    );
}

#[tokio::test]
async fn request_without_a_key_passes_where_that_was_chosen() {
    let layer = layer().0.missing_key(MissingKey::Skip);
    let (mut service, mut inner) = spawn(&layer);
    inner.allow(9);
    for _ in 0..9 {
        let response = passed(&mut service, &mut inner, "/nobody").await;
        assert!(response.headers().is_empty());
    }
}

#[tokio::test]
async fn error_of_the_inner_service_stays_its_own() {
    let (mut service, mut inner) = spawn(&layer().0);
    inner.allow(1);
    assert_ready_ok!(service.poll_ready());
    let answer = async {
        let (_, send) = inner.next_request().await.unwrap();
        send.send_error("broken inside");
    };
    let (result, ()) = tokio::join!(service.call(get("/a")), answer);
    assert_eq!(result.unwrap_err().to_string(), "broken inside");
}

#[tokio::test]
async fn only_the_service_that_was_made_ready_is_called() {
    let (mut service, mut inner) = spawn(&layer().0);
    // One permit: a clone that was never ready would panic in the mock.
    inner.allow(1);
    passed(&mut service, &mut inner, "/a").await;
    assert_pending!(service.poll_ready());
}
