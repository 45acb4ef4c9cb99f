//! Peers: programs in workspaces of their own, below `benches/peers/<area>/`.
//!
//! They are built when their area is measured in full, from their own lock files
//! and into the same target folder. Where a tool, a package or the network is
//! absent the bars against that peer are missing, and the others are measured.

mod npm;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use maxscale_core::{BoxError, Chain};
use maxscale_measure::{Bar, Plan, Report};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

pub(crate) use npm::Npm;

/// Builds and runs the Rust peer of `area`, in which our side runs too. It has
/// to print `bars`.
pub(crate) async fn rust(
    plan: &Plan,
    report: &mut Report,
    area: &str,
    bars: &[&str],
) -> Result<(), BoxError> {
    if plan.is_quick() {
        skip(report, bars);
        return Ok(());
    }
    pass_on(cargo_run(area)?, report, bars).await;
    Ok(())
}

/// Leaves peers alone: a quick run needs no network and no tool besides cargo,
/// and building them would be the longest part of it.
pub(crate) fn skip(report: &mut Report, bars: &[&str]) {
    for name in bars {
        report.missing(name);
    }
}

/// Where the peers of `area` live.
fn folder(area: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.join("peers").join(area)
}

fn cargo_run(area: &str) -> Result<Command, BoxError> {
    // This program is `<target>/<profile>/maxscale-benches`.
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2);
    let target = target.ok_or("this program is in no target folder")?;
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["run", "--release", "--locked", "--manifest-path"])
        .arg(folder(area).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target);
    Ok(command)
}

/// Prints the lines of a peer as they come; those of `bars` that do not come are
/// missing.
async fn pass_on(command: Command, report: &mut Report, bars: &[&str]) {
    let mut absent = bars.to_vec();
    if let Err(error) = read_lines(command, report, &mut absent).await {
        report.note(&format!("no peer: {}", Chain(&*error)));
    }
    for name in absent {
        report.missing(name);
    }
}

async fn read_lines(
    mut command: Command,
    report: &mut Report,
    absent: &mut Vec<&str>,
) -> Result<(), BoxError> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{:?}: {error}", command.as_std().get_program()))?;
    let output = child.stdout.take().expect("its output is piped");
    let mut lines = BufReader::new(output).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some(bar) = Bar::read(&line) {
            absent.retain(|name| *name != bar.name);
            report.bar(bar);
        } else {
            report.note(&line);
        }
    }
    let status = child.wait().await?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("it ended with {status}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn missed(program: &str, script: &str) -> Vec<String> {
        let mut report = Report::default();
        let mut command = Command::new(program);
        command.args(["-c", script]);
        pass_on(command, &mut report, &["limits.a", "limits.b"]).await;
        report.missed().to_vec()
    }

    #[tokio::test]
    async fn bars_of_an_absent_tool_are_missing() {
        let missed = missed("no-such-tool", "").await;
        assert_eq!(missed, ["limits.a", "limits.b"]);
    }

    #[tokio::test]
    async fn bars_are_judged_by_the_line_that_the_peer_printed() {
        let lines = "echo BAR limits.a 1.2 '<=' 1.3; echo BAR limits.b 1.4 '<=' 1.3";
        assert_eq!(missed("sh", lines).await, ["limits.b"]);
    }

    #[tokio::test]
    async fn bar_that_a_failing_peer_left_out_is_missing() {
        let lines = "echo building; echo BAR limits.a 1.2 '<=' 1.3; exit 101";
        assert_eq!(missed("sh", lines).await, ["limits.b"]);
    }
}
