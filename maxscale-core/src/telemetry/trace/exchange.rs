//! One request, from its head to the last frame of its answer.

use std::sync::Arc;

use http::{HeaderMap, Method, Request, StatusCode};
use opentelemetry::KeyValue;
use tokio::time::Instant;
use tracing::Span;
use uuid::Builder;

use super::super::traceparent;
use super::{SPAN_TARGET, Shared};
use crate::fact::{RequestId, TraceId};
use crate::meter::label;

/// Where the id of a request is taken from and told.
pub(super) const X_REQUEST_ID: &str = "x-request-id";

/// The rest of a longer path is not logged.
const MAX_PATH_LEN: usize = 256;

/// Recorded exactly once: when it is dropped.
#[derive(Debug)]
pub(super) struct Exchange {
    shared: Arc<Shared>,
    span: Span,
    started: Instant,
    method: Method,
    route: Option<Arc<str>>,
    status: Option<StatusCode>,
    end: End,
}

/// How far an exchange came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Waiting for more; dropped like this, the caller is gone.
    Aborted,
    /// Inside the inner service; dropped like this, it has panicked.
    Panicked,
    /// The service or the body failed.
    Failed,
    /// All is sent.
    Complete,
}

// === impl Exchange ===

impl Exchange {
    /// Gives `req` its ids and starts the span.
    pub(super) fn begin<B>(shared: &Arc<Shared>, req: &mut Request<B>) -> (Self, RequestId) {
        let id = request_id(req.headers()).unwrap_or_else(|| new_id((shared.random)()));
        let trace = traceparent::trace_of(req.headers())
            // Zero is no trace.
            .or_else(|| TraceId::from_number((shared.random)() | 1))
            .expect("a number with a bit set is not zero");
        let route: Option<Arc<str>> = (shared.route)(req.extensions()).map(Arc::from);
        let path = req.uri().path();
        // The level keeps the span, and with it the ids, under every filter.
        let span = tracing::error_span!(
            target: SPAN_TARGET,
            "request",
            request_id = id.as_str(),
            trace_id = trace.as_str(),
            method = method_label(req.method()),
            path = &path[..path.floor_char_boundary(MAX_PATH_LEN)],
            route = route.as_deref(),
        );
        req.extensions_mut().insert(id.clone());
        req.extensions_mut().insert(trace);
        shared.active.add(1);
        let exchange = Self {
            shared: shared.clone(),
            span,
            started: Instant::now(),
            method: req.method().clone(),
            route,
            status: None,
            end: End::Aborted,
        };
        (exchange, id)
    }

    /// Runs a part of the inner service inside the span.
    pub(super) fn run<T>(&mut self, part: impl FnOnce() -> T) -> T {
        self.end = End::Panicked;
        let out = self.span.in_scope(part);
        self.end = End::Aborted;
        out
    }

    /// Notes the answer's status.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// Whether the answer is its head alone, whatever its headers say.
    pub(super) fn bodiless(&self) -> bool {
        let no_body = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
        self.method == Method::HEAD || self.status.is_some_and(|status| no_body.contains(&status))
    }

    /// Ends the exchange.
    pub(super) fn finish(mut self, end: End) {
        self.end = end;
    }

    fn final_status(&self) -> u16 {
        match (self.status, self.end) {
            (Some(status), _) => status.as_u16(),
            // The code that nginx gave to callers that went away.
            (None, End::Aborted) => 499,
            (None, _) => 500,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        let status = self.final_status();
        let route = match &self.route {
            Some(route) => KeyValue::new(label::ROUTE, route.clone()),
            None => KeyValue::new(label::ROUTE, label::OTHER),
        };
        let labels = [
            KeyValue::new(label::METHOD, method_label(&self.method)),
            route,
            KeyValue::new(label::STATUS, i64::from(status)),
        ];
        self.shared.duration.record(elapsed.as_secs_f64(), &labels);
        self.shared.active.add(-1);

        let duration_ms = elapsed.as_secs_f64() * 1_000.0;
        let cut = match self.end {
            End::Aborted => Some("aborted"),
            End::Panicked => Some("panicked"),
            End::Failed => Some("failed"),
            End::Complete => None,
        };
        self.span.in_scope(|| {
            if status >= 500 {
                tracing::warn!(target: "maxscale::access", status, duration_ms, cut, "answered");
            } else {
                tracing::info!(target: "maxscale::access", status, duration_ms, cut, "answered");
            }
        });
    }
}

fn request_id(headers: &HeaderMap) -> Option<RequestId> {
    RequestId::new(headers.get(X_REQUEST_ID)?.to_str().ok()?)
}

fn new_id(random: u128) -> RequestId {
    let uuid = Builder::from_random_bytes(random.to_be_bytes()).into_uuid();
    RequestId::new(&uuid.to_string()).expect("a UUID is short and printable")
}

/// The method, if it is one that HTTP itself knows.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => label::OTHER,
    }
}
