//! One trace through a request, the job that it enqueues and the call that that makes.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Extension, State};
use axum::routing::post;
use maxscale_core::fact::TraceContext;
use maxscale_core::meter;
use maxscale_core::telemetry::TraceLayer;
use maxscale_queue::{EnqueueOptions, JobRequest, Outcome, Queue};
use maxscale_shard::Router as Shards;
use maxscale_tests::eventually;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceBuilder;

use crate::stage::{LIMIT, Note, SHARD, Stage, note, on_both};

const SENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// Where in its trace each of them was, in the order in which they ran.
type Places = Arc<Mutex<Vec<(&'static str, TraceContext)>>>;

/// Enqueues a job in a transaction of its own.
async fn enqueue(
    Extension(here): Extension<TraceContext>,
    State((queue, router, places)): State<(Queue, Shards, Places)>,
) {
    places.lock().unwrap().push(("request", here));
    let mut tx = router.virtual_shard(SHARD).unwrap().begin().await.unwrap();
    let job = note("traced");
    let enqueued = queue.enqueue_in(&mut tx, &job, EnqueueOptions::default());
    enqueued.await.unwrap();
    tx.commit().await.unwrap();
}

/// Calls `server` and tells it where this is.
async fn call(server: Endpoint) {
    let here = TraceContext::current().unwrap();
    let mut client = HealthClient::new(server.connect().await.unwrap());
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    let parent = here.traceparent().parse().unwrap();
    request.metadata_mut().insert("traceparent", parent);
    client.check(request).await.unwrap();
}

on_both! {
    async fn request_its_job_and_the_call_of_that_are_one_trace(stage: &Stage) {
        let places = Places::default();
        let mut servers = JoinSet::new();
        let traced = TraceLayer::new(&meter::nowhere()).trust(|_| true);

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap();
        let known = (stage.queue.clone(), stage.fleet.router().clone(), places.clone());
        let app = Router::new().route("/", post(enqueue)).with_state(known);
        let app = app.layer(traced.clone());
        servers.spawn(async { axum::serve(listener, app).await.unwrap() });

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc = format!("http://{}", listener.local_addr().unwrap());
        let grpc = Endpoint::from_shared(grpc).unwrap();
        let (_, health) = tonic_health::server::health_reporter();
        let called = places.clone();
        let noted = move |request: http::Request<_>| {
            let here = request.extensions().get::<TraceContext>().unwrap();
            called.lock().unwrap().push(("call", here.clone()));
            request
        };
        let layers = ServiceBuilder::new().layer(traced).map_request(noted);
        let server = tonic::transport::Server::builder().layer(layers).add_service(health);
        let incoming = TcpListenerStream::new(listener);
        servers.spawn(async { server.serve_with_incoming(incoming).await.unwrap() });

        let ran = places.clone();
        let run = move |request: JobRequest<Note>| {
            let (ran, grpc) = (ran.clone(), grpc.clone());
            async move {
                ran.lock().unwrap().push(("job", request.trace().unwrap().clone()));
                call(grpc).await;
                Outcome::Done
            }
        };
        let _worker = stage.worker().register(run).start().unwrap();
        let sent = reqwest::Client::new().post(format!("http://{http}/"));
        let sent = sent.header("traceparent", SENT).header("tracestate", "vendor=1");
        assert_eq!(sent.send().await.unwrap().status(), 200);

        let all = eventually(LIMIT, async || {
            let places = places.lock().unwrap().clone();
            (places.len() == 3).then_some(places)
        })
        .await;
        let sent = TraceContext::parse(SENT).unwrap();
        let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["request", "job", "call"]);
        for (name, place) in &all {
            assert_eq!(place.trace_id(), sent.trace_id(), "{name}");
        }
        let mut spans: Vec<_> = all.iter().map(|(_, place)| place.span_id()).collect();
        spans.push(sent.span_id());
        spans.sort_unstable();
        spans.dedup();
        assert_eq!(spans.len(), 4, "each is a span of its own: {all:#?}");
        assert_eq!(all[1].1.tracestate(), Some("vendor=1"));
    }
}
