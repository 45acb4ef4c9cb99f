//! The instruments of this process, and how a scrape reads them.

use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{
    InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Temporality,
};

use super::{TelemetryError, exposition};
use crate::meter::{Histograms, Meter};

pub use exposition::Exposition;

/// Gives out meters and reads what they measured. Clones share everything.
#[derive(Clone, Debug)]
pub struct Metrics {
    provider: SdkMeterProvider,
    reader: Shared,
    histograms: Histograms,
}

/// The provider owns its reader; this lets a scrape reach it too.
#[derive(Clone, Debug)]
struct Shared(Arc<ManualReader>);

// === impl Metrics ===

impl Metrics {
    /// A registry without instruments.
    pub fn new() -> Self {
        let reader = Shared(Arc::new(ManualReader::builder().build()));
        let provider = SdkMeterProvider::builder()
            // The default resource would read the environment.
            .with_resource(Resource::builder_empty().build())
            .with_reader(reader.clone())
            .build();
        Self {
            provider,
            reader,
            histograms: Histograms::default(),
        }
    }

    /// A meter for the crate or program `name`.
    pub fn meter(&self, name: &'static str) -> Meter {
        Meter::ours(self.provider.meter(name), self.histograms.clone())
    }

    /// Reads all instruments into Prometheus' text format.
    ///
    /// # Errors
    ///
    /// As [`exposition_as`](Self::exposition_as).
    pub fn exposition(&self) -> Result<String, TelemetryError> {
        self.exposition_as(Exposition::Text)
    }

    /// Reads all instruments into `format`.
    ///
    /// # Errors
    ///
    /// Returns [`TelemetryError::Collect`] if an instrument's reader panicked before.
    pub fn exposition_as(&self, format: Exposition) -> Result<String, TelemetryError> {
        let mut collected = ResourceMetrics::default();
        self.reader
            .collect(&mut collected)
            .map_err(TelemetryError::Collect)?;
        Ok(exposition::encode(
            &collected,
            &self.histograms.families(),
            format,
        ))
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Shared ===

impl MetricReader for Shared {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, collected: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(collected)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

/// `GET /metrics`, in the format that the `Accept` header asks for: OpenMetrics
/// with exemplars where it is named, else Prometheus' text format.
#[cfg(feature = "axum")]
pub fn metrics_route(metrics: Metrics) -> axum::Router {
    use axum::extract::{Request, State};
    use axum::http::HeaderValue;
    use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
    use axum::response::{IntoResponse, Response};

    use crate::Chain;
    use crate::refusal::{Class, Refusal};

    async fn scrape(State(metrics): State<Metrics>, request: Request) -> Response {
        let accept = request.headers().get(ACCEPT);
        let accept = accept.and_then(|accept| accept.to_str().ok());
        let format = Exposition::accepted(accept.unwrap_or_default());
        match metrics.exposition_as(format) {
            Ok(text) => {
                let content_type = HeaderValue::from_static(format.content_type());
                let vary = HeaderValue::from_static("accept");
                ([(CONTENT_TYPE, content_type), (VARY, vary)], text).into_response()
            }
            Err(error) => {
                tracing::error!(error = %Chain(&error), "a scrape failed");
                let refusal = Refusal::of(Class::Internal);
                refusal
                    .into_response::<_, axum::body::Body>(&request)
                    .into_response()
            }
        }
    }

    axum::Router::new()
        .route("/metrics", axum::routing::get(scrape))
        .with_state(metrics)
}
