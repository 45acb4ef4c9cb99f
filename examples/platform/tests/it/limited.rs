//! Every route stands behind limits, and each user behind its own.

use std::collections::BTreeSet;

use reqwest::Method;

use crate::client::{Answer, PLUCK, send};
use crate::service::Service;

/// Where all routes are written down, and what they begin with there.
const ROUTES: [(&str, &str); 2] = [
    (include_str!("../../src/http.rs"), ""),
    (
        include_str!("../../../../maxscale-auth/src/routes.rs"),
        "/v1",
    ),
];

fn told(answer: &Answer, policy: &str) -> bool {
    let named = |name: &str| {
        let values = answer.headers.get_all(name).iter();
        let quoted = format!("\"{policy}\";");
        values
            .into_iter()
            .any(|it| it.to_str().unwrap().contains(&quoted))
    };
    assert_eq!(named("ratelimit"), named("ratelimit-policy"), "{answer:?}");
    named("ratelimit")
}

fn routes() -> BTreeSet<String> {
    let parts = |(text, under): &(&'static str, &'static str)| {
        let (parts, under) = (text.split(".route(").skip(1), *under);
        parts.map(move |part| format!("{under}{}", part.split('"').nth(1).unwrap()))
    };
    let paths = ROUTES.iter().flat_map(parts);
    let paths: BTreeSet<String> = paths.map(|path| path.replace(['{', '}'], "")).collect();
    assert!(paths.len() > 20, "{paths:?}");
    paths
}

#[tokio::test]
async fn every_route_tells_how_much_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    let (nobody, ada) = (service.client(), service.client());
    ada.sign_up("ada@example.com").await;
    for path in routes() {
        for method in [Method::GET, Method::POST, Method::PATCH] {
            for client in [&nobody, &ada] {
                let answer = send(client.request(method.clone(), &path)).await.unwrap();
                assert!(told(&answer, "addresses"), "{method} {path}: {answer:?}");
            }
            // The first round logs her out.
            ada.post(
                "/v1/login",
                &serde_json::json!({
                    "email": "ada@example.com", "password": crate::client::PASSWORD,
                }),
            )
            .await;
        }
    }
    assert!(told(&ada.get("/v1/me").await, "requests"));
    assert!(!told(&nobody.get("/v1/me").await, "requests"));
    assert!(told(&ada.get("/nothing").await, "addresses"));
    for probe in ["/livez", "/startupz", "/readyz", "/health", "/metrics"] {
        assert!(!told(&nobody.get(probe).await, "addresses"), "{probe}");
    }
}

#[tokio::test]
async fn user_over_the_tier_is_denied_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    // A burst of 6, and one more each second.
    let builder = Service::builder(folder.path()).env("MAXSCALE__LIMITS__PER_MINUTE", "60");
    let service = Service::start(builder).await;
    let (ada, bob) = (service.client(), service.client());
    ada.sign_up("ada@example.com").await;
    bob.sign_up("bob@example.com").await;
    let mut admitted = 0;
    let denied = loop {
        let answer = ada.get("/v1/me").await;
        if answer.status == 429 {
            break answer;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        admitted += 1;
        assert!(admitted < 60, "nobody is ever denied");
    };
    assert!(admitted >= 5, "{admitted}");
    assert!(told(&denied, "requests"), "{denied:?}");
    assert_eq!(bob.get("/v1/me").await.status, 200);
    assert_eq!(service.client().get("/v1/me").await.status, 401);
}

#[tokio::test]
async fn uploads_are_limited_by_themselves_and_a_denied_one_costs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    // One, and the next in a minute.
    let builder = Service::builder(folder.path());
    let builder = builder.env("MAXSCALE__LIMITS__UPLOADS_PER_MINUTE", "1");
    let service = Service::start(builder).await;
    let ada = service.client();
    ada.sign_up("ada@example.com").await;
    let project = ada.project("one").await;
    let upload = async || send(ada.upload(&project, PLUCK)).await.unwrap();
    assert_eq!(upload().await.status, 202);
    let denied = upload().await;
    assert_eq!(denied.status, 429, "{denied:?}");
    assert!(told(&denied, "uploads") && told(&denied, "requests"));
    assert_eq!(ada.get("/v1/me").await.status, 200);
}

#[tokio::test]
async fn address_that_looks_for_what_is_not_there_is_slowed_down() {
    let folder = tempfile::tempdir().unwrap();
    // A burst of one, and the next in six seconds.
    let builder = Service::builder(folder.path());
    let builder = builder.env("MAXSCALE__LIMITS__SUSPICIOUS_PER_MINUTE", "10");
    let service = Service::start(builder).await;
    let client = service.client();
    let mut scans = 0;
    while client.get(&format!("/wp-{scans}.php")).await.status != 429 {
        scans += 1;
        assert!(scans < 200, "nobody minds");
    }
    assert!(scans >= 50, "{scans}");
    let denied = client.get("/v1/me").await;
    assert_eq!(denied.status, 429);
    let told = denied.headers["ratelimit-policy"].to_str().unwrap();
    assert_eq!(told, "\"addresses\";q=10;w=60");
    assert_eq!(client.get("/livez").await.status, 200);
}
