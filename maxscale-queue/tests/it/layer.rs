//! One stack of layers in three places: under axum, under tonic, around a job.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use maxscale_core::clock::{Clock, Timestamp};
use maxscale_core::keys::{KeyRing, Secret};
use maxscale_core::limit::{
    Down, LimitKey, LimitLayer, Limits, LocalLimits, Policy, Rate, RedisLimits,
};
use maxscale_core::meter;
use maxscale_core::redis::{Redis, RedisConfig};
use maxscale_core::resilience::DeadlineLayer;
use maxscale_core::telemetry::TraceLayer;
use maxscale_queue::{JobId, JobRequest, JobState, Layered, Outcome};
use maxscale_tests::{eventually, free_port};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::layer::util::{Identity, Stack as Pair};
use tower::{ServiceBuilder, ServiceExt, service_fn};

use crate::stage::{LIMIT, Note, Stage, note};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// How long one admission takes to come back.
const WINDOW: Duration = Duration::from_secs(2);

type Layers = ServiceBuilder<Pair<LimitLayer<Everyone>, Pair<DeadlineLayer, Identity>>>;

/// Requests and jobs of all kinds share one quota.
#[derive(Clone, Copy)]
struct Everyone;

impl<Q> LimitKey<Q> for Everyone {
    fn key(&self, _request: &Q) -> Option<String> {
        Some("everyone".to_owned())
    }
}

/// The layers under test: nothing in them knows where they stand.
fn layers(limits: Limits) -> Layers {
    let rate = Rate::new(1, WINDOW).unwrap();
    let policy = Policy::new("all", rate).unwrap().when_down(Down::Closed);
    ServiceBuilder::new()
        .layer(DeadlineLayer::new(LIMIT))
        .layer(LimitLayer::new(policy, Everyone, limits))
}

fn local(clock: Clock) -> Limits {
    Limits::local(LocalLimits::new(clock))
}

/// Three doors behind the same layers, closed when dropped.
struct Doors {
    http: SocketAddr,
    grpc: SocketAddr,
    stage: Stage,
    /// How each run of the job ended: put off for a time, or done.
    runs: Arc<Mutex<Vec<Option<Duration>>>>,
    _worker: maxscale_queue::Worker,
    _servers: JoinSet<()>,
}

impl Doors {
    async fn open(layers: Layers) -> Self {
        let mut servers = JoinSet::new();
        let traced = ServiceBuilder::new()
            .layer(TraceLayer::new(&meter::nowhere()).trust(|_| true))
            .layer(layers.clone());

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap();
        let app = Router::new()
            .route("/", get(async || "inside"))
            .layer(traced.clone());
        servers.spawn(async { axum::serve(listener, app).await.unwrap() });

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc = listener.local_addr().unwrap();
        let (_, health) = tonic_health::server::health_reporter();
        let server = tonic::transport::Server::builder()
            .layer(traced)
            .add_service(health);
        servers.spawn(async {
            let incoming = TcpListenerStream::new(listener);
            server.serve_with_incoming(incoming).await.unwrap();
        });

        let stage = Stage::sqlite().await;
        let runs = Arc::<Mutex<Vec<_>>>::default();
        let handler = ServiceBuilder::new()
            .map_response({
                let runs = runs.clone();
                move |outcome| {
                    runs.lock().unwrap().push(match outcome {
                        Outcome::Snooze(wait) => Some(wait),
                        Outcome::Done => None,
                        _ => panic!("neither put off nor done: {outcome:?}"),
                    });
                    outcome
                }
            })
            .layer(layers)
            .service(service_fn(async |_: JobRequest<Note>| {
                Ok::<_, Infallible>(Outcome::Done)
            }));
        let worker = stage.worker().register::<Note, _>(Layered(handler));
        Self {
            http,
            grpc,
            _worker: worker.start().unwrap(),
            stage,
            runs,
            _servers: servers,
        }
    }

