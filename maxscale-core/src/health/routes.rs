//! The registry over HTTP.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde::Serialize;

use super::{Branch, CheckReport, Health, Importance, Overall, Place, Report, Status};
use crate::clock::Timestamp;

/// [`probes`] and [`tree`] together.
pub fn routes(health: Health) -> Router {
    probes(health.clone()).merge(tree(health))
}

/// `GET /livez`, `/readyz` and `/startupz`, for whoever restarts and feeds this
/// process.
///
/// None waits for anything, nor tells what this process depends on.
///
/// - `/livez`: 200 as long as the process serves.
/// - `/readyz`: 200, or 503 while draining or while a critical check is not up.
/// - `/startupz`: 503 until each critical check has passed once, then 200 for ever.
pub fn probes(health: Health) -> Router {
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(readyz))
        .route("/startupz", get(startupz))
        .with_state(health)
}

/// `GET /health` and `/api/system/health`: all checks as JSON, with 503 if the
/// whole is down.
///
/// It waits for nothing. It names what this process depends on, so it may
/// stand on an address of its own.
pub fn tree(health: Health) -> Router {
    Router::new()
        .route("/health", get(report))
        .route("/api/system/health", get(report))
        .with_state(health)
}

#[derive(Serialize)]
struct Tree<'a> {
    name: &'static str,
    status: &'static str,
    version: &'static str,
    draining: bool,
    checks: Vec<Leaf<'a>>,
    parts: Vec<Part<'a>>,
}

#[derive(Serialize)]
struct Part<'a> {
    name: &'static str,
    status: &'static str,
    checks: Vec<Leaf<'a>>,
}

#[derive(Serialize)]
struct Leaf<'a> {
    name: &'a str,
    importance: &'static str,
    status: &'static str,
    since: String,
    checked: Option<String>,
    error: Option<&'a str>,
}

async fn readyz(State(health): State<Health>) -> (StatusCode, &'static str) {
    if health.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn startupz(State(health): State<Health>) -> (StatusCode, &'static str) {
    if health.is_started() {
        (StatusCode::OK, "started\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
    }
}

async fn report(State(health): State<Health>) -> Response {
    let report = health.report();
    let status = match report.overall {
        Overall::Down => StatusCode::SERVICE_UNAVAILABLE,
        Overall::Ok | Overall::Degraded => StatusCode::OK,
    };
    (status, Json(Tree::of(&report))).into_response()
}

const fn word(overall: Overall) -> &'static str {
    match overall {
        Overall::Ok => "ok",
        Overall::Degraded => "degraded",
        Overall::Down => "down",
    }
}

fn leaves<'a>(branch: &Branch<'a>) -> Vec<Leaf<'a>> {
    branch.checks.iter().map(|&check| Leaf::of(check)).collect()
}

// === impl Tree ===

impl<'a> Tree<'a> {
    fn of(report: &'a Report) -> Self {
        let branches = report.branches();
        // The root's own checks stand at the root, beside the parts below it.
        let (root, parts): (Vec<_>, Vec<_>) = branches
            .iter()
            .partition(|branch| branch.place == Place::APPLICATION);
        let part = |branch: &Branch<'a>| Part {
            name: branch.place.name(),
            status: word(branch.overall),
            checks: leaves(branch),
        };
        Self {
            name: Place::APPLICATION.name(),
            status: word(report.overall),
            version: report.version,
            draining: report.draining,
            checks: root.into_iter().flat_map(leaves).collect(),
            parts: parts.into_iter().map(part).collect(),
        }
    }
}

// === impl Leaf ===

impl<'a> Leaf<'a> {
    fn of(check: &'a CheckReport) -> Self {
        Self {
            name: &check.name,
            importance: match check.importance {
                Importance::Critical => "critical",
                Importance::Degrading => "degrading",
                Importance::Info => "info",
            },
            status: match check.status {
                Status::Pending => "pending",
                Status::Up => "up",
                Status::Down => "down",
            },
            since: rfc3339(check.since),
            checked: check.checked.map(rfc3339),
            error: check.error.as_deref(),
        }
    }
}

/// The moment in UTC, to the second.
fn rfc3339(moment: Timestamp) -> String {
    let seconds = moment.as_millis() / 1_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years are counted from March, so that a leap day is a year's last; 719,468
    // days lie between 0000-03-01 and 1970-01-01, and 146,097 are 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown_as_date_prints_them() {
        // From `date -u -d @… +%FT%TZ`.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            let moment = Timestamp::from_micros(seconds * 1_000_000);
            assert_eq!(rfc3339(moment), text);
        }
    }
}
