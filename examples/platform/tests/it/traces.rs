//! Traces: what one request caused, from its first byte to its job's end.

use std::collections::HashSet;
use std::time::Duration;

use maxscale_core::telemetry::Guard;
use maxscale_tests::free_port;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;

use crate::client::{PLUCK, send};
use crate::collector::{Collector, attribute, hex};
use crate::servers::Servers;
use crate::service::Service;
use crate::waited::Waited;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
const LIMIT: Duration = Duration::from_secs(60);

/// Through HTTP, SQL, Redis and a job; and none is lost when the process ends.
#[tokio::test]
async fn every_span_of_an_upload_reaches_the_collector() {
    let (collector, endpoint) = Collector::start().await;
    let servers = Servers::start().await;
    let folder = tempfile::tempdir().unwrap();
    let builder = (servers.builder(folder.path()))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("MAXSCALE__OTEL__TRUSTED", "127.0.0.0/8")
        // What is recorded is not chosen by what is logged.
        .env("MAXSCALE__LOG__FILTER", "warn");
    let service = Service::start(builder).await;
    let client = service.client();
    client.sign_up("ada@example.com").await;
    let project = client.project("Traced").await;
    let upload =
        (client.upload(&project, PLUCK)).header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
    let uploaded = send(upload).await.unwrap();
    assert_eq!(uploaded.status, 202, "{uploaded:?}");
    let track = uploaded.text("/track/id");
    client.measured(&project, &track, LIMIT).await;
    service.process.terminate();
    assert!(service.process.wait(LIMIT).await.success());

    let spans = collector.of(TRACE);
    let known: HashSet<String> = spans.iter().map(|span| hex(&span.span_id)).collect();
    for span in &spans {
        let parent = hex(&span.parent_span_id);
        assert!(known.contains(&parent) || parent == CALLER, "{span:#?}");
    }
    let named = |name: &str| {
        let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "{name}: {spans:#?}");
        found[0]
    };
    let request = named("POST /v1/projects/{project}/tracks");
    assert_eq!(hex(&request.parent_span_id), CALLER);
    let status = attribute(request, "http.response.status_code");
    assert_eq!(status.as_deref(), Some("202"));
    let sent = named("send default");
    let run = named("process default");
    assert_eq!(run.parent_span_id, sent.span_id);
    let job = attribute(run, "messaging.message.id");
    assert_eq!(job, Some(uploaded.text("/track/job")));
    // The track's row and the job's; the limit; what the job wrote.
    let inside = |parent: &Span, system: &str| {
        let is = |span: &&Span| attribute(span, "db.system.name").as_deref() == Some(system);
        let below = |span: &&Span| span.parent_span_id == parent.span_id;
        spans.iter().filter(is).filter(below).count()
    };
    assert!(inside(request, "postgresql") >= 3, "{spans:#?}");
    assert!(inside(request, "redis") >= 1, "{spans:#?}");
    assert_eq!(inside(sent, "postgresql"), 1, "{spans:#?}");
    assert!(inside(run, "postgresql") >= 2, "{spans:#?}");
}

/// A caller that nobody trusts cannot have traces recorded, nor join others'.
#[tokio::test]
async fn trace_of_an_untrusted_caller_is_linked_and_not_gone_on_with() {
    let (collector, endpoint) = Collector::start().await;
    let folder = tempfile::tempdir().unwrap();
    let builder = Service::builder(folder.path())
        .env("MAXSCALE__OTEL__ENDPOINT", endpoint)
        .env("MAXSCALE__OTEL__SHARE", "1.0");
    let service = Service::start(builder).await;
    let client = service.client();
    let asked = (client.request(reqwest::Method::GET, "/v1/me"))
        .header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
    let refused = send(asked).await.unwrap();
    let trace = refused.text("/trace_id");
    assert_ne!(trace, TRACE);
    service.process.terminate();
    assert!(service.process.wait(LIMIT).await.success());

    assert_eq!(collector.of(TRACE).len(), 0);
    let spans = collector.of(&trace);
    let request = spans.iter().find(|span| span.name == "GET /v1/me").unwrap();
    assert_eq!(hex(&request.links[0].trace_id), TRACE);
}

/// What is lost is spans: requests and jobs go on, and the end comes in time.
#[tokio::test]
async fn collector_that_is_away_or_hangs_takes_nothing_but_traces() {
    // The system accepts for it, and nobody answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hangs = format!("http://{}", listener.local_addr().unwrap());
    let away = format!("http://127.0.0.1:{}", free_port());
    // The end of one that sends no traces comes first: what that takes is the machine's.
    let mut plain = None;
    for endpoint in [None, Some(hangs), Some(away)] {
        let folder = tempfile::tempdir().unwrap();
        let mut builder = Service::builder(folder.path());
        if let Some(endpoint) = endpoint {
            builder = builder.env("MAXSCALE__OTEL__ENDPOINT", endpoint);
        }
        let service = Service::start(builder).await;
        let client = service.client();
        client.sign_up("ada@example.com").await;
        let project = client.project("Alone").await;
        let uploaded = send(client.upload(&project, PLUCK)).await.unwrap();
        let track = uploaded.text("/track/id");
        client.measured(&project, &track, LIMIT).await;
        for _ in 0..500 {
            assert_eq!(client.get("/v1/me").await.status, 200);
        }
        service.process.terminate();
        let asked = Waited::begin();
        assert!(service.process.wait(LIMIT).await.success());
        let took = asked.so_far();
        let plain = *plain.get_or_insert(took);
        let most = plain + Guard::FLUSH + Duration::from_secs(3);
        assert!(took < most, "{took:?}, and without traces {plain:?}");
        eprintln!("after SIGTERM: {took:?}");
    }
}

#[tokio::test]
async fn collector_that_is_none_is_told_with_its_setting() {
    let folder = tempfile::tempdir().unwrap();
    for (name, value, told) in [
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "https://c:4318",
            "otel.endpoint",
        ),
        ("MAXSCALE__OTEL__SHARE", "most", "otel.share"),
        ("MAXSCALE__OTEL__SHARE", "1.5", "otel.share"),
        ("MAXSCALE__OTEL__TRUSTED", "10.0.0.0/33", "otel.trusted"),
        ("MAXSCALE__OTEL__HEADERS", "two words=x", "otel.headers"),
        ("MAXSCALE__OTEL__HEADERS", "Bearer hunter2", "otel.headers"),
    ] {
        let builder = Service::builder(folder.path())
            .env("MAXSCALE__OTEL__ENDPOINT", "http://127.0.0.1:9")
            .env(name, value);
        let process = builder.start();
        assert!(!process.wait(LIMIT).await.success(), "{name}={value}");
        let lines = process.stderr().join("\n");
        assert!(lines.contains(told), "{name}={value}: {lines}");
        assert!(!lines.contains("hunter2"), "{lines}");
    }
}
