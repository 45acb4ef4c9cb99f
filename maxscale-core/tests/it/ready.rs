//! What probes say while a real server dies and returns.

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use maxscale_core::clock::Clock;
use maxscale_core::health::{self, Health, Importance, Place};
use maxscale_tests::{RedisServer, eventually};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::redis::{SOON, patient};

async fn ask(routes: &Router, path: &str) -> (u16, Value) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let answer = routes.clone().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// Waits until `/readyz` answers so; `/livez` says yes all the while.
async fn becomes(routes: &Router, ready: u16) {
    eventually(SOON, async || {
        assert_eq!(ask(routes, "/livez").await.0, 200);
        ask(routes, "/readyz").await.0 == ready
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_what_is_critical_alone_and_health_names_both() {
    let [critical, other] = [RedisServer::start().await, RedisServer::start().await];
    let health = Health::builder(Clock::system(), "1.2.3").build();
    for (name, server, importance) in [
        ("sessions", &critical, Importance::Critical),
        ("cache", &other, Importance::Degrading),
    ] {
        let redis = patient(server).await;
        health.register(Place::REDIS, name, importance, move || {
            let redis = redis.clone();
            async move { Ok(redis.ping().await?) }
        });
    }
    let routes = health::routes(health.clone());
    becomes(&routes, 200).await;

    let is = async |name: &str, status: &str| {
        eventually(SOON, async || {
            let (_, tree) = ask(&routes, "/health").await;
            let text = tree.to_string();
            let named = text
                .split(r#""name":""#)
                .find(|part| part.starts_with(name));
            assert_eq!(ask(&routes, "/livez").await.0, 200);
            named.is_some_and(|part| part.contains(&format!(r#""status":"{status}""#)))
        })
        .await;
    };
    other.kill().await;
    is("cache", "down").await;
    assert_eq!(ask(&routes, "/readyz").await.0, 200);

    critical.kill().await;
    becomes(&routes, 503).await;
    is("sessions", "down").await;

    critical.restart_empty().await;
    becomes(&routes, 200).await;
    other.restart_empty().await;
    is("cache", "up").await;
    assert_eq!(ask(&routes, "/readyz").await.0, 200);
}
