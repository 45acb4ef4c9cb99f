//! What operators see: a real Prometheus reads it, and no rule or panel asks in vain.

use std::collections::BTreeSet;
use std::time::Duration;

use maxscale_core::telemetry::slo::{Objectives, dashboard, rules};
use maxscale_tests::{Prometheus, eventually};
use serde_json::Value;

use crate::client::PLUCK;
use crate::client::send;
use crate::collector::Collector;
use crate::servers::Servers;
use crate::service::Service;

const LIMIT: Duration = Duration::from_secs(60);

/// What a rule compares, or a panel shows.
fn questions() -> BTreeSet<String> {
    let mut questions = BTreeSet::new();
    for line in rules(&Objectives::default()).lines() {
        let Some(quoted) = line.trim().strip_prefix("expr: '") else {
            continue;
        };
        let expression = quoted.strip_suffix('\'').unwrap().replace("''", "'");
        // Whether a comparison holds is not the question here.
        for compared in expression.split(" and ") {
            let left = compared.split(" > ").next().unwrap();
            let left = left.split(" >= ").next().unwrap();
            questions.insert(left.to_owned());
        }
    }
    let dashboard: Value = serde_json::from_str(&dashboard()).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            questions.insert(expression.replace("$__rate_interval", "1m"));
        }
    }
    questions
}

async fn ask(prometheus: &Prometheus, what: &str, query: &[(&str, &str)]) -> Value {
    let url = format!("{}/api/v1/{what}", prometheus.url());
    let url = reqwest::Url::parse_with_params(&url, query).unwrap();
    let answer = reqwest::get(url).await.unwrap().text().await.unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["status"], "success", "{query:?}: {answer}");
    answer["data"].clone()
}

/// Whether there is a series, and it tells apart what the question does.
fn answers(question: &str, data: &Value) -> bool {
    let labels = question.split("by (").skip(1);
    let labels = labels.flat_map(|rest| rest.split(')').next().unwrap().split(", "));
    // A quantile has used up the buckets.
    let labels: Vec<_> = labels.filter(|label| *label != "le").collect();
    let series = data["result"].as_array().into_iter().flatten();
    let mut told = series.map(|series| &series["metric"]);
    told.any(|metric| labels.iter().all(|label| metric[*label].is_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_and_every_panel_is_answered_with_data() {
    let (collector, endpoint) = Collector::start().await;
    let servers = Servers::start().await;
    let folder = tempfile::tempdir().unwrap();
    let builder = servers.builder(folder.path());
    let service = Service::start(builder.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)).await;
    let rules = rules(&Objectives::default());
    let target = service.base().strip_prefix("http://").unwrap();
    let prometheus = Prometheus::start(target, &rules).await;

    let client = service.client();
    client.sign_up("ada@example.com").await;
    let project = client.project("Watched").await;
    // What has happened once has no rate yet.
    let load = async || {
        let uploaded = send(client.upload(&project, PLUCK)).await.unwrap();
        let track = uploaded.text("/track/id");
        client.measured(&project, &track, LIMIT).await;
        assert_eq!(client.get("/v1/me").await.status, 200);
    };
    let mut left = questions();
    assert!(left.len() > 40, "{left:#?}");
    eventually(2 * LIMIT, async || {
        load().await;
        let mut unanswered = BTreeSet::new();
        for question in std::mem::take(&mut left) {
            let data = ask(&prometheus, "query", &[("query", &question)]).await;
            if !answers(&question, &data) {
                unanswered.insert(question);
            }
        }
        left = unanswered;
        match left.is_empty() {
            true => Ok(()),
            false => Err(format!("{left:#?}")),
        }
    })
    .await;

    // An exemplar leads to its trace.
    let buckets = [
        ("query", "http_server_request_duration_seconds_bucket"),
        ("start", "0"),
        ("end", "9999999999"),
    ];
    let exemplars = ask(&prometheus, "query_exemplars", &buckets).await;
    let exemplars = exemplars.as_array().into_iter().flatten();
    let exemplars = exemplars.flat_map(|series| series["exemplars"].as_array().unwrap());
    let traces = exemplars.map(|exemplar| exemplar["labels"]["trace_id"].as_str().unwrap());
    let traces: Vec<String> = traces.map(str::to_owned).collect();
    assert!(!traces.is_empty());
    eventually(LIMIT, async || {
        let lost = traces.iter().find(|trace| collector.of(trace).is_empty());
        lost.map_or(Ok(()), |lost| Err(lost.clone()))
    })
    .await;

    // The tools of its own find nothing wrong with it.
    let page = reqwest::get(format!("{}/metrics", service.base()))
        .await
        .unwrap();
    let page = page.text().await.unwrap();
    if let Err(said) = Prometheus::tool(&["check", "metrics"], &page).await {
        panic!("{said}\n{page}");
    }
    let file = folder.path().join("rules.yml");
    std::fs::write(&file, &rules).unwrap();
    let file = file.to_str().unwrap();
    let checked = Prometheus::tool(&["check", "rules", file], "").await;
    checked.unwrap_or_else(|said| panic!("{said}"));
}

#[test]
fn committed_rules_and_dashboard_are_what_the_program_prints() {
    let mend = "cargo run -- observe rules > examples/platform/observe/rules.yml, and the same with dashboard.json";
    let committed = include_str!("../../observe/rules.yml");
    assert_eq!(committed, rules(&Objectives::default()), "{mend}");
    assert_eq!(
        include_str!("../../observe/dashboard.json"),
        dashboard(),
        "{mend}"
    );
}
