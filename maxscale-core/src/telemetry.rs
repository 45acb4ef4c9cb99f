//! What a running service tells: logs, requests, metrics.
//!
//! ```text
//!  events, spans ── init ──────> stderr, as text or one JSON object per line
//!  requests ─────── TraceLayer ─> facts RequestId and TraceId, a span, one access line,
//!                                 http.server.* metrics
//!  instruments ──── Metrics ───> /metrics, Prometheus text format
//! ```
//!
//! [`init`] alone sets process-wide state, and only a program calls it; meters
//! are passed. Standard output stays the program's own.

mod exposition;
mod log;
mod metrics;
mod trace;
mod traceparent;

use std::io::{self, Write};

use opentelemetry_sdk::error::OTelSdkError;
use tracing::Dispatch;
use tracing::dispatcher::SetGlobalDefaultError;
use tracing_subscriber::filter::{Directive, EnvFilter, ParseError};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

pub use metrics::Metrics;
#[cfg(feature = "axum")]
pub use metrics::metrics_route;
#[cfg(feature = "axum")]
pub use trace::matched_path;
pub use trace::{Trace, TraceBody, TraceFuture, TraceLayer};

/// How a program logs.
#[derive(Clone, Debug)]
#[must_use]
pub struct TelemetryConfig {
    filter: String,
    format: Format,
    color: bool,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One flat JSON object: `timestamp`, `level`, `target`, `message`, then the
    /// event's fields and those of the spans around it, the inner ones winning.
    Json,
}

/// Ends telemetry when dropped, after what was logged is written.
///
/// Keep it until the end of `main`.
#[derive(Debug)]
#[must_use = "telemetry ends when the guard is dropped"]
pub struct Guard(());

/// Telemetry cannot start, or metrics cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The filter is not a list of `target=level`.
    #[error("log filter {filter:?} is not valid")]
    Filter {
        /// The filter that was given.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },

    /// [`init`] was called twice, or another subscriber is set.
    #[error("this process logs elsewhere already")]
    AlreadySet(#[source] SetGlobalDefaultError),

    /// The instruments could not be read.
    #[error("cannot collect metrics")]
    Collect(#[source] OTelSdkError),
}

/// Starts logging to standard error for the whole process.
///
/// # Errors
///
/// Returns [`TelemetryError::Filter`] for a filter that does not parse and
/// [`TelemetryError::AlreadySet`] if the process logs already.
pub fn init(config: TelemetryConfig) -> Result<Guard, TelemetryError> {
    let dispatch = dispatch(config, io::stderr)?;
    tracing::dispatcher::set_global_default(dispatch).map_err(TelemetryError::AlreadySet)?;
    Ok(Guard(()))
}

fn dispatch<W>(config: TelemetryConfig, writer: W) -> Result<Dispatch, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder()
        .parse(&config.filter)
        .map_err(|source| TelemetryError::Filter {
            filter: config.filter,
            source,
        })?
        // Without its span a line could not name its request, whatever else is filtered.
        .add_directive(request_span());
    // A reader of stderr that is gone must not take the service with it.
    let lines = fmt::layer()
        .with_writer(writer)
        .with_ansi(config.color)
        .log_internal_errors(false);
    let lines: Box<dyn Layer<_> + Send + Sync> = match config.format {
        Format::Text => lines.boxed(),
        Format::Json => lines
            .fmt_fields(log::JsonFields)
            .event_format(log::JsonLine)
            .boxed(),
    };
    Ok(Registry::default().with(lines).with(filter).into())
}

fn request_span() -> Directive {
    format!("{}=error", trace::SPAN_TARGET)
        .parse()
        .expect("a constant directive parses")
}

// === impl TelemetryConfig ===

impl TelemetryConfig {
    /// Logs what `filter` lets through, as `RUST_LOG` is written: `info,sqlx=warn`.
    pub fn new(filter: impl Into<String>) -> Self {
        Self {
            filter: filter.into(),
            format: Format::default(),
            color: false,
        }
    }

    /// Sets the shape of a line. Default: [`Format::Text`].
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Colors text for a terminal. Default: no.
    pub fn color(mut self, color: bool) -> Self {
        self.color = color;
        self
    }
}

// === impl Guard ===

impl Drop for Guard {
    fn drop(&mut self) {
        // Nobody is left to hear that the last lines were lost.
        drop(io::stderr().flush());
    }
}
