use std::convert::Infallible;
use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use axum::routing::post;
use http_body_util::{BodyExt as _, Empty};
use maxscale_tests::Lateness;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tower::util::{ServiceExt as _, service_fn};
use tower_layer::Layer as _;
use tracing::Instrument as _;

use super::*;
use crate::fact::TraceContext;
use crate::meter;
use crate::meter::span::{self, JobSpan, Origin, RequestSpan, Root, Sampler};
use crate::telemetry::{Guard, TelemetryConfig, TraceLayer, dispatch};

/// A collector that keeps what it was sent.
#[derive(Clone, Debug, Default)]
struct Collector {
    got: Arc<Mutex<Vec<(HeaderMap, ExportTraceServiceRequest)>>>,
    /// The first so many are turned away.
    busy: Arc<Mutex<u32>>,
}

impl Collector {
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().route("/v1/traces", post(take));
        let app = app.with_state(self.clone());
        tokio::spawn(axum::serve(listener, app).into_future());
        url
    }

    fn spans(&self) -> Vec<Span> {
        let got = self.got.lock().unwrap();
        let resources = got.iter().flat_map(|(_, request)| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    fn span(&self, name: &str) -> Span {
        let spans = self.spans();
        let found = spans.iter().find(|span| span.name == name);
        found
            .unwrap_or_else(|| panic!("no {name:?} in {spans:#?}"))
            .clone()
    }
}

async fn take(State(collector): State<Collector>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut busy = collector.busy.lock().unwrap();
    if *busy > 0 {
        *busy -= 1;
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    collector.got.lock().unwrap().push((headers, request));
    StatusCode::OK
}

/// Runs `work` with spans going to `url`, and ends telemetry.
async fn recorded(config: OtlpConfig, work: impl Future<Output = ()>) {
    let config = TelemetryConfig::new("off").otlp(config);
    let (dispatch, guard) = dispatch(config, std::io::sink).unwrap();
    {
        let _default = tracing::dispatcher::set_default(&dispatch);
        work.await;
    }
    ended(guard).await;
}

/// The collector answers on this thread, so another one waits for it.
async fn ended(guard: Guard) {
    tokio::task::spawn_blocking(move || drop(guard))
        .await
        .unwrap();
}

fn request_span(origin: &Origin) -> Root {
    let request = RequestSpan {
        request_id: "r-1",
        method: "GET",
        path: "/projects/7",
        route: Some("/projects/{id}"),
    };
    span::request(request, origin)
}

fn text(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

const SENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn recorded_request_is_sent_with_what_happened_inside() {
    let collector = Collector::default();
    let config = OtlpConfig::new(&collector.start().await, "shop").unwrap();
    let config = config.header("x-token", "secret").unwrap();
    let config = config.attribute("deployment.environment.name", "test");
    assert!(!format!("{config:?}").contains("secret"));
    let mut context = None;
    recorded(config, async {
        let root = request_span(&Origin::new(Sampler::share(1.0), 7));
        context = Some(root.context().clone());
        root.set("http.response.status_code", 200);
        let inside = async {
            assert_eq!(TraceContext::sampled().as_ref(), context.as_ref());
            let sql = span::database("postgresql", "eu-1", "statement");
            async { span::failed(&tracing::Span::current(), "unique") }
                .instrument(sql)
                .await;
            let _enqueue = span::enqueue("mail", "welcome").entered();
            // Of others only what matters.
            drop(tracing::debug_span!(target: "h2", "frame").entered());
        };
        root.around(inside).await;
    })
    .await;
    let context = context.unwrap();

    let server = collector.span("GET /projects/{id}");
    assert_eq!(text(&server.trace_id), context.trace_id().to_string());
    assert_eq!(text(&server.span_id), context.span_id().to_string());
    assert!(server.parent_span_id.is_empty() && server.kind == 2);
    let sql = collector.span("statement");
    assert_eq!(
        (&sql.trace_id, &sql.parent_span_id),
        (&server.trace_id, &server.span_id)
    );
    assert_eq!((sql.kind, sql.status.unwrap().code), (3, 2));
    let system = sql.attributes.iter().find(|kv| kv.key == "db.system.name");
    assert!(format!("{system:?}").contains("postgresql"));
    assert_eq!(collector.span("send mail").kind, 4);
    assert_eq!(collector.spans().len(), 3);
    let got = collector.got.lock().unwrap();
    let (headers, first) = &got[0];
    assert_eq!(headers["x-token"], "secret");
    let resource = format!("{:?}", first.resource_spans[0].resource);
    assert!(resource.contains("shop") && resource.contains("deployment.environment.name"));
}

#[tokio::test]
async fn unrecorded_request_is_not_sent_and_told_to_others_all_the_same() {
    let collector = Collector::default();
    let config = OtlpConfig::new(&collector.start().await, "shop").unwrap();
    recorded(config, async {
        let root = request_span(&Origin::new(Sampler::NONE, 7));
        let context = root.context().clone();
        let inside = async {
            assert_eq!(TraceContext::current(), Some(context.clone()));
            assert_eq!(TraceContext::sampled(), None);
            assert!(context.traceparent().ends_with("-00"));
            drop(span::database("postgresql", "eu-1", "statement").entered());
        };
        root.clone().around(inside).await;
        assert_eq!(TraceContext::current(), None);
    })
    .await;
    assert_eq!(collector.spans().len(), 0);
}

#[tokio::test]
async fn trace_of_a_parent_goes_on_and_one_that_is_linked_does_not() {
    let collector = Collector::default();
    let config = OtlpConfig::new(&collector.start().await, "shop").unwrap();
    let sent = TraceContext::parse(SENT).unwrap().state("vendor=1");
    recorded(config, async {
        let root = request_span(&Origin::within(sent.clone(), 7));
        assert_eq!(root.context().tracestate(), Some("vendor=1"));
        drop(root);
        let job = JobSpan {
            kind: "measure",
            queue: "audio",
            job: &7,
            attempt: 2,
        };
        drop(span::job(
            job,
            &Origin::new(Sampler::NONE, 9).sampled().linked(sent.clone()),
        ));
    })
    .await;
    let within = collector.span("GET /projects/{id}");
    assert_eq!(text(&within.trace_id), sent.trace_id().to_string());
    assert_eq!(text(&within.parent_span_id), sent.span_id().to_string());
    let linked = collector.span("process audio");
    assert!(linked.trace_id != within.trace_id && linked.parent_span_id.is_empty());
    assert_eq!(text(&linked.links[0].span_id), sent.span_id().to_string());
    assert_eq!(linked.kind, 5);
}

/// Its method is known from its path, and that somebody serves it from the answer.
#[tokio::test]
async fn grpc_call_is_called_by_its_method_and_a_made_up_one_is_not() {
    let collector = Collector::default();
    let config = OtlpConfig::new(&collector.start().await, "shop").unwrap();
    let layer = TraceLayer::new(&meter::nowhere()).sampler(config.sampler());
    recorded(config, async {
        for (path, status) in [("/shop.Cart/Add", "4"), ("/scan.A/B", "12")] {
            let answer = move |_: Request<()>| {
                let answer = Response::builder().header("content-type", "application/grpc");
                let answer = answer.header("grpc-status", status);
                ready(Ok::<_, Infallible>(
                    answer.body(Empty::<Bytes>::new()).unwrap(),
                ))
            };
            let call = Request::post(path).header("content-type", "application/grpc");
            let traced = layer.layer(service_fn(answer));
            let answered = traced.oneshot(call.body(()).unwrap()).await.unwrap();
            answered.into_body().collect().await.unwrap();
        }
    })
    .await;
    let served = collector.span("shop.Cart/Add");
    let told = format!("{:?}", served.attributes);
    for part in ["rpc.method", "shop.Cart/Add", "DEADLINE_EXCEEDED", "grpc"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!((served.kind, served.status.unwrap().code), (2, 2));
    assert_eq!(collector.span("POST").kind, 2);
}

#[tokio::test]
async fn collector_that_is_busy_is_asked_again() {
    let collector = Collector::default();
    *collector.busy.lock().unwrap() = 2;
    let config = OtlpConfig::new(&collector.start().await, "shop").unwrap();
    recorded(config, async {
        drop(request_span(&Origin::new(Sampler::share(1.0), 7)));
    })
    .await;
    assert_eq!(collector.spans().len(), 1);
}

#[tokio::test]
async fn collector_that_hangs_holds_up_neither_work_nor_the_end() {
    // The system accepts for it, and nobody answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let config = OtlpConfig::new(&url, "shop").unwrap();
    let config = TelemetryConfig::new("off").otlp(config);
    let (dispatch, guard) = dispatch(config, std::io::sink).unwrap();
    let work = || {
        let started = Instant::now();
        tracing::dispatcher::with_default(&dispatch, || {
            for _ in 0..OtlpConfig::QUEUE {
                drop(request_span(&Origin::new(Sampler::share(1.0), 7)));
            }
        });
        started.elapsed()
    };
    // As many as may wait for it, and as many for whom there is no room: that takes
    // about as long, and an attempt may take ten seconds.
    let (some, more) = (work(), work());
    let most = 2 * some + OtlpConfig::DEFAULT_TIMEOUT;
    assert!(more < most, "{more:?} after {some:?}");
    let (asked, late) = (Instant::now(), Lateness::watch());
    ended(guard).await;
    let took = asked.elapsed();
    let most = Guard::FLUSH + Duration::from_secs(2) + late.total();
    assert!(took < most, "{took:?}, {late:?}");
}

#[test]
fn half_of_the_traces_are_recorded_if_that_is_asked_for() {
    use std::hash::{BuildHasher as _, RandomState};
    let half = Sampler::share(0.5);
    let keyed = RandomState::new();
    let taken = (0..10_000_u32)
        .filter(|n| half.takes(keyed.hash_one(n)))
        .count();
    assert!((4_700..5_300).contains(&taken), "{taken}");
    let all = |sampler: Sampler| [0, 1, u64::MAX].map(|draw| sampler.takes(draw));
    assert_eq!(all(Sampler::share(1.0)), [true; 3]);
    assert_eq!(all(Sampler::NONE), [false; 3]);
}

#[test]
fn endpoint_that_cannot_be_is_told() {
    let new =
        |endpoint: &str| OtlpConfig::new(endpoint, "shop").map(|config| config.url.to_string());
    assert_eq!(new("http://c:4318").unwrap(), "http://c:4318/v1/traces");
    assert_eq!(new("http://c/base/").unwrap(), "http://c/base/v1/traces");
    assert_eq!(new("https://c:4318"), Err(OtlpConfigError::Tls));
    for endpoint in ["", "c:4318", "ftp://c", "http://c?x=1", "http://"] {
        assert!(
            matches!(new(endpoint), Err(OtlpConfigError::Endpoint { .. })),
            "{endpoint}"
        );
    }
    let config = OtlpConfig::new("http://c", "shop").unwrap();
    for share in [-0.1, 1.1, f64::NAN] {
        assert!(config.clone().share(share).is_err());
    }
    assert!(config.clone().header("two words", "x").is_err());
    assert!(config.header("x", "a\nb").is_err());
}
