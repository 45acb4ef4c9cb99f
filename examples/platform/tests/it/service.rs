//! The program under test, with the settings of a test.

use std::path::Path;
use std::time::Duration;

use maxscale_tests::{Process, ProcessBuilder, eventually};
use serde_json::Value;

use crate::client::Client;

/// A platform that serves, on a port of its own.
#[derive(Debug)]
pub(crate) struct Service {
    /// The process.
    pub(crate) process: Process,
    base: String,
}

/// A loaded machine with two cores takes a while for the first migrations.
const START: Duration = Duration::from_secs(60);

/// The check `name`, wherever it stands in the tree of `/health`.
pub(crate) fn check<'a>(tree: &'a Value, name: &str) -> Option<&'a Value> {
    let parts = tree["parts"].as_array().into_iter().flatten();
    let places = parts.chain([tree]);
    let mut checks = places.flat_map(|place| place["checks"].as_array().into_iter().flatten());
    checks.find(|check| check["name"] == name)
}

// === impl Service ===

impl Service {
    /// The program in `folder`, not started yet: a free port and limits that no
    /// test meets by accident. Later settings win.
    pub(crate) fn builder(folder: &Path) -> ProcessBuilder {
        Process::builder(env!("CARGO_BIN_EXE_platform"))
            .current_dir(folder)
            .env("MAXSCALE__HTTP__LISTEN", "127.0.0.1:0")
            .env("MAXSCALE__LIMITS__ADDRESSES_PER_MINUTE", "6000000")
            .env("MAXSCALE__LIMITS__LOGINS_PER_MINUTE", "6000000")
            .env("MAXSCALE__LIMITS__PER_MINUTE", "6000000")
            .env("MAXSCALE__LIMITS__UPLOADS_PER_MINUTE", "6000000")
            .env("MAXSCALE__LIMITS__SUSPICIOUS_PER_MINUTE", "6000000")
    }

    /// Starts `builder` and waits until it serves.
    pub(crate) async fn start(builder: ProcessBuilder) -> Self {
        let process = builder.start();
        let line = process.wait_for_line("  service ", START).await;
        let base = line.trim().trim_start_matches("service").trim();
        Self {
            base: base.trim_end_matches("/v1").to_owned(),
            process,
        }
    }

    /// The platform on the files in `folder`.
    pub(crate) async fn embedded(folder: &Path) -> Self {
        Self::start(Self::builder(folder)).await
    }

    /// `http://host:port`.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Waits until `/health` calls the check `name` `status`; gives the whole tree.
    pub(crate) async fn check_is(&self, name: &str, status: &str, limit: Duration) -> Value {
        let client = self.client();
        eventually(limit, async || {
            let tree = client.get("/health").await.body;
            match check(&tree, name) {
                Some(check) if check["status"] == status => Ok(tree),
                found => Err(format!("{found:?}")),
            }
        })
        .await
    }

    /// Asserts that nobody would restart the process, nor send requests elsewhere.
    pub(crate) async fn assert_alive_and_ready(&self) {
        for probe in ["/livez", "/readyz", "/startupz"] {
            assert_eq!(self.client().get(probe).await.status, 200, "{probe}");
        }
    }

    /// A client without a session.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.base)
    }
}
