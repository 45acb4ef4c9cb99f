//! Spans around work that begins here, named once so that every crate names them
//! alike, and what connects them with the traces of others.
//!
//! Whether a trace is recorded is decided when its first piece of work begins: by
//! whoever sent it, else by a [`Sampler`]. What is not recorded costs a span for
//! the log and no more. Spans inside ([`database`], [`redis`] and any other of
//! `tracing`) are recorded with the work around them.
//!
//! Names and attributes are those of OpenTelemetry's semantic conventions 1.37.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use opentelemetry::trace::TraceContextExt as _;
use opentelemetry::{Context as Otel, KeyValue, Value};
use pin_project_lite::pin_project;
use tracing::{Span, field};

use crate::fact::{TraceContext, TraceId};

/// The target of spans of work that begins here; a log shows them at every level,
/// because its lines are told apart by them.
pub const TARGET: &str = "maxscale::root";
/// The target of those that are recorded.
pub(crate) const SAMPLED: &str = "maxscale::root::sampled";
/// The target of those that are not.
const UNSAMPLED: &str = "maxscale::root::unsampled";

/// Which traces that begin here are recorded. By default none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sampler {
    share: f64,
}

/// How a piece of work came here.
#[derive(Clone, Debug)]
pub struct Origin {
    parent: Option<TraceContext>,
    link: Option<TraceContext>,
    sampled: bool,
    random: u128,
}

/// A request or a job, from its beginning to its end. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Root {
    span: Span,
    context: TraceContext,
    /// What is not recorded is told to others all the same.
    unsampled: Option<Otel>,
}

pin_project! {
    /// A future inside a [`Root`].
    #[derive(Debug)]
    pub struct Rooted<F> {
        #[pin]
        inner: F,
        root: Root,
    }
}

/// What a request is, for its span.
#[derive(Clone, Copy, Debug)]
pub struct RequestSpan<'a> {
    /// Its id.
    pub request_id: &'a str,
    /// Its method, of a closed set.
    pub method: &'static str,
    /// Its path, without the query.
    pub path: &'a str,
    /// The route that it matched.
    pub route: Option<&'a str>,
}

/// What a run of a job is, for its span.
#[derive(Clone, Copy)]
pub struct JobSpan<'a> {
    /// The job's kind.
    pub kind: &'a str,
    /// The queue that it waits in.
    pub queue: &'a str,
    /// The job's name.
    pub job: &'a dyn fmt::Display,
    /// Which attempt it is, from 1.
    pub attempt: u32,
}

/// Begins the span of a request (OpenTelemetry's HTTP server span).
pub fn request(request: RequestSpan<'_>, origin: &Origin) -> Root {
    let RequestSpan {
        request_id,
        method,
        path,
        route,
    } = request;
    origin.begin(
        || {
            let name = match route {
                Some(route) => format!("{method} {route}"),
                None => method.to_owned(),
            };
            tracing::error_span!(
                target: SAMPLED,
                "request",
                otel.kind = "server",
                otel.name = name,
                request_id,
                trace_id = field::Empty,
                span_id = field::Empty,
                http.request.method = method,
                url.path = path,
                http.route = route,
            )
        },
        |trace| {
            // The level keeps the span, and with it the ids, under every filter.
            tracing::error_span!(
                target: UNSAMPLED,
                "request",
                request_id,
                trace_id = %trace.trace_id(),
                span_id = %trace.span_id(),
                http.request.method = method,
                url.path = path,
                http.route = route,
            )
        },
    )
}

/// Begins the span of a run of a job (OpenTelemetry's messaging consumer span).
pub fn job(job: JobSpan<'_>, origin: &Origin) -> Root {
    let JobSpan {
        kind,
        queue,
        job,
        attempt,
    } = job;
    let root = origin.begin(
        || {
            tracing::error_span!(
                target: SAMPLED,
                "job",
                otel.kind = "consumer",
                otel.name = format!("process {queue}"),
                messaging.system = "maxscale",
                messaging.operation.type = "process",
                messaging.operation.name = "process",
                messaging.destination.name = queue,
                messaging.message.id = %job,
                kind,
                attempt,
                trace_id = field::Empty,
                span_id = field::Empty,
            )
        },
        |trace| {
            tracing::error_span!(
                target: UNSAMPLED,
                "job",
                messaging.destination.name = queue,
                messaging.message.id = %job,
                kind,
                attempt,
                trace_id = %trace.trace_id(),
                span_id = %trace.span_id(),
            )
        },
    );
    root.set("messaging.system", "maxscale");
    root.set("messaging.operation.type", "process");
    root.set("messaging.operation.name", "process");
    root.set("messaging.destination.name", queue.to_owned());
    root.set("messaging.message.id", job.to_string());
    root
}

