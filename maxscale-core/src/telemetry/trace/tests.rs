use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tower::util::{ServiceExt, service_fn};

use super::*;
use crate::clock::Clock;
use crate::fact::{RequestId, TraceContext};
use crate::telemetry::Metrics;
use crate::telemetry::slo::{Objectives, Window};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A body whose frames the test sends.
#[derive(Debug)]
struct Frames(mpsc::Receiver<Result<Frame<Bytes>, &'static str>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        self.0.poll_recv(cx)
    }
}

fn data(text: &'static str) -> Result<Frame<Bytes>, &'static str> {
    Ok(Frame::data(text.into()))
}

fn layer() -> (Metrics, TraceLayer) {
    let metrics = Metrics::new();
    let layer = TraceLayer::new(&metrics.meter("test"));
    (metrics, layer)
}

/// The value of the first sample that starts with `start`.
fn sample(metrics: &Metrics, start: &str) -> Option<f64> {
    let page = metrics.exposition().unwrap();
    let line = page.lines().find(|line| line.starts_with(start))?;
    Some(line.rsplit_once(' ').unwrap().1.parse().unwrap())
}

/// How many GETs of no route have ended with `status`.
fn ended(metrics: &Metrics, status: u16) -> f64 {
    let series = format!(
        "http_server_request_duration_seconds_count{{http_request_method=\"GET\",\
         http_response_status_code=\"{status}\",http_route=\"_OTHER\"}} "
    );
    sample(metrics, &series).unwrap_or(0.0)
}

fn active(metrics: &Metrics) -> Option<f64> {
    sample(metrics, "http_server_active_requests ")
}

/// Answers with the ids that reached it.
async fn ids(req: Request<()>) -> Result<Response<Full<Bytes>>, Infallible> {
    let id = req.extensions().get::<RequestId>().unwrap().as_str();
    let trace = req.extensions().get::<TraceContext>().unwrap();
    // Whatever is sent on from here says the same.
    assert_eq!(TraceContext::current().as_ref(), Some(trace));
    Ok(Response::new(Full::from(format!(
        "{id} {}",
        trace.trace_id()
    ))))
}

async fn ids_for(layer: TraceLayer, headers: &[(&str, &str)]) -> (HeaderMap, String) {
    let mut req = Request::new(());
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        req.headers_mut().append(name, value.parse().unwrap());
    }
    let response = layer.layer(service_fn(ids)).oneshot(req).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.headers, String::from_utf8(body.to_vec()).unwrap())
}

/// An answer made of `answer`'s head and the frames sent to the returned sender.
async fn streamed(
    layer: TraceLayer,
    req: Request<()>,
    answer: http::response::Builder,
) -> (
    mpsc::Sender<Result<Frame<Bytes>, &'static str>>,
    TraceBody<Frames>,
) {
    let (send, frames) = mpsc::channel(4);
    let mut answer = Some(answer.body(Frames(frames)).unwrap());
    let service = service_fn(move |_: Request<()>| {
        let answer = answer.take().unwrap();
        async move {
            sleep(Duration::from_millis(300)).await;
            Ok::<_, Infallible>(answer)
        }
    });
    let response = layer.layer(service).oneshot(req).await.unwrap();
    (send, response.into_body())
}

#[tokio::test]
async fn valid_ids_of_the_caller_are_taken_over() {
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let headers = [("x-request-id", "caller-7"), ("traceparent", &parent)];
    let (answered, body) = ids_for(layer().1.trust(|_| true), &headers).await;
    assert_eq!(body, format!("caller-7 {TRACE}"));
    assert_eq!(answered["x-request-id"], "caller-7");
    // Of nobody that is not trusted.
    let (_, body) = ids_for(layer().1, &headers).await;
    assert!(!body.contains(TRACE), "{body}");
}

#[tokio::test]
async fn hostile_ids_are_replaced_by_new_ones() {
    let long = "a".repeat(RequestId::MAX_LEN + 1);
    for id in ["", "two words", "tab\there", long.as_str()] {
        let layer = layer().1.random(|| 0).trust(|_| true);
        let hostile = [("x-request-id", id), ("traceparent", "00-zz-00-01")];
        let (headers, body) = ids_for(layer, &hostile).await;
        let new = "00000000-0000-4000-8000-000000000000";
        assert_eq!(headers["x-request-id"], new, "{id:?}");
        assert_eq!(body, format!("{new} 00000000000000000000000000000001"));
    }
}

