use crate::meter::{HotCounter, HotLevel, Metric, gauge};
use crate::telemetry::Metrics;

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
        .f64_histogram("query.duration")
        .with_unit("s")
        .with_description("Time of queries.")
        .with_boundaries(vec![0.05, 0.5, 1.0])
        .build();
    for seconds in [0.01, 0.05, 0.25, 7.0] {
        duration.record(seconds, &[opentelemetry::KeyValue::new("db.node", "n1")]);
    }
    duration.record(0.5, &[]);

    assert_eq!(page(&metrics), include_str!("golden.txt"));
}

#[test]
fn units_and_total_are_never_doubled() {
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