/// The span of handing a job over (OpenTelemetry's messaging producer span).
pub fn enqueue(queue: &str, kind: &str) -> Span {
    tracing::debug_span!(
        target: "maxscale::queue",
        "enqueue",
        otel.kind = "producer",
        otel.name = format!("send {queue}"),
        messaging.system = "maxscale",
        messaging.operation.type = "send",
        messaging.operation.name = "send",
        messaging.destination.name = queue,
        kind,
    )
}

/// The span of one call of a database: `operation` on `node`, `system` as
/// OpenTelemetry calls it. Where it fails, record `error.type`.
pub fn database(system: &'static str, node: &str, operation: &'static str) -> Span {
    tracing::debug_span!(
        target: "maxscale::sql",
        "sql",
        otel.kind = "client",
        otel.name = operation,
        db.system.name = system,
        db.operation.name = operation,
        maxscale.node = node,
        error.type = field::Empty,
        otel.status_code = field::Empty,
    )
}

/// The span of one call of Redis. Where it fails, record `error.type`.
pub fn redis(operation: &str) -> Span {
    tracing::debug_span!(
        target: "maxscale::redis",
        "redis",
        otel.kind = "client",
        otel.name = operation,
        db.system.name = "redis",
        db.operation.name = operation,
        error.type = field::Empty,
        otel.status_code = field::Empty,
    )
}

/// Takes note in its span that a call failed, with an error of a closed set.
pub fn failed(span: &Span, error: &'static str) {
    span.record("error.type", error);
    span.record("otel.status_code", "ERROR");
}

// === impl JobSpan ===

impl fmt::Debug for JobSpan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobSpan")
            .field("kind", &self.kind)
            .field("queue", &self.queue)
            .field("job", &format_args!("{}", self.job))
            .field("attempt", &self.attempt)
            .finish()
    }
}

// === impl Sampler ===

impl Sampler {
    /// Records no trace that begins here.
    pub const NONE: Self = Self { share: 0.0 };

    /// Records this share of the traces that begin here, from 0 for none to 1 for
    /// all. Anything else counts as the nearer of the two.
    pub const fn share(share: f64) -> Self {
        Self { share }
    }

    #[expect(clippy::cast_precision_loss, reason = "a draw, of which 53 bits do")]
    pub(crate) fn takes(self, draw: u64) -> bool {
        self.share > 0.0 && (draw >> 11) as f64 <= self.share * (1_u64 << 53) as f64
    }
}

// === impl Origin ===

