//! Prometheus' rules for the same objectives, over all processes.
//!
//! The names of metrics are written as Prometheus has them and not derived from
//! ours: a test asks a real server each of these questions, and so notices a
//! metric that was renamed.

use std::fmt::Write as _;

use super::{Objectives, Window, percent};
use crate::meter::DURATION_BUCKETS;

/// When to wake somebody: so many times the allowed rate in a short window and in a
/// long one (Google's SRE workbook, table 5-8, with the windows of sloth).
const ALERTS: [(f64, Window, Window, &str); 4] = [
    (14.4, Window::Minutes5, Window::Hour, "page"),
    (6.0, Window::Minutes30, Window::Hours6, "page"),
    (3.0, Window::Hours2, Window::Day, "ticket"),
    (1.0, Window::Hours6, Window::Days3, "ticket"),
];

/// Of fewer requests in the short window nothing is concluded: at 99.99 % a single
/// failure among a few would wake somebody.
const FEWEST: u32 = 100;

/// Failures of the server, by OpenTelemetry's conventions.
const GRPC_FAILURES: &str =
    "UNKNOWN|DEADLINE_EXCEEDED|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS";

/// The rules as a file for Prometheus (`rule_files`): ratios per window, alerts when
/// a budget burns, and alerts for what is wrong at once.
#[must_use]
pub fn rules(objectives: &Objectives) -> String {
    let mut file = String::from(
        "# Made by the program that is watched; do not edit.\ngroups:\n  - name: maxscale-slo\n    rules:\n",
    );
    for window in Window::ALL {
        let name = window.name();
        record(
            &mut file,
            &format!("maxscale:requests:increase{name}"),
            &requests(window),
        );
        record(
            &mut file,
            &format!("maxscale:errors:ratio{name}"),
            &errors(window),
        );
        for objective in objectives.latency() {
            let name = format!(
                "maxscale:slower_than_p{}:ratio{name}",
                percent(objective.share)
            );
            record(
                &mut file,
                &name,
                &slower(objective.within.as_secs_f64(), window),
            );
        }
    }
    burns(
        &mut file,
        "errors",
        "MaxscaleErrorBudgetBurn",
        1.0 - objectives.availability(),
    );
    for objective in objectives.latency() {
        let percent = percent(objective.share);
        let series = format!("slower_than_p{percent}");
        let alert = format!("MaxscaleLatencyBudgetBurnP{percent}");
        burns(&mut file, &series, &alert, 1.0 - objective.share);
    }
    file.push_str("  - name: maxscale-now\n    rules:\n");
    for (name, severity, expression, summary) in NOW {
        alert(&mut file, name, expression, "5m", severity, summary);
    }
    file
}

/// What is wrong whatever was promised.
const NOW: [(&str, &str, &str, &str); 5] = [
    (
        "MaxscaleErrors",
        "page",
        "maxscale:errors:ratio5m > 0.01",
        "More than one request in a hundred fails.",
    ),
    (
        "MaxscaleSlow",
        "page",
        "histogram_quantile(0.95, sum by (le) (rate(http_server_request_duration_seconds_bucket[5m]))) > 0.5",
        "One request in twenty takes longer than half a second.",
    ),
    (
        "MaxscalePoolExhausted",
        "page",
        "max by (instance, db_client_connection_pool_name) (db_client_connections{db_client_connection_state=\"used\"}) / max by (instance, db_client_connection_pool_name) (db_client_connection_max) > 0.9",
        "Nearly all connections of a pool are in use.",
    ),
    (
        "MaxscaleNoConnection",
        "page",
        "sum by (instance, db_client_connection_pool_name) (rate(db_client_connection_timeouts_total[5m])) > 0",
        "Requests do not get a connection in time.",
    ),
    (
        "MaxscaleCapacity",
        "ticket",
        "max by (instance, resource) (maxscale_capacity_used_ratio) > 0.75",
        "More than three quarters of what is bounded are used.",
    ),
];

