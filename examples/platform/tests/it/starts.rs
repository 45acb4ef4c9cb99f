//! What a start does, and what it tells of itself.

use std::net::TcpListener;
use std::time::Duration;

use futures_util::future::join_all;
use maxscale_tests::Process;
use serde_json::{Value, json};

use crate::client::{Client, PASSWORD, PLUCK, send};
use crate::collector::Collector;
use crate::servers::Servers;
use crate::service::Service;
use crate::start_errors::PLANTED;

const LIMIT: Duration = Duration::from_secs(60);
/// Of a person, and so in no log, no trace and no metric.
const EMAIL: &str = "ada.planted@example.com";
const NAME: &str = "Ada of Planted";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test]
async fn default_port_that_is_taken_gives_way_to_a_free_one() {
    loop {
        let folder = tempfile::tempdir().unwrap();
        let held = TcpListener::bind("127.0.0.1:3000").ok();
        let program = Process::builder(env!("CARGO_BIN_EXE_platform"));
        let service = Service::start(program.current_dir(folder.path())).await;
        if service.base().ends_with(":3000") && held.is_none() {
            // Whoever held it when this test asked has let go of it since.
            continue;
        }
        assert!(!service.base().ends_with(":3000"), "{}", service.base());
        let told = service.process.stdout();
        assert_eq!(
            told[0], "Port 3000 is taken, so a free one was chosen.",
            "{told:?}"
        );
        assert!(
            told.contains(&format!("  base={}", service.base())),
            "{told:?}"
        );
        assert_eq!(service.client().get("/livez").await.status, 200);
        return;
    }
}

#[tokio::test]
async fn processes_that_start_at_once_on_fresh_databases_all_come_up() {
    let servers = Servers::start().await;
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let starts = folders
        .iter()
        .map(|folder| Service::start(servers.builder(folder.path())));
    let services = join_all(starts).await;
    // One fleet, one secret: what one process gave, each other takes.
    let client = services[0].client();
    client.sign_up("ada@example.com").await;
    for service in &services {
        let me = client.at(service.base()).get("/v1/me").await;
        assert_eq!(me.status, 200, "{me:?}");
    }
}

#[tokio::test]
async fn config_command_tells_every_value_and_its_origin() {
    let folder = tempfile::tempdir().unwrap();
    let toml = "[log]\nfilter = \"warn\"\n";
    std::fs::write(folder.path().join("maxscale.toml"), toml).unwrap();
    let nodes = format!("eu-1=postgres://u:{PLANTED}@pool/app|postgres://u:{PLANTED}@db/app");
    let process = Process::builder(env!("CARGO_BIN_EXE_platform"))
        .current_dir(folder.path())
        .env("MAXSCALE__SHARDS__NODES", nodes)
        .env("MAXSCALE__KEYS__SECRET", PLANTED.repeat(3))
        .args(["config", "--set", "http.deadline=5s"])
        .start();
    assert!(process.wait(LIMIT).await.success());
    assert_eq!(process.stderr(), Vec::<String>::new());

    let told = process.stdout();
    for line in [
        "log.filter = warn (maxscale.toml, line 2)",
        "keys.secret = *** (environment variable MAXSCALE__KEYS__SECRET)",
        "shards.nodes = eu-1=postgres://u:***@pool/app|postgres://u:***@db/app (environment variable MAXSCALE__SHARDS__NODES)",
        "http.deadline = 5s (set by code or command line)",
    ] {
        assert!(
            told.iter().any(|told| told == line),
            "no {line:?} in {told:?}"
        );
    }
    for setting in platform::settings::schema().unwrap().settings() {
        let line = format!("{} = ", setting.key());
        let there = told.iter().any(|told| told.starts_with(&line));
        let effective = setting.default_text().is_some()
            || matches!(setting.key(), "shards.nodes" | "keys.secret");
        assert_eq!(there, effective, "{line} in {told:?}");
    }
    assert!(!told.join("\n").contains(PLANTED), "{told:?}");
}

