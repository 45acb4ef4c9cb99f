//! The stack of all layers, as it stands in axum and in tonic.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, Response, StatusCode};
use axum::routing::get;
use http_body_util::BodyExt as _;
use maxscale_core::clock::Clock;
use maxscale_core::control::Fill;
use maxscale_core::fact::{ClientIp, Deadline, Facts as _, RequestId, Subject, VirtualShard};
use maxscale_core::limit::{ByClientIp, BySubject, LimitLayer, Limits, LocalLimits, Policy, Quota};
use maxscale_core::resilience::{
    DeadlineLayer, LoadShedder, LoadShedderLayer, PoolGuard, PoolGuardLayer, Priority,
};
use maxscale_core::stack::Stack;
use maxscale_core::telemetry::{Metrics, TraceLayer};
use tonic::service::Routes;
use tower::util::MapRequestLayer;
use tower::{ServiceBuilder, ServiceExt as _};

const LONG: Duration = Duration::from_secs(3_600);

/// What a request passed, from the outermost on.
type Passed = Arc<Mutex<Vec<&'static str>>>;

/// A layer that only notes that it was passed.
fn noting(
    passed: &Passed,
    name: &'static str,
) -> MapRequestLayer<impl Fn(Request) -> Request + Clone + Send + Sync + 'static> {
    let passed = passed.clone();
    MapRequestLayer::new(move |request| {
        passed.lock().unwrap().push(name);
        request
    })
}

/// What a session would find: the subject of the header `who`.
fn session(mut request: Request) -> Request {
    let who = HeaderName::from_static("who");
    if let Some(who) = request.header(&who).map(Subject::new) {
        request.add_fact(who);
    }
    request
}

