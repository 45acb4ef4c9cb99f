//! The adaptive limit's layer as it is stacked. Time is tokio's, which waits for nobody.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{Response, StatusCode};
use axum::routing::get;
use maxscale_core::clock::{Clock, Timestamp};
use maxscale_core::resilience::{
    AdaptiveLimit, AdaptiveLimitLayer, AdaptivePermit, ByStatus, Judge as _, Outcome,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{advance, sleep, timeout};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok};
use tonic::Status;
use tonic::service::{InterceptorLayer, Routes};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};
use tower_test::mock;

use super::{asked, called, grpc_status, problem};

const TAKES: Duration = Duration::from_millis(10);

/// Works on so many calls at a time.
#[derive(Clone, Debug)]
struct Upstream(Arc<Semaphore>);

#[derive(Debug, PartialEq, Eq)]
struct Broken;

// === impl Upstream ===

impl Upstream {
    fn new(slots: usize) -> Self {
        Self(Arc::new(Semaphore::new(slots)))
    }

    async fn work(&self) {
        let _slot = self.0.acquire().await.unwrap();
        sleep(TAKES).await;
    }

    fn axum(&self, limit: &AdaptiveLimit) -> Router {
        let upstream = self.clone();
        let work = async move || upstream.work().await;
        let routes = Router::new().route("/", get(work));
        routes.layer(AdaptiveLimitLayer::new(limit.clone()))
    }
}

#[tonic::async_trait]
impl Health for Upstream {
    type WatchStream = futures_util::stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        self.work().await;
        Ok(tonic::Response::new(HealthCheckResponse::default()))
    }

    async fn watch(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("nobody watches"))
    }
}

/// Of which nothing is left to chance.
fn limit(initial: u32) -> AdaptiveLimit {
    let (clock, _) = Clock::manual(Timestamp::from_micros(0));
    let builder = AdaptiveLimit::builder("upstream").clock(&clock);
    builder.initial(initial).build().unwrap()
}

fn filled(limit: &AdaptiveLimit) -> Vec<AdaptivePermit> {
    std::iter::from_fn(|| limit.enter().ok()).collect()
}

fn call() -> Request {
    called("Check")
}

#[tokio::test(start_paused = true)]
async fn refusal_is_a_response_of_axum() {
    let limit = limit(3);
    let routes = Upstream::new(9).axum(&limit);
    let held = filled(&limit);
    let answer = routes.clone().oneshot(asked("/")).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(problem(answer).await["code"], "limit_reached");
    drop(held);
    let answer = routes.oneshot(asked("/")).await.unwrap();
    assert_eq!((answer.status().as_u16(), limit.active()), (200, 0));
}

#[tokio::test(start_paused = true)]
async fn refusal_is_a_status_of_tonic() {
    let limit = limit(3);
    let routes = Routes::new(HealthServer::new(Upstream::new(9)));
    let service = AdaptiveLimitLayer::new(limit.clone()).layer(routes);
    let held = filled(&limit);
    let answer = service.clone().oneshot(call()).await.unwrap();
    assert_eq!(grpc_status(&answer), Some("14"));
    assert_eq!(answer.headers()["grpc-retry-pushback-ms"], "1000");
    drop(held);
    let answer = service.oneshot(call()).await.unwrap();
    assert_eq!((grpc_status(&answer), limit.active()), (None, 0));
}

/// More callers than there are slots, who come again when they are refused: the limit
/// falls, and grows when there are more slots. How near it comes is seen in simulations.
async fn follows<S, B>(service: S, request: fn() -> Request, limit: &AdaptiveLimit, at: &Upstream)
where
    S: Service<Request, Response = Response<B>, Error = Infallible, Future: Send>,
    S: Clone + Send + Sync + 'static,
    B: Send,
{
    let mut callers = JoinSet::new();
    for _ in 0..40 {
        let service = service.clone();
        callers.spawn(async move {
            loop {
                let answer = service.clone().oneshot(request()).await;
                if ByStatus::new().outcome(&answer) != Outcome::Succeeded {
                    sleep(2 * TAKES).await;
                }
            }
        });
    }
    let few = mean_after_30_s(limit).await;
    at.0.add_permits(18);
    let many = mean_after_30_s(limit).await;
    eprintln!("{few} of 6, {many} of 24");
    assert!((4.0..15.0).contains(&few) && (18.0..40.0).contains(&many));
}