#[tokio::test]
async fn health_and_metrics_move_to_the_address_given_to_them() {
    let folder = tempfile::tempdir().unwrap();
    let builder = Service::builder(folder.path()).env("MAXSCALE__ADMIN__LISTEN", "127.0.0.1:0");
    let service = Service::start(builder).await;
    let line = service.process.wait_for_line("  health ", LIMIT).await;
    let admin = line
        .trim()
        .trim_start_matches("health")
        .trim()
        .trim_end_matches("/health");
    assert_ne!(admin, service.base());

    let (main, admin) = (service.client(), Client::new(admin));
    for (client, path, status) in [
        (&main, "/livez", 200),
        (&main, "/readyz", 200),
        (&main, "/startupz", 200),
        (&main, "/health", 404),
        (&main, "/metrics", 404),
        (&admin, "/health", 200),
        (&admin, "/api/system/health", 200),
        (&admin, "/metrics", 200),
        (&admin, "/v1/me", 404),
    ] {
        let answer = client.get(path).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn trace_of_an_upload_is_in_its_logs_and_in_those_of_its_job() {
    let folder = tempfile::tempdir().unwrap();
    let filter = "info,maxscale_queue=debug";
    let builder = Service::builder(folder.path())
        .env("MAXSCALE__LOG__FILTER", filter)
        .env("MAXSCALE__OTEL__TRUSTED", "127.0.0.1");
    let service = Service::start(builder).await;
    let client = service.client();
    client.sign_up("ada@example.com").await;
    let project = client.project("Traced").await;
    let upload = client
        .upload(&project, PLUCK)
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))
        .header("x-request-id", "upload-1");
    let uploaded = send(upload).await.unwrap();
    assert_eq!(uploaded.status, 202, "{uploaded:?}");
    let track = uploaded.text("/track/id");
    client.measured(&project, &track, LIMIT).await;

    // Standard error is no terminal here, so each line is an object.
    let job = uploaded.text("/track/job");
    let (access, done) = maxscale_tests::eventually(LIMIT, async || {
        let lines: Vec<Value> = (service.process.stderr().iter())
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect();
        let access = lines
            .iter()
            .find(|line| line["request_id"] == "upload-1")
            .cloned();
        let done = lines
            .iter()
            .find(|line| line["messaging.message.id"] == job.as_str())
            .cloned();
        access.zip(done)
    })
    .await;
    assert_eq!(access["trace_id"], TRACE, "{access}");
    assert_eq!(access["status"], 202, "{access}");
    assert_eq!(
        access["http.route"], "/v1/projects/{project}/tracks",
        "{access}"
    );
    assert_eq!(done["trace_id"], TRACE, "{done}");
}

#[tokio::test]
async fn no_log_line_span_or_label_tells_a_secret_even_when_all_are_written() {
    let (collector, endpoint) = Collector::start().await;
    let servers = Servers::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (nodes, passwords): (Vec<_>, Vec<_>) = servers
        .nodes
        .iter()
        .map(|node| with_password(&node.url()))
        .unzip();
    let builder = servers
        .builder(folder.path())
        .env("MAXSCALE__SHARDS__NODES", nodes.join(","))
        .env("MAXSCALE__KEYS__SECRET", PLANTED.repeat(3))
        .env("MAXSCALE__OTEL__ENDPOINT", endpoint)
        .env("MAXSCALE__OTEL__HEADERS", format!("x-token={PLANTED}"))
        .env("MAXSCALE__LOG__FILTER", "trace");
    let service = Service::start(builder).await;
    let client = service.client();
    let body = json!({ "email": EMAIL, "password": PASSWORD, "name": NAME });
    let signed_up = client.post("/v1/signup", &body).await;
    assert_eq!(signed_up.status, 201, "{signed_up:?}");
    assert_eq!(
        client.get(&format!("/v1/me?token={PLANTED}")).await.status,
        200
    );
    let metrics = reqwest::get(format!("{}/metrics", service.base())).await;
    let metrics = metrics.unwrap().text().await.unwrap();
    service.process.terminate();
    assert!(service.process.wait(LIMIT).await.success());

    let cookie = signed_up.headers["set-cookie"].to_str().unwrap();
    let token = cookie.split(['=', ';']).nth(1).unwrap();
    assert!(token.starts_with("mxs_"), "{cookie}");
    let lines = service.process.stderr();
    assert!(lines.iter().any(|line| line.contains("\"DEBUG\"")));
    let spans = collector.all();
    assert!(spans.contains("POST /v1/signup"), "{spans}");
    for told in lines.iter().chain([&spans, &metrics]) {
        for secret in [PLANTED, PASSWORD, EMAIL, NAME, token, &passwords[0]] {
            assert!(!told.contains(secret), "{secret}: {told}");
        }
    }
}

/// The URL with a password in it, and that password: our own servers trust
/// everybody and so take any, those of a `DATABASE_URL` have theirs.
fn with_password(url: &str) -> (String, String) {
    let (user, host) = url.rsplit_once('@').unwrap();
    match user.trim_start_matches("postgres://").split_once(':') {
        Some((_, password)) => (url.to_owned(), password.to_owned()),
        None => (format!("{user}:{PLANTED}@{host}"), PLANTED.to_owned()),
    }
}
