//! Measures maxscale against the bare mechanism below it and against its peers,
//! side by side in one run.
//!
//! ```text
//! cargo run --release -p maxscale-benches -- <area> [--quick]
//! ```
//!
//! Prints the machine and its load, then `BAR <name> <measured> <op> <target>`
//! per bar; other lines explain. A full run exits with 1 when a bar is missed, or
//! could not be measured (`BAR <name> missing`).
//! `--quick` shows that everything runs but the peers, which it does not build: it
//! takes few rounds and judges nothing.

mod auth;
mod cache;
mod limits;
mod machine;
mod peer;
mod queue;
mod resilience;
mod shard;
mod telemetry;
mod wire;

use std::process::ExitCode;

use maxscale_core::{BoxError, Chain};
use maxscale_measure::{Plan, Report};

const AREAS: [&str; 8] = [
    "shard",
    "telemetry",
    "limits",
    "resilience",
    "cache",
    "auth",
    "queue",
    "platform",
];

/// What the command line asks for.
struct Request {
    areas: Vec<String>,
    quick: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [role, url, count] = &*arguments
        && role == "cache-listener"
    {
        return listen(url, count).await;
    }
    let Some(request) = Request::read(arguments.into_iter()) else {
        eprintln!(
            "usage: maxscale-benches <area> [--quick]\nareas: {}, all",
            AREAS.join(", ")
        );
        return ExitCode::from(2);
    };
    let plan = if request.quick {
        Plan::QUICK
    } else {
        Plan::FULL
    };
    let mut report = Report::default();
    for line in machine::lines() {
        report.note(&line);
    }
    if request.quick {
        report.note("run: quick; few rounds, no peers, and nothing is judged");
    }
    for area in &request.areas {
        if let Err(error) = measure(area, &plan, &mut report).await {
            eprintln!("{area} did not run: {}", Chain(&*error));
            return ExitCode::FAILURE;
        }
    }
    if request.quick || report.missed().is_empty() {
        return ExitCode::SUCCESS;
    }
    let missed = report.missed().join(", ");
    report.note(&format!("missed: {missed}"));
    ExitCode::FAILURE
}

/// What a second process of a bench does.
async fn listen(url: &str, count: &str) -> ExitCode {
    let Ok(count) = count.parse() else {
        return ExitCode::from(2);
    };
    match cache::listen(url, count).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("a listener ended: {}", Chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn measure(area: &str, plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    match area {
        "shard" => shard::run(plan, report).await,
        "telemetry" => telemetry::run(plan, report).await,
        "limits" => limits::run(plan, report).await,
        "resilience" => resilience::run(plan, report).await,
        "cache" => cache::run(plan, report).await,
        "auth" => auth::run(plan, report).await,
        "queue" => queue::run(plan, report).await,
        _ => {
            report.note(&format!("{area}: no bars yet"));
            Ok(())
        }
    }
}

// === impl Request ===

impl Request {
    fn read(arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut quick = false;
        let mut areas = Vec::new();
        for argument in arguments {
            match argument.as_str() {
                "--quick" => quick = true,
                "all" => areas.extend(AREAS.map(str::to_owned)),
                area if AREAS.contains(&area) => areas.push(argument),
                _ => return None,
            }
        }
        (!areas.is_empty()).then_some(Self { areas, quick })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Request> {
        Request::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn unknown_area_and_no_area_are_refused() {
        assert!(read("shards").is_none());
        assert!(read("shard --fast").is_none());
        assert!(read("--quick").is_none());
    }

    #[test]
    fn all_means_every_area() {
        let request = read("all --quick").unwrap();
        assert!(request.quick);
        assert_eq!(request.areas, AREAS);
    }
}