async fn mean_after_30_s(limit: &AdaptiveLimit) -> f64 {
    const SAMPLES: u32 = 100;
    sleep(Duration::from_secs(20)).await;
    let mut sum = 0.0;
    for _ in 0..SAMPLES {
        sleep(Duration::from_millis(100)).await;
        sum += f64::from(limit.limit());
    }
    sum / f64::from(SAMPLES)
}

#[tokio::test(start_paused = true)]
async fn limit_follows_what_routes_of_axum_work_on_at_a_time() {
    let (limit, upstream) = (limit(20), Upstream::new(6));
    let routes = upstream.axum(&limit);
    follows(routes, || asked("/"), &limit, &upstream).await;
}

#[tokio::test(start_paused = true)]
async fn limit_follows_what_services_of_tonic_work_on_at_a_time() {
    let (limit, upstream) = (limit(20), Upstream::new(6));
    let routes = Routes::new(HealthServer::new(upstream.clone()));
    let service = AdaptiveLimitLayer::new(limit.clone()).layer(routes);
    follows(service, call, &limit, &upstream).await;
}

/// Makes so many calls one after the other, 5 ms each or from one to the next.
async fn ask<S, B>(calls: u32, service: S, request: fn() -> Request)
where
    S: Service<Request, Response = Response<B>, Error = Infallible> + Clone,
{
    for _ in 0..calls {
        service.clone().oneshot(request()).await.unwrap();
        advance(Duration::from_millis(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn limit_falls_where_routes_of_axum_or_services_of_tonic_send_back() {
    let [by_axum, by_tonic] = [(); 2].map(|()| limit(20));
    let full = async || StatusCode::TOO_MANY_REQUESTS;
    let routes = Router::new().route("/", get(full));
    let routes = routes.layer(AdaptiveLimitLayer::new(by_axum.clone()));
    ask(1_000, routes, || asked("/")).await;
    assert_eq!(by_axum.limit(), AdaptiveLimit::DEFAULT_MIN);

    let full = |_: tonic::Request<()>| Err(Status::resource_exhausted("full"));
    let health = HealthServer::new(Upstream::new(9));
    let routes = Routes::new(InterceptorLayer::new(full).layer(health));
    let service = AdaptiveLimitLayer::new(by_tonic.clone()).layer(routes);
    ask(1_000, service, call).await;
    assert_eq!(by_tonic.limit(), AdaptiveLimit::DEFAULT_MIN);
}

#[tokio::test(start_paused = true)]
async fn inner_error_is_kept_and_says_nothing_of_time() {
    let limit = limit(3);
    let broken = service_fn(async |_: Request| {
        sleep(TAKES).await;
        Err::<Response<()>, _>(Broken)
    });
    let service = AdaptiveLimitLayer::new(limit.clone()).layer(broken);
    for _ in 0..2_000 {
        let answer = service.clone().oneshot(asked("/")).await;
        assert_eq!(answer.unwrap_err(), Broken);
    }
    assert_eq!((limit.base(), limit.limit(), limit.active()), (None, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn call_that_is_dropped_frees_its_place_and_says_nothing_of_time() {
    let limit = limit(3);
    let routes = Upstream::new(9).axum(&limit);
    for _ in 0..2_000 {
        let call = routes.clone().oneshot(asked("/"));
        timeout(TAKES / 2, call).await.unwrap_err();
        assert_eq!(limit.active(), 0);
    }
    assert_eq!(limit.base(), None);
    // What ends does say it.
    ask(2_000, routes, || asked("/")).await;
    let base = limit.base().unwrap();
    assert!(base.abs_diff(TAKES) < Duration::from_millis(2), "{base:?}");
}

#[tokio::test(start_paused = true)]
async fn service_is_ready_when_the_inner_one_is_and_is_not_called_beyond_the_limit() {
    let limit = limit(3);
    let layer = AdaptiveLimitLayer::new(limit.clone());
    let (mut service, mut inner) = mock::spawn_layer::<Request, Response<()>, _>(layer);
    let held = filled(&limit);
    inner.allow(0);
    assert_pending!(service.poll_ready());
    inner.allow(1);
    assert_ready_ok!(service.poll_ready());
    let answer = service.call(asked("/")).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_pending!(inner.poll_request());
    drop(held);
    inner.send_error(Status::internal("gone"));
    let error = assert_ready_err!(service.poll_ready());
    assert!(error.to_string().contains("gone"), "{error}");
    assert_eq!(limit.active(), 0);
}
