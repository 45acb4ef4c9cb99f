use std::time::Duration;

use crate::fact::TraceContext;
use crate::meter::{HotCounter, HotHistogram, HotLevel, Metric, gauge};
use crate::telemetry::{Exposition, Metrics};

fn page(metrics: &Metrics) -> String {
    metrics.exposition().unwrap()
}

#[test]
fn golden_page_of_each_kind() {
    let metrics = Metrics::new();
    let meter = metrics.meter("golden");
    const HITS: Metric = Metric::new("cache.hits", "{hit}", "Reads that found a value.");
    HotCounter::register(&meter, HITS, &[("tier", "l2")]).add(2);
    HotCounter::register(&meter, HITS, &[("tier", "l1")]).add(40);
    HotLevel::register(
        &meter,
        Metric::new("jobs.running", "{job}", "Jobs now."),
        &[],
    )
    .add(-3);
    let bytes = Metric::new("pool.memory", "By", "A \\ and\na new line.");
    gauge(&meter, bytes, &[("pool", "a\"b\\c\nd")], || Some(1536.5));
    gauge(&meter, Metric::new("silent", "s", "Left out."), &[], || {
        None
    });
    let duration = meter
        .otel()
        .f64_histogram("query.duration")
        .with_unit("s")
        .with_description("Time of queries.")
        .with_boundaries(vec![0.05, 0.5, 1.0])
        .build();
    for seconds in [0.01, 0.05, 0.25, 7.0] {
        duration.record(seconds, &[opentelemetry::KeyValue::new("db.node", "n1")]);
    }
    duration.record(0.5, &[]);

    const STEPS: Metric = Metric::new("step.duration", "s", "Time of steps.");
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let trace = TraceContext::parse(trace).unwrap();
    let steps = HotHistogram::register(&meter, STEPS, &[0.05, 1.0], &[("step", "a")]);
    // The same one again.
    HotHistogram::register(&meter, STEPS, &[7.0], &[("step", "a")])
        .record(Duration::from_millis(50));
    steps.record_in(Duration::from_millis(250), &trace);
    steps.record(Duration::from_millis(1_000));
    steps.record(Duration::from_secs(2));

    assert_eq!(page(&metrics), include_str!("golden.txt"));
    let open = metrics.exposition_as(Exposition::OpenMetrics).unwrap();
    let (before, after) = open.split_once(" # {").unwrap();
    let (exemplar, after) = after.split_once('\n').unwrap();
    assert_eq!(
        format!("{before}\n{after}"),
        include_str!("golden_open.txt")
    );
    let labels = "trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\",span_id=\"00f067aa0ba902b7\"}";
    let value = exemplar.strip_prefix(labels).unwrap();
    assert!(value.starts_with(" 0.25 1"), "{exemplar}");
}

#[test]
fn units_and_total_are_never_doubled_and_levels_do_not_end_like_histograms() {
    let metrics = Metrics::new();
    let meter = metrics.meter("names");
    for (name, unit) in [
        ("sent_total", ""),
        ("busy.seconds", "s"),
        ("read", "By"),
        ("hits", "1"),
    ] {
        HotCounter::register(&meter, Metric::new(name, unit, ""), &[]);
    }
    gauge(&meter, Metric::new("fill", "1", ""), &[], || Some(0.5));
    let held = Metric::new("pool.connection.count", "{connection}", "");
    HotLevel::register(&meter, held, &[]);
    let page = page(&metrics);
    let names: Vec<_> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once(' ').unwrap().0)
        .collect();
    assert_eq!(
        names,
        [
            "busy_seconds_total",
            "fill_ratio",
            "hits_total",
            "pool_connections",
            "read_bytes_total",
            "sent_total"
        ]
    );
}

#[test]
fn family_of_two_scopes_is_declared_once_and_no_series_comes_twice() {
    let metrics = Metrics::new();
    let jobs = Metric::new("jobs", "", "Jobs.");
    HotCounter::register(&metrics.meter("a"), jobs, &[("kind", "x")]).add(1);
    HotCounter::register(&metrics.meter("b"), jobs, &[("kind", "x")]).add(2);
    HotCounter::register(&metrics.meter("b"), jobs, &[("kind", "y")]).add(3);
    gauge(
        &metrics.meter("c"),
        Metric::new("jobs.total", "", ""),
        &[],
        || Some(4.0),
    );

    assert_eq!(
        page(&metrics),
        "# HELP jobs_total Jobs.\n\
         # TYPE jobs_total counter\n\
         jobs_total{kind=\"x\"} 1\n\
         jobs_total{kind=\"y\"} 3\n"
    );
}

#[test]
fn format_is_the_one_that_is_asked_for() {
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
                      application/openmetrics-text;version=0.0.1;q=0.4,\
                      text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let browser = "text/html,application/xhtml+xml,*/*;q=0.8";
    for (accept, format) in [
        (prometheus, Exposition::OpenMetrics),
        (browser, Exposition::Text),
        ("", Exposition::Text),
        ("text/plain", Exposition::Text),
        ("application/openmetrics-text; q=0", Exposition::Text),
        (
            "application/openmetrics-text;q=0.1, text/plain",
            Exposition::Text,
        ),
        ("application/openmetrics-text;q=x", Exposition::Text),
    ] {
        assert_eq!(Exposition::accepted(accept), format, "{accept}");
    }
}

#[test]
fn histogram_of_a_foreign_meter_is_recorded_there() {
    let metrics = Metrics::new();
    let foreign = metrics.meter("foreign").otel().clone().into();
    const STEPS: Metric = Metric::new("step.duration", "s", "Time of steps.");
    let steps = HotHistogram::register(&foreign, STEPS, &[0.05, 1.0], &[("step", "a")]);
    steps.record(Duration::from_millis(250));
    let line = "step_duration_seconds_bucket{step=\"a\",le=\"1\"} 1\n";
    assert!(page(&metrics).contains(line), "{}", page(&metrics));
}