fn client(mut request: Request) -> Request {
    request.add_fact(ClientIp(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    request
}

/// A shard for everybody who asks and is somebody.
fn route(mut request: Request) -> Request {
    if request.fact::<Subject>().is_some() {
        request.add_fact(VirtualShard::new(7));
    }
    request
}

/// `n` requests, and none for an hour.
fn only(name: &str, n: u32) -> (Policy, Limits) {
    let policy = Policy::new(name, Quota::new(n, LONG).unwrap()).unwrap();
    (policy, Limits::local(LocalLimits::new(Clock::system())))
}

fn asked(who: Option<&str>) -> Request {
    let request = Request::get("/");
    let request = who
        .into_iter()
        .fold(request, |it, who| it.header("who", who));
    request.body(Body::empty()).unwrap()
}

fn called() -> Request {
    let call = Request::post("/grpc.health.v1.Health/Check").header("who", "ada");
    let call = call.header("content-type", "application/grpc");
    call.body(Body::from(&[0_u8; 5][..])).unwrap()
}

async fn problem(answer: Response<Body>) -> serde_json::Value {
    let problem = answer.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&problem).unwrap()
}

/// All places filled with what stands there in a service, and written in no order.
/// Five requests of an address and two of a user are admitted, but none that matters
/// less than normal.
macro_rules! whole {
    () => {{
        let (peers, counted) = only("peers", 5);
        let (callers, also) = only("callers", 2);
        let shedder = LoadShedder::builder("service", 64).build().unwrap();
        let fill = || {
            Some(Fill {
                part: 0.9,
                waited_for: true,
            })
        };
        let guard = PoolGuard::builder("pool")
            .patience(Duration::ZERO)
            .build(fill);
        Stack::new()
            .route(MapRequestLayer::new(route))
            .peer(LimitLayer::new(peers, ByClientIp::new(), counted))
            .session(MapRequestLayer::new(session))
            .guard(PoolGuardLayer::new(guard.unwrap()))
            .caller(LimitLayer::new(callers, BySubject::new(), also))
            .trace(TraceLayer::new(&Metrics::new().meter("test")))
            .shed(LoadShedderLayer::new(shedder))
            .deadline(DeadlineLayer::new(LONG))
            .edge(MapRequestLayer::new(client))
    }};
}

#[tokio::test]
async fn layers_are_passed_in_the_order_of_their_places_and_not_of_the_code() {
    let passed = Passed::default();
    let stack = Stack::new()
        .route(noting(&passed, "route"))
        .caller(noting(&passed, "caller"))
        .peer(noting(&passed, "peer"))
        .edge(noting(&passed, "nothing"))
        .session((noting(&passed, "csrf"), noting(&passed, "session")))
        .deadline(noting(&passed, "deadline"))
        .trace(noting(&passed, "trace"))
        .guard(noting(&passed, "guard"))
        .edge(noting(&passed, "edge"))
        .shed(noting(&passed, "shed"));
    let routes = Router::new().route("/", get(async || "here")).layer(stack);
    let answer = routes.oneshot(asked(None)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let order = [
        "trace", "edge", "deadline", "peer", "shed", "guard", "csrf", "session", "caller", "route",
    ];
    assert_eq!(*passed.lock().unwrap(), order);
}

#[tokio::test]
async fn handler_of_axum_has_the_facts_of_all_and_each_layer_those_it_needs() {
    let handler = async |request: Request| {
        let facts = request.extensions();
        assert!(facts.get::<RequestId>().is_some() && facts.get::<Deadline>().is_some());
        assert!(facts.get::<ClientIp>().is_some() && facts.get::<Subject>().is_some());
        facts.get::<VirtualShard>().unwrap().to_string()
    };
    let routes = Router::new().route("/", get(handler)).layer(whole!());
    let ask = async |request| routes.clone().oneshot(request).await.unwrap();

    let answer = ask(asked(Some("ada"))).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.headers().contains_key("x-request-id"));
    // Refused by the guard: no look-up, and nothing of what users have.
    let mut low = asked(Some("ada"));
    low.extensions_mut().insert(Priority::LOW);
    assert_eq!(problem(ask(low).await).await["code"], "pool_busy");
    assert_eq!(ask(asked(Some("ada"))).await.status(), StatusCode::OK);
    let told = |answer: &Response<Body>, name: &str| {
        let mut policies = answer.headers().get_all("ratelimit-policy").iter();
        policies.any(|it| it.to_str().unwrap().contains(name))
    };
    // Refused as a user; of an address it counts.
    let answer = ask(asked(Some("ada"))).await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(told(&answer, "callers") && told(&answer, "peers"));
    assert_eq!(ask(asked(Some("bob"))).await.status(), StatusCode::OK);
    // Refused as an address: nobody asks who it is.
    let answer = ask(asked(Some("bob"))).await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(!told(&answer, "callers"));
    assert!(answer.headers().contains_key("x-request-id"));
}

#[tokio::test]
async fn the_same_stack_stands_around_services_of_tonic() {
    let (_, health) = tonic_health::server::health_reporter();
    let service = ServiceBuilder::new().layer(whole!());
    let service = service.service(Routes::new(health));
    let status = async |call| {
        let answer = service.clone().oneshot(call).await.unwrap();
        assert!(answer.headers().contains_key("x-request-id"));
        let status = answer.headers().get("grpc-status");
        status.map(|it| it.to_str().unwrap().to_owned())
    };
    assert_eq!(status(called()).await, None);
    let mut low = called();
    low.extensions_mut().insert(Priority::LOW);
    assert_eq!(status(low).await.as_deref(), Some("14"));
    assert_eq!(status(called()).await, None);
    assert_eq!(status(called()).await.as_deref(), Some("8"));
    // As tonic itself takes it.
    drop(tonic::transport::Server::builder().layer(whole!()));
}

#[tokio::test]
async fn stacks_stand_in_one_another_where_the_places_go_on() {
    let (passed, routes) = (Passed::default(), Router::new());
    let note = |name| noting(&passed, name);
    let routes = routes.route("/", get(async || "here"));
    let routes = routes.layer(Stack::new().session(note("session")).peer(note("logins")));
    let routes = routes.layer(Stack::new().peer(note("peer")).trace(note("trace")));
    let routes = routes.layer(Stack::new());
    let answer = routes.oneshot(asked(None)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let order = ["trace", "peer", "logins", "session"];
    assert_eq!(*passed.lock().unwrap(), order);
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn stacks_that_stand_in_one_another_the_wrong_way_round_say_so() {
    let passed = Passed::default();
    let note = |name| noting(&passed, name);
    let routes = Router::new().route("/", get(async || "here"));
    let routes = routes.layer(Stack::new().edge(note("edge")).peer(note("peer")));
    // What does nothing hides nothing.
    let routes = routes.layer(Stack::new());
    let routes = routes.layer(Stack::new().session(note("session")).caller(note("caller")));
    let answer = routes.oneshot(asked(None)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let problem = problem(answer).await;
    let told = problem["detail"].as_str().unwrap();
    assert!(told.contains("`caller` stands outside of `edge`"), "{told}");
    assert_eq!(*passed.lock().unwrap(), ["session", "caller"]);
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn stack_of_tonic_that_is_added_twice_says_so() {
    let (_, health) = tonic_health::server::health_reporter();
    let twice = ServiceBuilder::new().layer(whole!()).layer(whole!());
    let service = twice.service(Routes::new(health));
    let answer = service.oneshot(called()).await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "13");
    let told = answer.headers()["grpc-message"].to_str().unwrap();
    assert!(told.contains("`route` stands outside of `trace`"), "{told}");
}