/// Burn rates of one objective, which allows `allowed` of all requests.
fn burns(file: &mut String, series: &str, name: &str, allowed: f64) {
    for (factor, short, long, severity) in ALERTS {
        let ratio = factor * allowed;
        // More than all requests cannot be bad.
        if ratio >= 1.0 {
            continue;
        }
        // As few digits as tell it apart.
        let ratio = format!("{:.6}", ratio);
        let ratio = ratio.trim_end_matches('0');
        let (short, long) = (short.name(), long.name());
        let expression = format!(
            "maxscale:{series}:ratio{short} > {ratio} and maxscale:{series}:ratio{long} > {ratio} \
             and maxscale:requests:increase{short} >= {FEWEST}"
        );
        let summary = format!("The budget burns {factor} times as fast as it may.");
        alert(file, name, &expression, "0s", severity, &summary);
    }
}

/// All requests and calls; whoever went away was not failed.
fn requests(window: Window) -> String {
    let window = window.name();
    format!(
        "(sum(increase(http_server_request_duration_seconds_count{{http_response_status_code!=\"499\"}}[{window}])) or vector(0)) \
         + (sum(increase(rpc_server_call_duration_seconds_count[{window}])) or vector(0))"
    )
}

fn errors(window: Window) -> String {
    let name = window.name();
    format!(
        "((sum(increase(http_server_request_duration_seconds_count{{http_response_status_code=~\"5..\"}}[{name}])) or vector(0)) \
         + (sum(increase(rpc_server_call_duration_seconds_count{{rpc_response_status_code=~\"{GRPC_FAILURES}\"}}[{name}])) or vector(0))) \
         / ({})",
        requests(window)
    )
}

/// The share that took longer than the largest bucket that is within `seconds`.
fn slower(seconds: f64, window: Window) -> String {
    let window = window.name();
    let within = DURATION_BUCKETS
        .iter()
        .rev()
        .find(|bound| **bound <= seconds);
    let bound = within.unwrap_or(&DURATION_BUCKETS[0]);
    format!(
        "1 - sum(rate(http_server_request_duration_seconds_bucket{{le=\"{bound:?}\"}}[{window}])) \
         / sum(rate(http_server_request_duration_seconds_count[{window}]))"
    )
}

// Writing to a text cannot fail.

fn record(file: &mut String, name: &str, expression: &str) {
    let _ = writeln!(file, "      - record: {name}");
    let _ = writeln!(file, "        expr: {}", quoted(expression));
}

fn alert(
    file: &mut String,
    name: &str,
    expression: &str,
    after: &str,
    severity: &str,
    summary: &str,
) {
    let _ = writeln!(file, "      - alert: {name}");
    let _ = writeln!(file, "        expr: {}", quoted(expression));
    let _ = writeln!(file, "        for: {after}");
    let _ = writeln!(file, "        labels:\n          severity: {severity}");
    let _ = writeln!(
        file,
        "        annotations:\n          summary: {}",
        quoted(summary)
    );
}

/// A text of YAML, in which only the quote itself is special.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_that_all_may_miss_have_no_alert() {
        let file = rules(&Objectives::default());
        let count = |name: &str| file.matches(&format!("alert: {name}\n")).count();
        assert_eq!(count("MaxscaleErrorBudgetBurn"), 4);
        // 14.4 times 5 % is less than all, 6 times 50 % is not.
        assert_eq!(count("MaxscaleLatencyBudgetBurnP95"), 4);
        assert_eq!(count("MaxscaleLatencyBudgetBurnP50"), 1);
        assert!(
            file.contains("maxscale:errors:ratio5m > 0.00144 and"),
            "{file}"
        );
        assert!(
            file.contains("le=\"0.05\"") && file.contains("le=\"0.2\""),
            "{file}"
        );
    }
}
