//! What has run out is deleted.

use std::path::Path;
use std::time::Duration;

use maxscale_shard::{Database, DatabaseOptions, sql};
use maxscale_tests::eventually;
use serde_json::json;

use crate::client::PASSWORD;
use crate::service::Service;

const LIMIT: Duration = Duration::from_secs(60);

/// The databases of a service that runs in `folder`.
fn nodes(folder: &Path) -> impl Iterator<Item = Database> {
    (1..=4).map(move |number| {
        let file = folder.join(format!(".maxscale/node-{number}.db"));
        let url = format!("sqlite://{}", file.display());
        Database::open("asked", &url, &DatabaseOptions::default()).unwrap()
    })
}

/// How many sessions there are, of which so many have an id.
async fn sessions(folder: &Path) -> usize {
    let mut count = 0;
    for node in nodes(folder) {
        let rows = node
            .fetch_all(sql("SELECT session_id FROM ms_session"))
            .await;
        count += rows.unwrap().len();
        node.close().await;
    }
    count
}

#[tokio::test]
async fn rows_of_sessions_that_are_over_are_deleted_and_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    for number in 0..5 {
        let email = format!("u{number}@example.com");
        service.client().sign_up(&email).await;
    }
    service.process.terminate();
    assert!(service.process.wait(LIMIT).await.success());
    for node in nodes(folder.path()) {
        let past = "UPDATE ms_session SET ends_at = 1";
        node.execute(sql(past)).await.unwrap();
        node.close().await;
    }
    assert_eq!(sessions(folder.path()).await, 5);

    let service = Service::embedded(folder.path()).await;
    let ada = service.client();
    let body = json!({ "email": "u0@example.com", "password": PASSWORD });
    assert_eq!(ada.post("/v1/login", &body).await.status, 200);
    eventually(LIMIT, async || {
        let left = sessions(folder.path()).await;
        (left == 1).then_some(()).ok_or(left)
    })
    .await;
    assert_eq!(ada.get("/v1/me").await.status, 200);
}