    async fn get(&self) -> reqwest::Response {
        reqwest::Client::new()
            .get(format!("http://{}/", self.http))
            .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))
            .send()
            .await
            .unwrap()
    }

    async fn call(&self) -> Result<(), tonic::Status> {
        let server = Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap();
        let mut client = HealthClient::new(server.connect().await.unwrap());
        client.check(HealthCheckRequest::default()).await.map(drop)
    }

    /// Enqueues a job, and waits until it was put off once; for how long.
    async fn snoozed(&self) -> (JobId, Duration) {
        let job = self.stage.enqueue(&note("layered")).await;
        let first = eventually(LIMIT, async || self.runs.lock().unwrap().first().copied()).await;
        (job, first.expect("the job is put off, not done"))
    }
}

/// Reads a refusal's body, which names the trace that the request came with.
async fn problem(response: reqwest::Response) -> Value {
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["trace_id"], TRACE);
    problem
}

#[tokio::test(flavor = "multi_thread")]
async fn request_call_and_job_over_one_quota_are_told_when_to_come_back() {
    let (clock, time) = Clock::manual(Timestamp::from_micros(0));
    let doors = Doors::open(layers(local(clock))).await;
    let first = doors.get().await;
    assert_eq!(first.status(), 200);
    assert_eq!(first.text().await.unwrap(), "inside");

    let second = doors.get().await;
    assert_eq!(second.status(), 429);
    assert_eq!(second.headers()["retry-after"], "2");
    assert_eq!(problem(second).await["code"], "limited");

    let refused = doors.call().await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.message(), "over the limit `all`");
    let pushback = refused.metadata().get("grpc-retry-pushback-ms");
    assert_eq!(pushback.unwrap(), "2000");

    let (job, wait) = doors.snoozed().await;
    assert_eq!(wait, WINDOW);
    time.advance(wait);
    let status = doors.stage.reaches(job, JobState::Done).await;
    assert_eq!(status.attempt, 1, "a snooze costs no attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn request_call_and_job_without_a_store_are_unavailable_for_now() {
    let nobody = format!("redis://127.0.0.1:{}", free_port());
    let redis = Redis::open(RedisConfig::new(&nobody).unwrap());
    let ring = KeyRing::new(1, Secret::new([7; 32])).unwrap();
    let redis = RedisLimits::new(redis, "test:", ring);
    let limits = Limits::shared(redis, LocalLimits::new(Clock::system()));
    let doors = Doors::open(layers(limits)).await;
    let refused = doors.get().await;
    assert_eq!(refused.status(), 503);
    assert_eq!(problem(refused).await["code"], "unavailable");

    let refused = doors.call().await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);

    let (job, wait) = doors.snoozed().await;
    assert_eq!(wait, Duration::from_secs(1));
    assert_eq!(doors.stage.status(job).await.last_error, None);
}

/// An error that is neither boxed nor turned into an answer on its way out.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("broken inside")]
struct Broken;

#[tokio::test]
async fn error_of_the_inner_service_keeps_its_type() {
    let service =
        layers(local(Clock::system())).service(service_fn(async |_: axum::extract::Request| {
            Err::<axum::response::Response, _>(Broken)
        }));
    let failed: Result<_, Broken> = service.oneshot(axum::extract::Request::default()).await;
    assert_eq!(failed.unwrap_err(), Broken);
}

#[tokio::test(flavor = "multi_thread")]
async fn error_of_a_jobs_service_is_its_failed_attempts_reason() {
    let stage = Stage::sqlite().await;
    let service =
        layers(local(Clock::system())).service(service_fn(async |_: JobRequest<Note>| {
            Err::<Outcome, _>(Broken)
        }));
    let job = stage.enqueue(&note("fails")).await;
    let worker = stage.worker().register::<Note, _>(Layered(service));
    let _worker = worker.start().unwrap();
    let failed = eventually(LIMIT, async || stage.status(job).await.last_error).await;
    assert_eq!(failed, "broken inside");
}
