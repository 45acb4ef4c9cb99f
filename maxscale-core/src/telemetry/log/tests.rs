use std::io;
use std::sync::{Arc, LazyLock, Mutex};

use tracing_subscriber::fmt::MakeWriter;

use super::Value;
use crate::meter::span;
use crate::telemetry::{Format, Guard, TelemetryConfig, TelemetryError, dispatch, init};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

/// Logs of the whole process, silent.
///
/// With a single dispatcher around, `tracing` asks the one of whichever thread
/// meets a callsite first, so that another test could turn ours off for good.
static PROCESS: LazyLock<Guard> = LazyLock::new(|| init(TelemetryConfig::new("off")).unwrap());

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn logged(format: Format, filter: &str, log: impl FnOnce()) -> String {
    LazyLock::force(&PROCESS);
    let lines = Lines::default();
    let config = TelemetryConfig::new(filter).format(format);
    let dispatch = dispatch(config, lines.clone()).unwrap().0;
    tracing::dispatcher::with_default(&dispatch, log);
    lines.text()
}

/// The JSON lines that `work` logs.
pub(in crate::telemetry) async fn capture(filter: &str, work: impl Future<Output = ()>) -> String {
    LazyLock::force(&PROCESS);
    let lines = Lines::default();
    let config = TelemetryConfig::new(filter).format(Format::Json);
    let dispatch = dispatch(config, lines.clone()).unwrap().0;
    // A test's runtime has one thread, so the default holds over every await.
    let _default = tracing::dispatcher::set_default(&dispatch);
    work.await;
    lines.text()
}

fn one_line(log: impl FnOnce()) -> Value {
    let text = logged(Format::Json, "info", log);
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn event_carries_the_ids_of_the_request_around_it() {
    let line = one_line(|| {
        let request = tracing::info_span!("request", request_id = "r-1", trace_id = "t-1");
        let _request = request.enter();
        let _inner = tracing::info_span!("query", rows = 3_u64).entered();
        tracing::info!(target: "shop", user = "u-1", "sold");
    });
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["target"], "shop");
    assert_eq!(line["message"], "sold");
    assert_eq!(line["user"], "u-1");
    assert_eq!(line["rows"], 3);
    assert_eq!(line["request_id"], "r-1");
    assert_eq!(line["trace_id"], "t-1");
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn hostile_values_stay_inside_their_string() {
    let hostile = "a\"b\\c\n{\"level\":\"INFO\"}\u{1}\u{1b}[31m";
    let line = one_line(|| {
        let _span = tracing::info_span!("request", path = hostile).entered();
        tracing::info!(text = hostile, debug = ?hostile, "{hostile}");
    });
    assert_eq!(line["message"], hostile);
    assert_eq!(line["text"], hostile);
    assert_eq!(line["path"], hostile);
}

#[test]
fn inner_value_wins_and_no_key_comes_twice() {
    let text = logged(Format::Json, "info", || {
        let outer = tracing::info_span!("outer", step = 1_u64, late = tracing::field::Empty);
        let _outer = outer.enter();
        let _inner = tracing::info_span!("inner", step = 2_u64).entered();
        outer.record("late", true);
        outer.record("late", false);
        tracing::info!(level = "mine", "hello");
    });
    assert_eq!(text.matches("\"step\"").count(), 1, "{text}");
    assert_eq!(text.matches("\"level\"").count(), 1, "{text}");
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["step"], 2);
    assert_eq!(line["late"], false);
    assert_eq!(line["field.level"], "mine");
}

#[test]
fn what_tells_opentelemetry_of_a_span_is_in_no_line() {
    let line = one_line(|| {
        let _span = tracing::info_span!("sql", otel.name = "SELECT", rows = 3_u64).entered();
        tracing::info!("done");
    });
    assert_eq!(line["rows"], 3);
    assert_eq!(line.get("otel.name"), None);
}

#[test]
fn error_field_is_logged_with_its_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot connect")]
    struct Connect(#[source] io::Error);

    let line = one_line(|| {
        let error = Connect(io::Error::other("refused"));
        tracing::info!(error = &error as &dyn std::error::Error, "retrying");
    });
    assert_eq!(line["error"], "cannot connect: refused");
}

#[test]
fn request_span_is_kept_by_every_filter() {
    for filter in ["warn", "shop=warn", "error,shop=warn"] {
        let text = logged(Format::Json, filter, || {
            let _span = tracing::error_span!(
                target: span::TARGET,
                "request",
                request_id = "r-1"
            )
            .entered();
            tracing::warn!(target: "shop", "sold out");
            tracing::info!(target: "shop", "not logged");
        });
        assert_eq!(text.matches('\n').count(), 1, "{filter}: {text}");
        assert!(text.contains("\"request_id\":\"r-1\""), "{filter}: {text}");
    }
}

#[test]
fn text_line_names_the_request_without_color() {
    let text = logged(Format::Text, "info", || {
        let _span = tracing::info_span!("request", request_id = "r-1").entered();
        tracing::info!("hello");
    });
    assert!(
        text.contains("request_id=\"r-1\"") && text.contains("hello"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn second_init_and_malformed_filter_are_errors() {
    let malformed = init(TelemetryConfig::new("shop=loud"));
    assert!(matches!(malformed, Err(TelemetryError::Filter { .. })));
    LazyLock::force(&PROCESS);
    let second = init(TelemetryConfig::new("off"));
    assert!(matches!(second, Err(TelemetryError::AlreadySet(_))));
}
