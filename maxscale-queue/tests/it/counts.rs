use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use maxscale_queue::{JobRequest, JobState, Outcome};
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{
    InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Temporality,
};

use crate::stage::{LIMIT, Note, Stage, note};

/// The provider owns its reader; this lets the test read too.
#[derive(Clone, Debug)]
struct Shared(Arc<ManualReader>);

impl MetricReader for Shared {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
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

/// The counters that are not zero, as `name` or `name outcome`.
fn counted(reader: &Shared) -> BTreeMap<String, u64> {
    let mut metrics = ResourceMetrics::default();
    reader.collect(&mut metrics).unwrap();
    let mut counted = BTreeMap::new();
    for metric in metrics.scope_metrics().flat_map(|scope| scope.metrics()) {
        let AggregatedMetrics::U64(MetricData::Sum(sum)) = metric.data() else {
            panic!("{} is no counter", metric.name());
        };
        for point in sum.data_points().filter(|point| point.value() > 0) {
            let labels = point.attributes().map(|label| label.value.to_string());
            let name: Vec<_> = [metric.name().to_owned()]
                .into_iter()
                .chain(labels)
                .collect();
            counted.insert(name.join(" "), point.value());
        }
    }
    counted
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_and_ends_are_counted_by_outcome() {
    let reader = Shared(Arc::new(ManualReader::builder().build()));
    let provider = SdkMeterProvider::builder()
        .with_reader(reader.clone())
        .build();
    let stage = Stage::sqlite().await;
    let run = async |request: JobRequest<Note>| match request.job().text.as_str() {
        "good" => Outcome::Done,
        "bad" if request.attempt() == 1 => Outcome::Retry("not yet".into()),
        _ => Outcome::Dead("no use".into()),
    };
    let worker = stage
        .worker()
        .meter(provider.meter("test").into())
        .register(run);
    let worker = worker.start().unwrap();
    for (text, end) in [
        ("good", JobState::Done),
        ("good", JobState::Done),
        ("bad", JobState::Dead),
    ] {
        let id = stage.enqueue(&note(text)).await;
        stage.reaches(id, end).await;
    }
    worker.shutdown(LIMIT).await;

    let expected = [
        ("maxscale.queue.claimed", 4),
        ("maxscale.queue.ended dead", 1),
        ("maxscale.queue.ended done", 2),
        ("maxscale.queue.ended retried", 1),
    ];
    let expected = expected.map(|(name, count)| (name.to_owned(), count));
    assert_eq!(counted(&reader), BTreeMap::from(expected));
}