/// 0.3 s until the head and 0.3 s until the last frame are 0.6 s.
#[tokio::test(start_paused = true)]
async fn duration_ends_with_the_last_frame() {
    let (metrics, layer) = layer();
    let (send, body) = streamed(layer, Request::new(()), Response::builder()).await;
    assert_eq!((active(&metrics), ended(&metrics, 200)), (Some(1.0), 0.0));

    let read = tokio::spawn(body.collect());
    sleep(Duration::from_millis(300)).await;
    send.send(data("tail")).await.unwrap();
    drop(send);
    read.await.unwrap().unwrap();

    assert_eq!((active(&metrics), ended(&metrics, 200)), (Some(0.0), 1.0));
    let page = metrics.exposition().unwrap();
    assert!(page.contains("le=\"0.5\"} 0\n"), "{page}");
    assert!(page.contains("le=\"1\"} 1\n"), "{page}");
}

#[tokio::test(start_paused = true)]
async fn objectives_count_what_failed_and_not_who_went_away() {
    let (metrics, layer) = layer();
    let slo = Slo::new(Objectives::default(), Clock::system());
    let layer = layer.slo(slo.clone());
    for status in [200, 404, 429, 500, 503] {
        let answer = Response::builder().status(status);
        let (send, body) = streamed(layer.clone(), Request::new(()), answer).await;
        drop(send);
        body.collect().await.unwrap();
    }
    let hung = service_fn(|_: Request<()>| pending::<Result<Response<Frames>, Infallible>>());
    let given_up = layer.layer(hung).oneshot(Request::new(()));
    let waited = tokio::time::timeout(Duration::from_secs(1), given_up).await;
    assert!(waited.is_err());
    assert_eq!(ended(&metrics, 499), 1.0);
    let burn = slo.burn(Window::Hour);
    assert_eq!(burn.requests, 5);
    // Two of five, where one of ten thousand may.
    assert!((burn.availability - 4_000.0).abs() < 1e-6, "{burn:?}");
    // Each took 0.3 s: over 200 ms, of which one in twenty may, and under 500 ms.
    assert!(
        (burn.latency[1] - 20.0).abs() < 1e-6 && burn.latency[2] == 0.0,
        "{burn:?}"
    );
}

/// Who listens for an hour has not waited for an hour.
#[tokio::test(start_paused = true)]
async fn stream_of_events_is_measured_to_its_head_and_counts_when_it_ends() {
    let (metrics, layer) = layer();
    let slo = Slo::new(Objectives::default(), Clock::system());
    let answer = Response::builder().header("content-type", "text/event-stream");
    let traced = layer.slo(slo.clone());
    let (send, body) = streamed(traced, Request::new(()), answer).await;
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!((active(&metrics), ended(&metrics, 200)), (Some(1.0), 0.0));
    drop(send);
    body.collect().await.unwrap();
    let page = metrics.exposition().unwrap();
    assert!(page.contains("le=\"0.5\"} 1\n"), "{page}");
    // 0.3 s until the head.
    assert_eq!(slo.burn(Window::Hour).latency[2], 0.0);
    assert_eq!(slo.burn(Window::Hour).requests, 1);
}

#[tokio::test(start_paused = true)]
async fn announced_length_ends_a_body_that_is_not_asked_again() {
    let (metrics, layer) = layer();
    let answer = Response::builder().header("content-length", 6);
    let (send, mut body) = streamed(layer, Request::new(()), answer).await;
    for (part, over) in [("abc", 0.0), ("def", 1.0)] {
        send.send(data(part)).await.unwrap();
        body.frame().await.unwrap().unwrap();
        assert_eq!(ended(&metrics, 200), over, "after {part}");
    }
}

