//! The time that telemetry adds to a request, against axum-prometheus and
//! axum-tracing-opentelemetry: the same route, spans that are not sampled, one thread.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::get;
use axum_prometheus::PrometheusMetricLayer;
use axum_tracing_opentelemetry::middleware::OtelAxumLayer;
use http_body_util::BodyExt as _;
use maxscale_core::BoxError;
use maxscale_core::meter::span::Sampler;
use maxscale_core::telemetry::{
    Metrics, OtlpConfig, TelemetryConfig, TraceLayer, init, matched_path,
};
use maxscale_measure::{Bar, Op, Plan, Report};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tower::Service;
use tracing::Dispatch;
use tracing_subscriber::layer::SubscriberExt as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let plan = if quick { Plan::QUICK } else { Plan::FULL };
    layer_vs_peers(&plan, &mut Report::default()).await
}

async fn layer_vs_peers(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let name = "telemetry.layer_vs_peers";
    let bare = Router::new().route("/users/{id}", get(async || "found"));

    // Spans go to a collector in both, and none is sampled.
    let otlp = OtlpConfig::new("http://127.0.0.1:9", "bench")?.share(0.0)?;
    let _guard = init(TelemetryConfig::new("warn").otlp(otlp))?;
    let here = tracing::dispatcher::get_default(Dispatch::clone);
    let metrics = Metrics::new();
    let layer = TraceLayer::new(&metrics.meter("bench"));
    let layer = layer.route_by(matched_path).sampler(Sampler::NONE);
    let with_ours = bare.clone().layer(layer);

    let provider = SdkTracerProvider::builder()
        .with_sampler(opentelemetry_sdk::trace::Sampler::AlwaysOff)
        .build();
    let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("bench"));
    let there = Dispatch::new(tracing_subscriber::registry().with(spans));
    let (prometheus, _page) = PrometheusMetricLayer::pair();
    let with_theirs = bare
        .clone()
        .layer(OtelAxumLayer::default())
        .layer(prometheus);

    let mut ours = plan.compare();
    let mut theirs = plan.compare();
    while !(ours.are_enough() && theirs.are_enough()) {
        let plain = |count| run(bare.clone(), here.clone(), count);
        let traced = |count| run(with_ours.clone(), here.clone(), count);
        ours.round(traced, plain).await?;
        let plain = |count| run(bare.clone(), there.clone(), count);
        let traced = |count| run(with_theirs.clone(), there.clone(), count);
        theirs.round(traced, plain).await?;
    }
    let (ours, theirs) = (ours.cost(), theirs.cost());
    report.note(&format!(
        "{name}: a request with ours against one without: {ours}"
    ));
    report.note(&format!(
        "{name}: one with theirs against one without: {theirs}"
    ));
    report.bar(Bar {
        name,
        measured: (ours.value - 1.0) / (theirs.value - 1.0),
        op: Op::AtMost,
        target: 0.8,
    });
    Ok(())
}

/// `count` requests, one after another, each to the end of its answer.
async fn run(mut app: Router, spans: Dispatch, count: u32) -> Result<(), BoxError> {
    let _spans = tracing::dispatcher::set_default(&spans);
    for _ in 0..count {
        let request = Request::get("/users/7").body(Body::empty())?;
        let answer: Result<Response, Infallible> = app.call(request).await;
        let Ok(answer) = answer;
        let body = answer.into_body().collect().await?.to_bytes();
        if &*body != b"found" {
            return Err("another answer".into());
        }
    }
    Ok(())
}
