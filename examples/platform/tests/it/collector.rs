//! A collector of spans, as OTLP over HTTP has it.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;

/// Keeps every span that it is sent. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Collector(Arc<Mutex<Vec<Span>>>);

// === impl Collector ===

impl Collector {
    /// One that listens, and its endpoint.
    pub(crate) async fn start() -> (Self, String) {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().route("/v1/traces", post(take));
        let app = app.with_state(collector.clone());
        tokio::spawn(axum::serve(listener, app).into_future());
        (collector, endpoint)
    }

    /// All spans, and all that they say, as a text.
    pub(crate) fn all(&self) -> String {
        format!("{:#?}", self.0.lock().unwrap())
    }

    /// All spans of the trace `trace`.
    pub(crate) fn of(&self, trace: &str) -> Vec<Span> {
        let spans = self.0.lock().unwrap();
        let of = |span: &&Span| hex(&span.trace_id) == trace;
        spans.iter().filter(of).cloned().collect()
    }
}

async fn take(State(collector): State<Collector>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let scopes = request.resource_spans.into_iter();
    let scopes = scopes.flat_map(|resource| resource.scope_spans);
    let spans = scopes.flat_map(|scope| scope.spans);
    collector.0.lock().unwrap().extend(spans);
}

/// As traces write ids.
pub(crate) fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The text of the attribute `key`.
pub(crate) fn attribute(span: &Span, key: &str) -> Option<String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let found = span.attributes.iter().find(|held| held.key == key)?;
    match found.value.clone()?.value? {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        Value::BoolValue(yes) => Some(yes.to_string()),
        _ => None,
    }
}
