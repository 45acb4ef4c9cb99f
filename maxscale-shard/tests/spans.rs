//! The spans around statements, in a process of their own: whether a span is
//! made at all is remembered for the whole process, and so the first thread that
//! comes by and does not listen would decide for this one.

#![cfg(feature = "sqlite")]
#![expect(clippy::unwrap_used, reason = "this is a test")]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use maxscale_shard::{Database, DatabaseOptions, sql};
use maxscale_tests::eventually;
use tracing_subscriber::fmt::format::FmtSpan;

/// Where the log goes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn span_of_a_statement_names_node_and_error_and_neither_text_nor_parameters() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("1.db").display());
    let database = Database::open("node-1", &url, &DatabaseOptions::default()).unwrap();
    database.reach().await.unwrap();
    let mut tx = database.begin().await.unwrap();
    let failing = sql("SELECT $1 FROM absent").bind("secret");
    tx.fetch_all(failing).await.unwrap_err();
    drop(tx);

    // The driver's thread lets go of a span a moment later than we do.
    let ended = eventually(Duration::from_secs(20), async || {
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        // The driver's own events stand inside of a span; this is where one ends.
        let ends = |line: &&str| line.contains("sql{") && line.contains(": close");
        let ends: Vec<String> = text.lines().filter(ends).map(str::to_owned).collect();
        (ends.len() == 2).then_some(ends)
    });
    let ended = ended.await;
    let with = |part: &str| ended.iter().find(|span| span.contains(part));
    assert!(with("db.operation.name=\"begin\"").is_some(), "{ended:?}");
    let failed = with("error.type=\"refused\"").unwrap();
    assert!(failed.contains("db.system.name=\"sqlite\""), "{failed}");
    assert!(failed.contains("maxscale.node=\"node-1\""), "{failed}");
    assert!(
        with("secret").is_none() && with("absent").is_none(),
        "{ended:?}"
    );
}
