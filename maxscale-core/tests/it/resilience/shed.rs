//! The load shedder's layer as it is stacked.

use axum::Router;
use axum::routing::get;
use maxscale_core::resilience::{LoadShedder, LoadShedderLayer, Priority};
use tonic::service::Routes;
use tower::{Layer as _, ServiceExt as _};

use super::{asked, called, grpc_status, problem};

/// A shedder of one place, for which nobody waits.
fn shedder() -> LoadShedder {
    let builder = LoadShedder::builder("service", 1);
    builder.reserve(0.0).queue(0).build().unwrap()
}

#[tokio::test]
async fn refusal_is_a_response_of_axum() {
    let shedder = shedder();
    let layer = LoadShedderLayer::new(shedder.clone());
    let routes = Router::new().route("/", get(async || "here")).layer(layer);
    let held = shedder.enter(Priority::LOW, None, None).await.unwrap();
    let answer = routes.clone().oneshot(asked("/")).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(problem(answer).await["code"], "overloaded");
    drop(held);
    let answer = routes.oneshot(asked("/")).await.unwrap();
    assert_eq!((answer.status().as_u16(), shedder.active()), (200, 0));
}

#[tokio::test]
async fn refusal_is_a_status_of_tonic() {
    let shedder = shedder();
    let (_, health) = tonic_health::server::health_reporter();
    let service = LoadShedderLayer::new(shedder.clone()).layer(Routes::new(health));
    let held = shedder.enter(Priority::LOW, None, None).await.unwrap();
    let answer = service.clone().oneshot(called("Check")).await.unwrap();
    assert_eq!(grpc_status(&answer), Some("14"));
    drop(held);
    let answer = service.oneshot(called("Check")).await.unwrap();
    assert_eq!((grpc_status(&answer), shedder.active()), (None, 0));
}