#[tokio::test(start_paused = true)]
async fn head_has_ended_with_its_head() {
    let (metrics, layer) = layer();
    let req = Request::head("/").body(()).unwrap();
    let answer = Response::builder().header("content-length", 6);
    let (_send, _body) = streamed(layer, req, answer).await;
    assert_eq!(active(&metrics), Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn trailers_end_a_grpc_answer() {
    let (metrics, layer) = layer();
    let (send, mut body) = streamed(layer, Request::new(()), Response::builder()).await;
    send.send(Ok(Frame::trailers(HeaderMap::new())))
        .await
        .unwrap();
    body.frame().await.unwrap().unwrap();
    assert_eq!(ended(&metrics, 200), 1.0);
}

#[tokio::test(start_paused = true)]
async fn request_given_up_counts_as_499_and_is_not_active() {
    let (metrics, layer) = layer();
    let hung = service_fn(|_: Request<()>| pending::<Result<Response<Frames>, Infallible>>());
    let answer = layer.layer(hung).oneshot(Request::new(()));
    let given_up = tokio::time::timeout(Duration::from_secs(1), answer).await;
    assert!(given_up.is_err());
    assert_eq!((active(&metrics), ended(&metrics, 499)), (Some(0.0), 1.0));
}

#[tokio::test]
async fn panic_of_a_handler_counts_as_500() {
    let (metrics, layer) = layer();
    async fn defect(_: Request<()>) -> Result<Response<Frames>, Infallible> {
        panic!("a defect in the handler")
    }
    let service = service_fn(defect);
    let answer = tokio::spawn(layer.layer(service).oneshot(Request::new(())));
    assert!(answer.await.unwrap_err().is_panic());
    assert_eq!((active(&metrics), ended(&metrics, 500)), (Some(0.0), 1.0));
}

#[tokio::test]
async fn error_of_the_service_is_handed_on_and_counts_as_500() {
    let (metrics, layer) = layer();
    let service = service_fn(|_: Request<()>| async { Err::<Response<Frames>, _>("broken") });
    let answer = layer.layer(service).oneshot(Request::new(())).await;
    assert_eq!(answer.err(), Some("broken"));
    assert_eq!(ended(&metrics, 500), 1.0);
}

#[tokio::test]
async fn series_do_not_grow_with_paths_and_methods() {
    let (metrics, layer) = layer();
    let mut service = layer.layer(service_fn(ids));
    for n in 0..100_000 {
        let method = match n % 4 {
            0 => Method::GET,
            1 => Method::POST,
            _ => format!("M{n}").parse().unwrap(),
        };
        let req = Request::builder()
            .method(method)
            .uri(format!("/users/{n}?token={n}"))
            .header("x-request-id", format!("r-{n}"))
            .header("traceparent", format!("00-{n:032x}-{n:016x}-01"))
            .body(())
            .unwrap();
        let response = service.ready().await.unwrap().call(req).await.unwrap();
        response.into_body().collect().await.unwrap();
    }
    let page = metrics.exposition().unwrap();
    let series = page.lines().filter(|line| line.contains("_seconds_count{"));
    assert_eq!(series.count(), 3, "{page}");
    assert_eq!(ended(&metrics, 200), 25_000.0);
}

/// A call of `path` that is answered with `status` in its trailers.
async fn call(layer: TraceLayer, path: &str, status: &'static str) {
    let req = Request::post(path).header("content-type", "application/grpc");
    let req = req.body(()).unwrap();
    let answer = Response::builder().header("content-type", "application/grpc+proto");
    let (send, body) = streamed(layer, req, answer).await;
    let trailers = [("grpc-status".parse().unwrap(), status.parse().unwrap())];
    let trailers = Frame::trailers(HeaderMap::from_iter(trailers));
    send.send(Ok(trailers)).await.unwrap();
    drop(send);
    body.collect().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn grpc_calls_are_told_by_method_and_status_and_made_up_methods_are_folded() {
    let (metrics, layer) = layer();
    call(layer.clone(), "/shop.Cart/Add", "0").await;
    call(layer.clone(), "/shop.Cart/Add", "4").await;
    call(layer.clone(), "/shop.Cart/Add", "nonsense").await;
    // Nobody serves them, or a limit refused them before anybody could say so.
    for n in 0..3_000 {
        let status = ["12", "8"][n % 2];
        call(layer.clone(), &format!("/scan.A/M{n}"), status).await;
    }
    call(layer.clone(), "/shop.Cart/Remove", "0").await;
    let count = |method: &str, status: &str| {
        let series = format!(
            "rpc_server_call_duration_seconds_count{{rpc_method=\"{method}\",\
             rpc_response_status_code=\"{status}\",rpc_system_name=\"grpc\"}} "
        );
        sample(&metrics, &series)
    };
    for status in ["OK", "DEADLINE_EXCEEDED", "UNKNOWN"] {
        assert_eq!(count("shop.Cart/Add", status), Some(1.0), "{status}");
    }
    for status in ["UNIMPLEMENTED", "RESOURCE_EXHAUSTED"] {
        assert_eq!(count("_OTHER", status), Some(1_500.0), "{status}");
    }
    // What came in between has not taken anybody's place.
    assert_eq!(count("shop.Cart/Remove", "OK"), Some(1.0));
    let page = metrics.exposition().unwrap();
    let series = page.lines().filter(|line| line.contains("_seconds_count{"));
    assert_eq!(series.count(), 6, "{page}");
}

#[tokio::test]
async fn request_that_calls_itself_grpc_where_nobody_speaks_it_is_told_as_a_request() {
    let (metrics, layer) = layer();
    let req = Request::get("/users/7").header("content-type", "application/grpc");
    let answer = layer.layer(service_fn(ids)).oneshot(req.body(()).unwrap());
    answer.await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(ended(&metrics, 200), 1.0);
    let page = metrics.exposition().unwrap();
    assert!(!page.contains("rpc_server_call"), "{page}");
}

#[tokio::test]
async fn access_line_names_the_request_and_no_query() {
    let logged = crate::telemetry::log::tests::capture("info", async {
        let req = Request::get("/reset?token=hunter2")
            .header("x-request-id", "caller-7")
            .body(())
            .unwrap();
        let (_, layer) = layer();
        let service = layer.layer(service_fn(|_: Request<()>| async {
            tracing::info!(target: "shop", "inside");
            let mut response = Response::new(Full::<Bytes>::default());
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            Ok::<_, Infallible>(response)
        }));
        service.oneshot(req).await.unwrap();
    })
    .await;
    let lines: Vec<serde_json::Value> = logged
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2, "{logged}");
    assert!(lines.iter().all(|line| line["request_id"] == "caller-7"));
    assert_eq!(lines[0]["message"], "inside");
    assert_eq!(lines[1]["target"], "maxscale::access");
    assert_eq!(lines[1]["level"], "WARN");
    assert_eq!(lines[1]["status"], 502);
    assert_eq!(lines[1]["url.path"], "/reset");
    assert_eq!(lines[1]["trace_id"].as_str().unwrap().len(), 32);
    assert_eq!(lines[1]["span_id"].as_str().unwrap().len(), 16);
    assert!(lines[1]["duration_ms"].is_number());
    assert!(!logged.contains("hunter2"), "{logged}");
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn axum_router_tells_its_route_and_folds_what_matches_none() {
    use axum::Router;
    use axum::body::Body as AxumBody;
    use axum::routing::get;

    use crate::telemetry::metrics_route;

    let (metrics, layer) = layer();
    let app = Router::new()
        .route("/users/{id}", get(async || "found"))
        .layer(layer.route_by(matched_path));
    let app = metrics_route(metrics).merge(app);
    let get = async |path: &str| {
        let req = Request::get(path).body(AxumBody::empty()).unwrap();
        let response = app.clone().oneshot(req).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    };
    for path in ["/users/1", "/users/2", "/wp-login.php", "/.env"] {
        get(path).await;
    }
    let page = get("/metrics").await;
    for count in [
        "http_response_status_code=\"200\",http_route=\"/users/{id}\"} 2\n",
        "http_response_status_code=\"404\",http_route=\"_OTHER\"} 2\n",
    ] {
        assert!(page.contains(count), "{page}");
    }
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn refusal_of_a_layer_inside_names_the_request_and_is_measured() {
    use axum::Router;
    use axum::body::Body as AxumBody;
    use axum::routing::{Route, get};
    use tower::ServiceBuilder;
    use tower::layer::layer_fn;

    use crate::refusal::{Class, Refusal, ReplyBody};

    let refusing = layer_fn(|_: Route| {
        service_fn(async |req: Request<AxumBody>| {
            let response: Response<ReplyBody<AxumBody>> =
                Refusal::of(Class::Timeout).into_response(&req);
            Ok::<_, Infallible>(response)
        })
    });
    let (metrics, layer) = layer();
    let layers = ServiceBuilder::new().layer(layer).layer(refusing);
    let app = Router::new().route("/", get(pending::<()>)).layer(layers);
    let req = Request::get("/").body(AxumBody::empty()).unwrap();
    let response = app.oneshot(req).await.unwrap();

    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    let id = response.headers()["x-request-id"].clone();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["request_id"], id.to_str().unwrap());
    assert_eq!(ended(&metrics, 504), 1.0);
}
