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

use maxscale_tests::eventually;

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
        let sum = match metric.data() {
            AggregatedMetrics::U64(MetricData::Sum(sum)) => sum,
            AggregatedMetrics::F64(_) => continue,
            _ => panic!("{} is no counter", metric.name()),
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

/// The gauges, and how often the histograms were told something, as `name labels`.
fn measured(reader: &Shared) -> BTreeMap<String, f64> {
    let mut metrics = ResourceMetrics::default();
    reader.collect(&mut metrics).unwrap();
    let mut measured = BTreeMap::new();
    for metric in metrics.scope_metrics().flat_map(|scope| scope.metrics()) {
        let AggregatedMetrics::F64(data) = metric.data() else {
            continue;
        };
        let mut put = |labels: Vec<String>, value| {
            let mut labels = labels;
            labels.sort();
            labels.insert(0, metric.name().to_owned());
            measured.insert(labels.join(" "), value);
        };
        match data {
            MetricData::Gauge(gauge) => gauge.data_points().for_each(|point| {
                let labels = point.attributes().map(|label| label.value.to_string());
                put(labels.collect(), point.value());
            }),
            MetricData::Histogram(histogram) => histogram.data_points().for_each(|point| {
                let labels = point.attributes().map(|label| label.value.to_string());
                let count = u32::try_from(point.count()).unwrap();
                put(labels.collect(), count.into());
            }),
            _ => {}
        }
    }
    measured
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_and_how_long_is_told() {
    let reader = Shared(Arc::new(ManualReader::builder().build()));
    let provider = SdkMeterProvider::builder()
        .with_reader(reader.clone())
        .build();
    let stage = Stage::sqlite().await;
    for _ in 0..4 {
        stage.enqueue(&note("x")).await;
    }
    // Its only slot is taken by the first.
    let run = async |_: JobRequest<Note>| std::future::pending().await;
    let worker = stage.worker().concurrency(1).register(run);
    let _worker = worker.meter(provider.meter("test").into()).start().unwrap();
    let told = eventually(LIMIT, async || {
        let told = measured(&reader);
        let depths = told.iter().filter(|(name, _)| name.contains("depth"));
        (depths.count() == 2).then_some(told)
    })
    .await;
    let depth = |node: &str| told[&format!("maxscale.queue.depth default {node}")];
    let depths = depth("node-1") + depth("node-2");
    assert!((3.0..=4.0).contains(&depths), "{told:?}");
    let oldest = |name: &str| told[&format!("maxscale.queue.age default {name}")];
    assert!(oldest("node-1").max(oldest("node-2")) > 0.0, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_waits_and_runs_are_measured() {
    let reader = Shared(Arc::new(ManualReader::builder().build()));
    let provider = SdkMeterProvider::builder()
        .with_reader(reader.clone())
        .build();
    let stage = Stage::sqlite().await;
    let run = async |_: JobRequest<Note>| Outcome::Done;
    let worker = stage.worker().meter(provider.meter("test").into());
    let worker = worker.register(run).start().unwrap();
    for _ in 0..3 {
        let id = stage.enqueue(&note("x")).await;
        stage.reaches(id, JobState::Done).await;
    }
    worker.shutdown(LIMIT).await;
    let told = measured(&reader);
    assert_eq!(told["maxscale.queue.run.duration test.note"], 3.0);
    assert_eq!(told["maxscale.queue.wait"], 3.0);
    assert_eq!(told["maxscale.queue.claim.duration"], 3.0);
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
