//! Counting, and the time that telemetry adds to a request.

use maxscale_core::BoxError;
use maxscale_core::meter::{HotCounter, Metric};
use maxscale_core::telemetry::Metrics;
use maxscale_measure::{Bar, Op, Plan, Report};
use opentelemetry::KeyValue;

use crate::peer;

const HITS: Metric = Metric::new("bench.hits", "{hit}", "Hits.");

pub(crate) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    counter_vs_otel(plan, report).await?;
    peer::rust(plan, report, "telemetry", &["telemetry.layer_vs_peers"]).await
}

/// One addition with two labels; OpenTelemetry's looks them up each time.
async fn counter_vs_otel(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let name = "telemetry.counter_vs_otel";
    let metrics = Metrics::new();
    let labels = [("tier", "l1"), ("outcome", "hit")];
    let ours = HotCounter::register(&metrics.meter("ours"), HITS, &labels);
    let theirs = metrics.meter("theirs");
    let theirs = theirs.otel().u64_counter("bench.otel.hits").build();
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let (ours, theirs) = (ours.clone(), theirs.clone());
        let count_ours = |count| {
            let ours = ours.clone();
            async move {
                (0..count).for_each(|_| std::hint::black_box(&ours).add(1));
                Ok::<_, BoxError>(())
            }
        };
        let count_theirs = |count| {
            let theirs = theirs.clone();
            async move {
                let labels = labels.map(|(key, value)| KeyValue::new(key, value));
                (0..count).for_each(|_| theirs.add(1, std::hint::black_box(&labels)));
                Ok(())
            }
        };
        rounds.round(count_ours, count_theirs).await?;
    }
    let cost = rounds.cost();
    report.note(&format!("{name}: {cost}"));
    report.bar(Bar {
        name,
        measured: cost.value,
        op: Op::AtMost,
        target: 0.5,
    });
    Ok(())
}
