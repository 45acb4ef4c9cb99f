//! One request, from its head to the last frame of its answer.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, StatusCode};
use tokio::time::Instant;
use uuid::Builder;

use super::Shared;
use super::durations::{GrpcStatus, method_label};
use crate::fact::{RequestId, TraceContext};
use crate::meter::span::{self, Origin, RequestSpan, Root};
use crate::refusal;

/// Where the id of a request is taken from and told.
pub(super) const X_REQUEST_ID: &str = "x-request-id";

/// The rest of a longer path is not logged.
const MAX_PATH_LEN: usize = 256;

/// Recorded exactly once: when it is dropped.
#[derive(Debug)]
pub(super) struct Exchange {
    shared: Arc<Shared>,
    root: Root,
    started: Instant,
    method: Method,
    route: Option<Arc<str>>,
    status: Option<StatusCode>,
    /// Until the head of an answer that has no end of its own.
    head: Option<Duration>,
    rpc: Option<Rpc>,
    end: End,
}

/// What is different if the request is a gRPC call.
#[derive(Debug)]
struct Rpc {
    path: Box<str>,
    status: Option<GrpcStatus>,
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
        // One draw for both: it is a call of the system, and neither id is a secret.
        let random = (shared.random)();
        let id = request_id(req.headers()).unwrap_or_else(|| new_id(random));
        let origin = shared.origin(req.headers(), req.extensions(), random);
        let route: Option<Arc<str>> = (shared.route)(req.extensions()).map(Arc::from);
        let path = req.uri().path();
        let path = &path[..path.floor_char_boundary(MAX_PATH_LEN)];
        let rpc = is_grpc(req.headers()).then(|| Rpc {
            path: path.into(),
            status: None,
        });
        let described = RequestSpan {
            request_id: id.as_str(),
            method: method_label(req.method()),
            path,
            route: route.as_deref(),
        };
        let root = span::request(described, &origin);
        req.extensions_mut().insert(id.clone());
        req.extensions_mut().insert(root.context().clone());
        shared.active.add(1);
        let exchange = Self {
            shared: shared.clone(),
            root,
            started: Instant::now(),
            method: req.method().clone(),
            route,
            status: None,
            head: None,
            rpc,
            end: End::Aborted,
        };
        (exchange, id)
    }

    /// Runs a part of the inner service inside the span.
    pub(super) fn run<T>(&mut self, part: impl FnOnce() -> T) -> T {
        self.end = End::Panicked;
        let out = self.root.run(part);
        self.end = End::Aborted;
        out
    }

    /// Notes the answer's head.
    pub(super) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = Some(status);
        // Any caller may say that it calls; a server of gRPC answers alike.
        self.rpc = self.rpc.take().filter(|_| is_grpc(headers));
        self.trailers(headers);
        if is_stream(headers) {
            self.head = Some(self.started.elapsed());
        }
    }

    /// Notes the answer's trailers, or a head that is both.
    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        if let (Some(rpc), Some(status)) = (&mut self.rpc, trailers.get("grpc-status")) {
            rpc.status = Some(GrpcStatus::parse(status.as_bytes()));
        }
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

    /// Records the duration; gives what to call a failure.
    fn record(&self, status: u16) -> Option<&'static str> {
        let took = self.head.unwrap_or_else(|| self.started.elapsed());
        let durations = &self.shared.durations;
        let (histogram, failure) = match &self.rpc {
            Some(rpc) => {
                let gone = match self.end {
                    End::Aborted => GrpcStatus::CANCELLED,
                    _ => GrpcStatus::UNKNOWN,
                };
                let status = rpc.status.unwrap_or(gone);
                if status.is_served() {
                    // A made-up name is kept as what it is, a path.
                    let method = rpc.path.trim_start_matches('/').to_owned();
                    self.root.rename(method.clone());
                    self.root.set("rpc.method", method);
                }
                self.root.set("rpc.system.name", "grpc");
                self.root.set("rpc.response.status_code", status.name());
                let failure = status.is_failure().then(|| status.name());
                (durations.rpc(&rpc.path, status), failure)
            }
            None => {
                let method = method_label(&self.method);
                let failure = (status >= 500).then_some("5xx");
                (
                    durations.http(method, self.route.as_deref(), status),
                    failure,
                )
            }
        };
        histogram.record_in(took, self.root.context());
        let gone = self.status.is_none() && self.end == End::Aborted;
        if let Some(slo) = self.shared.slo.as_ref().filter(|_| !gone) {
            slo.observe(failure.is_some(), took);
        }
        failure
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let status = self.final_status();
        let failure = self.record(status);
        self.shared.active.add(-1);

        let cut = match self.end {
            End::Aborted => Some("aborted"),
            End::Panicked => Some("panicked"),
            End::Failed => Some("failed"),
            End::Complete => None,
        };
        self.root
            .set("http.response.status_code", i64::from(status));
        if let Some(error) = cut.filter(|_| self.end != End::Aborted).or(failure) {
            self.root.fail(error);
        }
        let duration_ms = self.started.elapsed().as_secs_f64() * 1_000.0;
        self.root.run(|| {
            if status >= 500 {
                tracing::warn!(target: "maxscale::access", status, duration_ms, cut, "answered");
            } else {
                tracing::info!(target: "maxscale::access", status, duration_ms, cut, "answered");
            }
        });
    }
}

// === impl Shared ===

impl Shared {
    /// A caller that is trusted goes on with its own trace; one that is not begins
    /// a new one, from which a link leads to what it said.
    fn origin(&self, headers: &HeaderMap, extensions: &http::Extensions, random: u128) -> Origin {
        match TraceContext::read(headers) {
            Some(parent) if (self.trust)(extensions) => Origin::within(parent, random),
            Some(other) => Origin::new(self.sampler, random).linked(other),
            None => Origin::new(self.sampler, random),
        }
    }
}

fn request_id(headers: &HeaderMap) -> Option<RequestId> {
    RequestId::new(headers.get(X_REQUEST_ID)?.to_str().ok()?)
}

fn new_id(random: u128) -> RequestId {
    let uuid = Builder::from_random_bytes(random.to_be_bytes()).into_uuid();
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let text = uuid.hyphenated().encode_lower(&mut text);
    RequestId::new(text).expect("a UUID is short and printable")
}

/// Whether events are sent for as long as somebody listens, which is not the time that
/// anybody waits.
fn is_stream(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"))
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE);
    content_type.is_some_and(|value| value.to_str().is_ok_and(refusal::is_grpc))
}
