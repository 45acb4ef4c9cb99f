//! A peer that runs in node.
//!
//! It is told on its input how often to repeat, and answers with a line when it
//! has. So it takes turns with our side, as a peer in one process does.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use maxscale_core::BoxError;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

use super::folder;

/// A running peer. Gone when its last clone is.
#[derive(Clone)]
pub(crate) struct Npm(Arc<Mutex<Process>>);

struct Process {
    // Killed on drop.
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

// === impl Npm ===

impl Npm {
    /// Installs what the lock file of `benches/peers/<area>/npm/` names and
    /// starts `main.mjs` with `arguments`.
    ///
    /// # Errors
    ///
    /// When node, npm or a package cannot be had, or the peer does not start.
    pub(crate) async fn start(area: &str, arguments: &[String]) -> Result<Self, BoxError> {
        let folder = folder(area).join("npm");
        install(&folder).await?;
        let mut child = Command::new("node")
            .arg("main.mjs")
            .args(arguments)
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("node: {error}"))?;
        let input = child.stdin.take().expect("its input is piped");
        let output = child.stdout.take().expect("its output is piped");
        let peer = Self(Arc::new(Mutex::new(Process {
            _child: child,
            input,
            output: BufReader::new(output).lines(),
        })));
        peer.turn(1).await?;
        Ok(peer)
    }

    /// Has it do `count` things, and waits until they are done.
    pub(crate) async fn turn(&self, count: u32) -> Result<(), BoxError> {
        self.ask(&count.to_string()).await
    }

    /// Has it do what `line` says, and waits until that is done.
    pub(crate) async fn ask(&self, line: &str) -> Result<(), BoxError> {
        let mut process = self.0.lock().await;
        process
            .input
            .write_all(format!("{line}\n").as_bytes())
            .await?;
        match process.output.next_line().await? {
            Some(line) if line == "done" => Ok(()),
            Some(line) => Err(format!("the peer in node said: {line}").into()),
            None => Err("the peer in node ended".into()),
        }
    }
}

async fn install(folder: &Path) -> Result<(), BoxError> {
    let status = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--prefer-offline"])
        .args(["--no-audit", "--no-fund", "--no-update-notifier"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .await
        .map_err(|error| format!("npm: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("npm ci ended with {status}").into())
    }
}
