//! Spans to a collector, by OTLP over HTTP (protobuf).
//!
//! ```text
//!  spans ── filter ── tracing-opentelemetry ── batches ── encode ── post ──> collector
//!           Recorded                           (a thread)           (a thread of its own)
//! ```
//!
//! What is recorded waits in memory, at most [`OtlpConfig::QUEUE`] spans; more are
//! dropped, and so is a batch that the collector does not take in time. The
//! service never waits for it.

mod config;
mod filter;
mod post;

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter,
    SpanLimits,
};
use prost::Message as _;
use tracing::Subscriber;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::Chain;

pub use config::{OtlpConfig, OtlpConfigError};
use filter::Recorded;
use post::Post;

/// What is called the instrumentation in each span.
const SCOPE: &str = "maxscale";

/// Ends what is exported.
#[derive(Debug)]
pub(super) struct Spans(SdkTracerProvider);

/// Encodes batches and has them posted.
#[derive(Debug)]
struct Exporter {
    resource: ResourceAttributesWithSchema,
    post: Post,
}

/// The layer that records spans, and what ends it.
pub(super) fn layer<S>(config: &OtlpConfig) -> std::io::Result<(impl Layer<S> + Send + Sync, Spans)>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let exporter = Exporter {
        resource: ResourceAttributesWithSchema::default(),
        post: Post::start(config)?,
    };
    // Every limit is set, because the defaults would be read from the environment.
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(OtlpConfig::QUEUE)
        .with_max_export_batch_size(OtlpConfig::BATCH)
        .with_scheduled_delay(config.interval)
        .build();
    let processor = BatchSpanProcessor::builder(exporter)
        .with_batch_config(batches)
        .build();
    let resource = Resource::builder_empty()
        .with_attributes(config.resource())
        .build();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_resource(resource)
        // The layer decided before the span was made.
        .with_sampler(Sampler::AlwaysOn)
        .with_span_limits(SpanLimits::default())
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(SCOPE))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(Recorded);
    Ok((layer, Spans(provider)))
}

// === impl Spans ===

impl Spans {
    /// Sends what waits, for at most `limit`.
    pub(super) fn shutdown(&self, limit: Duration) {
        if let Err(error) = self.0.shutdown_with_timeout(limit) {
            tracing::warn!(error = %Chain(&error), "the last spans may be lost");
        }
    }
}

// === impl Exporter ===

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let request = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(batch, &self.resource),
        };
        let posted = self.post.post(request.encode_to_vec().into()).await;
        posted.map_err(|error| OTelSdkError::InternalFailure(error.to_string()))
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }
}

#[cfg(test)]
mod tests;
