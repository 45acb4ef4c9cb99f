//! Single questions to the platform, each on a connection of its own.

use std::net::SocketAddr;
use std::time::Duration;

use maxscale_tests::eventually;
use serde_json::{Value, json};

use crate::client::PASSWORD;
use crate::wire::{End, Head, Reply, Wire};

const LIMIT: Duration = Duration::from_secs(60);

/// `host:port` of a base URL.
pub(crate) fn address(base: &str) -> SocketAddr {
    base.trim_start_matches("http://").parse().unwrap()
}

/// Logs in; gives the cookie.
pub(crate) async fn log_in(address: SocketAddr, email: &str) -> String {
    let body = json!({ "email": email, "password": PASSWORD }).to_string();
    let head = Head {
        method: "POST",
        path: "/v1/login",
        id: "login",
        kind: "application/json",
        length: body.len(),
        ..Head::default()
    };
    let mut wire = Wire::connect(address).await.unwrap();
    match wire.exchange(&head, body.as_bytes()).await {
        End::Answer(reply) if reply.status == 200 => cookie_of(&reply),
        end => panic!("{end:?}"),
    }
}

/// The session of an answer to a login.
pub(crate) fn cookie_of(reply: &Reply) -> String {
    let cookie = reply.header("set-cookie").unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

/// What is listed at `path`, under `pointer`.
pub(crate) async fn list(
    address: SocketAddr,
    cookie: &str,
    path: &str,
    pointer: &str,
) -> Vec<Value> {
    let head = Head {
        method: "GET",
        path,
        id: "list",
        cookie,
        ..Head::default()
    };
    let mut wire = Wire::connect(address).await.unwrap();
    match wire.exchange(&head, b"").await {
        End::Answer(reply) if reply.status == 200 => {
            let body: Value = serde_json::from_slice(&reply.body).unwrap();
            body.pointer(pointer).unwrap().as_array().unwrap().clone()
        }
        end => panic!("{path}: {end:?}"),
    }
}

/// How many tracks a user has.
pub(crate) async fn tracks(address: SocketAddr, cookie: &str) -> usize {
    let projects = list(address, cookie, "/v1/projects", "/projects").await;
    let mut count = 0;
    for project in &projects {
        let path = format!("/v1/projects/{}/tracks", project["id"].as_str().unwrap());
        count += list(address, cookie, &path, "/tracks").await.len();
    }
    count
}

/// Waits until each track of a list is measured.
pub(crate) async fn all_done(address: SocketAddr, cookie: &str, path: &str) {
    eventually(LIMIT, async || {
        let found = list(address, cookie, path, "/tracks").await;
        found.iter().all(|one| one["state"] == "done")
    })
    .await;
}
