//! What a running service tells: logs, requests, metrics.
//!
//! ```text
//!  events, spans ── init ──────> stderr, as text or one JSON object per line
//!  requests ─────── TraceLayer ─> facts RequestId and TraceContext, a span, one access line,
//!                                 http.server.* metrics, and what they mean for the Slo
//!  recorded spans ─ OtlpConfig ─> an OpenTelemetry collector (feature `otel`)
//!  instruments ──── Metrics ───> /metrics, Prometheus text format or OpenMetrics
//! ```
//!
//! [`init`] alone sets process-wide state, and only a program calls it; meters
//! are passed. Standard output stays the program's own.

mod exposition;
mod log;
mod metrics;
#[cfg(feature = "otel")]
mod otlp;
pub mod slo;
mod trace;

use std::io::{self, Write};
use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkError;
use tracing::Dispatch;
use tracing::dispatcher::SetGlobalDefaultError;
use tracing_subscriber::filter::{Directive, EnvFilter, ParseError};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

use crate::meter::span::{self, Sampler};

#[cfg(feature = "axum")]
pub use metrics::metrics_route;
pub use metrics::{Exposition, Metrics};
#[cfg(feature = "otel")]
pub use otlp::{OtlpConfig, OtlpConfigError};
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
    #[cfg(feature = "otel")]
    otlp: Option<OtlpConfig>,
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

/// Ends telemetry when dropped, after what was logged is written and what was
/// recorded is sent, for at most [`Guard::FLUSH`].
///
/// Keep it until the end of `main`.
#[derive(Debug)]
#[must_use = "telemetry ends when the guard is dropped"]
pub struct Guard {
    sampler: Sampler,
    #[cfg(feature = "otel")]
    spans: Option<otlp::Spans>,
}

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

    /// The thread that sends spans cannot be started.
    #[error("cannot start the sender of spans")]
    Sender(#[source] io::Error),

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
    let (dispatch, guard) = dispatch(config, io::stderr)?;
    tracing::dispatcher::set_global_default(dispatch).map_err(TelemetryError::AlreadySet)?;
    Ok(guard)
}

fn dispatch<W>(config: TelemetryConfig, writer: W) -> Result<(Dispatch, Guard), TelemetryError>
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
        .add_directive(root_span());
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
    // The log's alone: what is recorded is not chosen by what is logged.
    let lines = Registry::default().with(lines.with_filter(filter));
    #[cfg(feature = "otel")]
    if let Some(otlp) = config.otlp {
        let (layer, spans) = otlp::layer(&otlp).map_err(TelemetryError::Sender)?;
        let guard = Guard {
            sampler: otlp.sampler(),
            spans: Some(spans),
        };
        return Ok((lines.with(layer).into(), guard));
    }
    let guard = Guard {
        sampler: Sampler::NONE,
        #[cfg(feature = "otel")]
        spans: None,
    };
    Ok((lines.into(), guard))
}

fn root_span() -> Directive {
    format!("{}=error", span::TARGET)
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
            #[cfg(feature = "otel")]
            otlp: None,
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

    /// Sends recorded spans to a collector. Default: none are recorded.
    #[cfg(feature = "otel")]
    pub fn otlp(mut self, otlp: OtlpConfig) -> Self {
        self.otlp = Some(otlp);
        self
    }
}

// === impl Guard ===

impl Guard {
    /// How long the last spans may take to be sent.
    pub const FLUSH: Duration = Duration::from_secs(3);

    /// What decides which traces that begin here are recorded: for
    /// [`TraceLayer::sampler`] and workers.
    pub const fn sampler(&self) -> Sampler {
        self.sampler
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        #[cfg(feature = "otel")]
        if let Some(spans) = &self.spans {
            spans.shutdown(Self::FLUSH);
        }
        // Nobody is left to hear that the last lines were lost.
        drop(io::stderr().flush());
    }
}
