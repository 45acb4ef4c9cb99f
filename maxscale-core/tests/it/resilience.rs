//! Layers of resilience as they are stacked: in axum, in tonic, and around a client.

mod adaptive;
#[cfg(all(feature = "serve", feature = "axum"))]
mod overload;
mod shed;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Response, StatusCode};
use axum::routing::get;
use http_body_util::{BodyExt as _, Empty};
use maxscale_core::control::Phase;
use maxscale_core::resilience::{
    Bulkhead, BulkheadLayer, Circuit, CircuitBreakerLayer, DeadlineLayer, Endpoints, Retry,
    RetryLayer,
};
use tonic::service::Routes;
use tower::{ServiceBuilder, ServiceExt as _, service_fn};

const LONG: Duration = Duration::from_secs(3_600);

fn circuit() -> Circuit {
    Circuit::builder("upstream")
        .open_for(LONG, LONG)
        .build()
        .unwrap()
}

fn by_path(request: &Request) -> Option<String> {
    Some(request.uri().path().to_owned())
}

fn asked(path: &str) -> Request {
    Request::get(path).body(Body::empty()).unwrap()
}

/// A call of a method of the health service, with a message of no bytes.
fn called(method: &str) -> Request {
    let call = Request::post(format!("/grpc.health.v1.Health/{method}"));
    let call = call.header("content-type", "application/grpc");
    call.body(Body::from(&[0_u8; 5][..])).unwrap()
}

/// What the head of the answer says; what went well says so in the trailers.
fn grpc_status<B>(answer: &Response<B>) -> Option<&str> {
    answer.headers().get("grpc-status")?.to_str().ok()
}

async fn problem(answer: Response<Body>) -> serde_json::Value {
    let problem = answer.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&problem).unwrap()
}

#[tokio::test]
async fn layers_stand_around_routes_of_axum() {
    let (circuit, bulkhead) = (circuit(), Bulkhead::builder("routes", 1));
    let bulkhead = bulkhead.max_wait(Duration::ZERO).build_keyed().unwrap();
    let stack = ServiceBuilder::new()
        .layer(DeadlineLayer::new(LONG))
        .layer(BulkheadLayer::keyed(bulkhead.clone(), by_path))
        .layer(CircuitBreakerLayer::new(circuit.clone()));
    let broken = async || StatusCode::INTERNAL_SERVER_ERROR;
    let routes = Router::new().route("/", get(broken)).layer(stack);

    let held = bulkhead.enter(&"/".to_owned(), None).await.unwrap();
    let answer = routes.clone().oneshot(asked("/")).await.unwrap();
    assert_eq!(answer.status(), 503);
    drop(held);
    for _ in 0..Circuit::DEFAULT_FAILURES {
        let answer = routes.clone().oneshot(asked("/")).await.unwrap();
        assert_eq!(answer.status(), 500);
    }
    let answer = routes.oneshot(asked("/")).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(problem(answer).await["code"], "circuit_open");
    assert_eq!((bulkhead.active(), bulkhead.keys()), (0, 0));
}

#[tokio::test]
async fn layers_stand_around_services_of_tonic() {
    let (circuit, bulkhead) = (circuit(), Bulkhead::builder("calls", 1).build().unwrap());
    let (_, health) = tonic_health::server::health_reporter();
    let stack = ServiceBuilder::new()
        .layer(DeadlineLayer::new(LONG))
        .layer(BulkheadLayer::new(bulkhead.clone()))
        .layer(CircuitBreakerLayer::new(circuit.clone()));
    let service = stack.service(Routes::new(health));
    let status = async || {
        let answer = service.clone().oneshot(called("Nothing")).await.unwrap();
        grpc_status(&answer).map(str::to_owned)
    };
    assert_eq!(
        status().await.as_deref(),
        Some("12"),
        "there is no such method"
    );
    assert_eq!(circuit.phase(), Phase::Closed);
    circuit.force_open();
    assert_eq!(status().await.as_deref(), Some("14"));
    assert_eq!(bulkhead.active(), 0);
}

/// Of three endpoints one is down: no request fails, and soon none goes there.
#[tokio::test(start_paused = true)]
async fn client_of_several_endpoints_does_not_see_that_one_is_down() {
    let down = Arc::new(AtomicUsize::new(0));
    let endpoint = |status: u16| {
        let down = down.clone();
        service_fn(move |_: Request<()>| {
            if status == 503 {
                down.fetch_add(1, Ordering::Relaxed);
            }
            let answer = Response::builder().status(status);
            let answer = answer.body(Empty::<axum::body::Bytes>::new()).unwrap();
            async move { Ok::<_, Infallible>(answer) }
        })
    };
    let endpoints = Endpoints::builder("upstream").build(&["a", "b", "c"]);
    let endpoints = endpoints.unwrap();
    let circuit = circuit();
    let retry = Retry::builder("upstream").unless_open(&circuit);
    let client = ServiceBuilder::new()
        .layer(DeadlineLayer::new(LONG))
        .layer(RetryLayer::new(retry.build().unwrap()))
        .layer(CircuitBreakerLayer::new(circuit.clone()))
        .service(
            endpoints
                .balance([200, 503, 200].map(endpoint).to_vec())
                .unwrap(),
        );
    for _ in 0..300 {
        let answer = client.clone().oneshot(Request::new(())).await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(down.load(Ordering::Relaxed), 3);
    assert_eq!(endpoints.ejected(), ["b".into()]);
    assert_eq!(circuit.phase(), Phase::Closed);
}