impl Origin {
    /// A new trace; `random` is drawn for its ids.
    pub fn new(sampler: Sampler, random: u128) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "half of the bits")]
        let draw = random as u64;
        Self {
            parent: None,
            link: None,
            sampled: sampler.takes(draw),
            random,
        }
    }

    /// Part of the trace of `parent`, and recorded if that is.
    pub const fn within(parent: TraceContext, random: u128) -> Self {
        Self {
            sampled: parent.is_sampled(),
            parent: Some(parent),
            link: None,
            random,
        }
    }

    /// With a link to `other`, which it was caused by and is no part of.
    #[must_use]
    pub fn linked(mut self, other: TraceContext) -> Self {
        self.link = Some(other);
        self
    }

    /// Recorded, whatever the sampler says.
    #[must_use]
    pub const fn sampled(mut self) -> Self {
        self.sampled = true;
        self
    }

    fn begin(
        &self,
        recorded: impl FnOnce() -> Span,
        plain: impl FnOnce(&TraceContext) -> Span,
    ) -> Root {
        if self.sampled
            && let Some(root) = self.recorded(recorded())
        {
            return root;
        }
        let trace = (self.parent.as_ref()).map(TraceContext::trace_id);
        let trace = trace.or_else(|| TraceId::from_number(self.random | 1));
        let trace = trace.expect("a number with a bit set is not zero");
        #[expect(clippy::cast_possible_truncation, reason = "half of the bits")]
        let span = ((self.random >> 64) as u64 ^ self.random as u64) | 1;
        let context = TraceContext::new(trace, span, false);
        let mut context = context.expect("a number with a bit set is not zero");
        if let Some(state) = (self.parent.as_ref()).and_then(TraceContext::tracestate) {
            context = context.state(state);
        }
        let remote = Otel::new().with_remote_span_context(context.to_otel(false));
        Root {
            span: plain(&context),
            unsampled: Some(remote),
            context,
        }
    }

    /// The span with its place in the trace; none if nobody records.
    #[cfg(feature = "otel")]
    fn recorded(&self, span: Span) -> Option<Root> {
        use tracing_opentelemetry::OpenTelemetrySpanExt as _;

        if let Some(parent) = &self.parent {
            let parent = Otel::new().with_remote_span_context(parent.to_otel(true));
            span.set_parent(parent).ok()?;
        }
        if let Some(link) = &self.link {
            span.add_link(link.to_otel(true));
        }
        let context = {
            let started = span.context();
            TraceContext::of(started.span().span_context())?
        };
        span.record("trace_id", field::display(context.trace_id()));
        span.record("span_id", field::display(context.span_id()));
        context.is_sampled().then_some(Root {
            span,
            context,
            unsampled: None,
        })
    }

    #[cfg(not(feature = "otel"))]
    fn recorded(&self, span: Span) -> Option<Root> {
        drop((span, &self.link));
        None
    }
}

// === impl Root ===

impl Root {
    /// Its place in its trace: the parent of whatever it causes elsewhere.
    pub const fn context(&self) -> &TraceContext {
        &self.context
    }

    /// Its span.
    pub const fn span(&self) -> &Span {
        &self.span
    }

    /// Runs a part of the work inside.
    pub fn run<T>(&self, part: impl FnOnce() -> T) -> T {
        let _context = self.unsampled.clone().map(Otel::attach);
        self.span.in_scope(part)
    }

    /// Runs all of `work` inside.
    pub fn around<F: Future>(self, work: F) -> Rooted<F> {
        Rooted {
            inner: work,
            root: self,
        }
    }

    /// Records an attribute of OpenTelemetry's that no log shows.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        if self.context.is_sampled() {
            self.attribute(KeyValue::new(key, value));
        }
    }

    /// Gives it the name under which OpenTelemetry shows it, once that is known.
    pub fn rename(&self, name: impl Into<Cow<'static, str>>) {
        if self.context.is_sampled() {
            self.called(name.into());
        }
    }

    /// Takes note that the work failed, with an error of a closed set.
    pub fn fail(&self, error: impl Into<Value>) {
        if self.context.is_sampled() {
            self.attribute(KeyValue::new("error.type", error));
            self.error();
        }
    }

    #[cfg(feature = "otel")]
    fn attribute(&self, attribute: KeyValue) {
        use tracing_opentelemetry::OpenTelemetrySpanExt as _;
        self.span.set_attribute(attribute.key, attribute.value);
    }

    #[cfg(feature = "otel")]
    fn called(&self, name: Cow<'static, str>) {
        use tracing_opentelemetry::OpenTelemetrySpanExt as _;
        self.span.context().span().update_name(name);
    }

    #[cfg(feature = "otel")]
    fn error(&self) {
        use tracing_opentelemetry::OpenTelemetrySpanExt as _;
        self.span
            .set_status(opentelemetry::trace::Status::error(""));
    }

    #[cfg(not(feature = "otel"))]
    fn attribute(&self, _attribute: KeyValue) {}

    #[cfg(not(feature = "otel"))]
    fn called(&self, _name: Cow<'static, str>) {}

    #[cfg(not(feature = "otel"))]
    fn error(&self) {}
}

// === impl Rooted ===

impl<F: Future> Future for Rooted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.root.run(|| this.inner.poll(cx))
    }
}
