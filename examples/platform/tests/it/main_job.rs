//! The main job, from sign-up to a measured recording.

use std::time::Duration;

use maxscale_tests::ProcessBuilder;
use serde_json::{Value, json};

use crate::client::{PASSWORD, PLUCK, send};
use crate::servers::Servers;
use crate::service::Service;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_recording_is_measured_and_found_after_a_second_start_on_sqlite_files() {
    let folder = tempfile::tempdir().unwrap();
    runs_twice(|| Service::builder(folder.path())).await;
}

#[tokio::test]
async fn a_recording_is_measured_and_found_after_a_second_start_on_postgres_and_redis() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start().await;
    runs_twice(|| servers.builder(folder.path())).await;
}

async fn runs_twice(builder: impl Fn() -> ProcessBuilder) {
    let service = Service::start(builder()).await;
    let client = service.client();
    client.sign_up("ada@example.com").await;
    let renamed = client
        .patch("/v1/me", &json!({ "name": "Ada Lovelace" }))
        .await;
    assert_eq!(renamed.status, 200, "{renamed:?}");
    assert_eq!(
        client.get("/v1/me").await.text("/user/name"),
        "Ada Lovelace"
    );

    let project = client.project("First recordings").await;
    let uploaded = send(client.upload(&project, PLUCK)).await.unwrap();
    assert_eq!(uploaded.status, 202, "{uploaded:?}");
    let track = uploaded.text("/track/id");
    let measured = client.measured(&project, &track, LIMIT).await;
    assert_as_ffmpeg_says(&measured);

    service.process.terminate();
    assert!(service.process.wait(LIMIT).await.success());
    let service = Service::start(builder()).await;
    let client = client.at(service.base());
    assert_eq!(
        client.get("/v1/me").await.text("/user/name"),
        "Ada Lovelace"
    );
    assert_eq!(client.measured(&project, &track, LIMIT).await, measured);
    let other = service.client();
    let body = json!({ "email": "ADA@example.com", "password": PASSWORD });
    assert_eq!(other.post("/v1/login", &body).await.status, 200);
    assert_eq!(
        other.get("/v1/projects").await.text("/projects/0/id"),
        project
    );
}

/// `track` has the numbers of `pluck.reference.json`, within its rounding.
pub(crate) fn assert_as_ffmpeg_says(track: &Value) {
    let reference: Value =
        serde_json::from_str(include_str!("../../assets/pluck.reference.json")).unwrap();
    let near = |found: &str, told: &str, rounding: f64| {
        let found = track[found].as_f64().unwrap_or(f64::NAN);
        let told = reference.pointer(told).unwrap().as_f64().unwrap();
        assert!(
            (found - told).abs() <= rounding,
            "{found} is not {told}: {track}"
        );
    };
    assert_eq!(track["state"], "done", "{track}");
    near("duration_s", "/duration/duration", 0.000_000_5);
    near("loudness_lufs", "/summary/integrated_lufs", 0.05);
    near("peak_dbfs", "/summary/sample_peak_dbfs", 0.05);
    let waveform = track["waveform"].as_array().unwrap();
    assert!(
        waveform.iter().any(|level| level.as_i64() > Some(50)),
        "{track}"
    );
}

#[tokio::test]
async fn every_answer_tells_how_much_of_the_limit_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    let answer = service.client().get("/v1/me").await;
    assert_eq!(answer.status, 401);
    let policy = answer.headers["ratelimit-policy"].to_str().unwrap();
    assert_eq!(policy, r#""addresses";q=6000000;w=60"#);
    assert!(
        answer.headers["ratelimit"]
            .to_str()
            .unwrap()
            .starts_with(r#""addresses";r="#)
    );
}
