//! A dashboard for Grafana, of what a service on these crates tells.

use serde_json::{Value, json};

/// One graph.
struct Panel {
    title: &'static str,
    unit: &'static str,
    /// Each with what its lines are called.
    queries: &'static [(&'static str, &'static str)],
}

const PANELS: &[Panel] = &[
    Panel {
        title: "Requests per second",
        unit: "reqps",
        queries: &[(
            "sum by (http_route) (rate(http_server_request_duration_seconds_count[$__rate_interval]))",
            "{{http_route}}",
        )],
    },
    Panel {
        title: "Failures",
        unit: "percentunit",
        queries: &[("maxscale:errors:ratio5m", "of the last 5 minutes")],
    },
    Panel {
        title: "Time of a request",
        unit: "s",
        queries: &[
            (
                "histogram_quantile(0.5, sum by (le) (rate(http_server_request_duration_seconds_bucket[$__rate_interval])))",
                "p50",
            ),
            (
                "histogram_quantile(0.95, sum by (le) (rate(http_server_request_duration_seconds_bucket[$__rate_interval])))",
                "p95",
            ),
            (
                "histogram_quantile(0.99, sum by (le) (rate(http_server_request_duration_seconds_bucket[$__rate_interval])))",
                "p99",
            ),
        ],
    },
    Panel {
        title: "Requests at work",
        unit: "short",
        queries: &[(
            "sum by (instance) (http_server_active_requests)",
            "{{instance}}",
        )],
    },
    Panel {
        title: "Budget burn",
        unit: "short",
        queries: &[(
            "max by (objective, window) (maxscale_slo_burn_rate)",
            "{{objective}}, {{window}}",
        )],
    },
    Panel {
        title: "Budget left",
        unit: "percentunit",
        queries: &[(
            "min by (objective) (maxscale_slo_budget_remaining)",
            "{{objective}}",
        )],
    },
    Panel {
        title: "Time of a database's answer, p95",
        unit: "s",
        queries: &[(
            "histogram_quantile(0.95, sum by (le, maxscale_node) (rate(db_client_operation_duration_seconds_bucket[$__rate_interval])))",
            "{{maxscale_node}}",
        )],
    },
    Panel {
        title: "Connections in use",
        unit: "percentunit",
        queries: &[(
            "max by (db_client_connection_pool_name) (db_client_connections{db_client_connection_state=\"used\"}) / max by (db_client_connection_pool_name) (db_client_connection_max)",
            "{{db_client_connection_pool_name}}",
        )],
    },
    Panel {
        title: "Wait for a connection, p95",
        unit: "s",
        queries: &[(
            "histogram_quantile(0.95, sum by (le, db_client_connection_pool_name) (rate(db_client_connection_wait_time_seconds_bucket[$__rate_interval])))",
            "{{db_client_connection_pool_name}}",
        )],
    },
    Panel {
        title: "Capacity used",
        unit: "percentunit",
        queries: &[(
            "max by (resource) (maxscale_capacity_used_ratio)",
            "{{resource}}",
        )],
    },
    Panel {
        title: "Jobs that ended, per second",
        unit: "ops",
        queries: &[(
            "sum by (outcome) (rate(maxscale_queue_ended_total[$__rate_interval]))",
            "{{outcome}}",
        )],
    },
];

/// How many panels stand beside each other, and how large each is.
const ACROSS: usize = 2;
const WIDTH: usize = 12;
const HEIGHT: usize = 8;

/// The dashboard as JSON, to import into Grafana 9 or newer; it asks for the
/// Prometheus to read from.
#[must_use]
pub fn dashboard() -> String {
    let panels: Vec<Value> = PANELS.iter().enumerate().map(panel).collect();
    let source = json!({
        "name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus",
    });
    let dashboard = json!({
        "title": "maxscale",
        "uid": "maxscale",
        "schemaVersion": 37,
        "editable": true,
        "refresh": "30s",
        "time": { "from": "now-1h", "to": "now" },
        "templating": { "list": [source] },
        "panels": panels,
    });
    format!("{dashboard:#}\n")
}

fn panel((at, panel): (usize, &Panel)) -> Value {
    let letters = ["A", "B", "C", "D"];
    let targets = panel.queries.iter().zip(letters);
    let targets = targets.map(|((expr, legend), letter)| {
        json!({ "refId": letter, "expr": expr, "legendFormat": legend, "exemplar": true })
    });
    json!({
        "id": at + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": { "type": "prometheus", "uid": "${source}" },
        "fieldConfig": { "defaults": { "unit": panel.unit, "min": 0 }, "overrides": [] },
        "gridPos": {
            "x": at % ACROSS * WIDTH,
            "y": at / ACROSS * HEIGHT,
            "w": WIDTH,
            "h": HEIGHT,
        },
        "targets": targets.collect::<Vec<_>>(),
    })
}
