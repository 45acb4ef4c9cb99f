//! API keys, as their owner makes and ends them.

use axum::Router;
use axum::extract::Extension;
use http::{Method, StatusCode};
use maxscale_auth::api_key::{ApiKeyForm, Scopes};
use maxscale_auth::routes::{Routes, openapi, openapi_with_api_keys};
use maxscale_auth::{Accounts, ApiKeys, CookiePolicy};
use maxscale_core::fact::ClientIp;
use serde_json::{Value, json};

use super::{Answer, Visitor, accounts, sqlite};
use crate::support::{Bench, PASSWORD};

const HERE: ClientIp = ClientIp(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

/// A visitor of a service that has keys, and who recognises them.
fn desk(bench: &Bench) -> (Visitor, ApiKeys) {
    let accounts: Accounts = accounts(bench);
    let form = ApiKeyForm::new("acme", "test").unwrap();
    let scopes = Scopes::new(["read", "write"]).unwrap();
    let keys = ApiKeys::builder(accounts.clone(), form, scopes).build();
    let routes = Routes::new(accounts, CookiePolicy::new(true)).api_keys(keys.clone());
    let router = Router::new()
        .nest("/auth", routes.router().unwrap())
        .layer(Extension(HERE));
    let visitor = Visitor {
        router,
        cookies: Vec::new(),
    };
    (visitor, keys)
}

fn read_only() -> Value {
    json!({ "name": "backup", "scopes": ["read"] })
}

async fn recognises(keys: &ApiKeys, made: &Answer) -> bool {
    let text = made.body["key"].as_str().unwrap();
    keys.recognise(text, &HERE).await.unwrap().is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_is_made_listed_exchanged_and_ended() {
    let bench = sqlite().await;
    let (mut ada, keys) = desk(&bench);
    ada.sign_up(&bench).await;
    let body = json!({ "name": "backup", "scopes": ["read", "write"], "expires_in": 3_600,
        "quota": { "requests": 100, "seconds": 60 } });
    let made = ada.post("/api-keys", &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    assert!(recognises(&keys, &made).await);
    let created_at = made.body["created_at"].as_u64().unwrap();
    assert_eq!(made.body["expires_at"], created_at + 3_600_000);
    keys.shutdown().await.unwrap();
    let listed = ada.ask(Method::GET, "/api-keys").await.body;
    let mut expected = made.body.clone();
    expected.as_object_mut().unwrap().remove("key");
    expected["used_at"] = json!(created_at);
    assert_eq!(listed, json!([expected]), "all but the key itself");

    let path = format!("/api-keys/{}", made.body["id"].as_str().unwrap());
    let rotate = format!("{path}/rotate");
    let next = ada.post(&rotate, &json!({ "overlap": 60 })).await;
    assert_eq!(next.status, StatusCode::CREATED, "{next:?}");
    assert!(recognises(&keys, &made).await && recognises(&keys, &next).await);
    let at_once = ada.post(&rotate, &json!({ "overlap": 0 })).await;
    assert!(!recognises(&keys, &made).await && recognises(&keys, &at_once).await);
    let path = format!("/api-keys/{}", next.body["id"].as_str().unwrap());
    let ended = ada.ask(Method::DELETE, &path).await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT);
    assert!(!recognises(&keys, &next).await);
    for gone in [&*path, "/api-keys/none"] {
        let gone = ada.ask(Method::DELETE, gone).await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_need_their_user_and_a_fresh_proof_to_be_made() {
    let bench = sqlite().await;
    let (mut ada, keys) = desk(&bench);
    let nobody = ada.post("/api-keys", &read_only()).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    ada.sign_up(&bench).await;
    let made = ada.post("/api-keys", &read_only()).await;
    bench.time.advance(Accounts::FRESH_FOR * 2);
    let rotate = format!("/api-keys/{}/rotate", made.body["id"].as_str().unwrap());
    for (path, body) in [("/api-keys", read_only()), (&*rotate, json!({}))] {
        let stale = ada.post(path, &body).await;
        assert_eq!(stale.status, StatusCode::FORBIDDEN);
        assert_eq!(stale.body["code"], "fresh_auth_required");
    }
    ada.post("/reauth", &json!({ "password": PASSWORD })).await;
    let made = ada.post("/api-keys", &read_only()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");

    // A key does not open the routes of keys.
    let mut thief = desk(&bench).0;
    let text = made.body["key"].as_str().unwrap();
    let request = thief.request(&Method::GET, "/api-keys");
    let request = request.header(http::header::AUTHORIZATION, format!("Bearer {text}"));
    let refused = thief
        .send(request.body(axum::body::Body::empty()).unwrap())
        .await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(recognises(&keys, &made).await);
    // And where there are none, there are no routes.
    let none = Visitor::of(&bench).ask(Method::GET, "/api-keys").await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_asks_for_no_key_is_told_so_and_leaves_none() {
    let bench = sqlite().await;
    let (mut ada, _) = desk(&bench);
    ada.sign_up(&bench).await;
    for bad in [
        json!({}),
        json!([]),
        json!({ "name": "a" }),
        json!({ "name": "", "scopes": ["read"] }),
        json!({ "name": "a", "scopes": [] }),
        json!({ "name": "a", "scopes": ["admin"] }),
        json!({ "name": "a", "scopes": "read" }),
        json!({ "name": "a", "scopes": ["read"], "expires_in": 0 }),
        json!({ "name": "a", "scopes": ["read"], "expires_in": -1 }),
        json!({ "name": "a", "scopes": ["read"], "expires_in": u64::MAX }),
        json!({ "name": "a", "scopes": ["read"], "quota": { "requests": 0, "seconds": 1 } }),
        json!({ "name": "a", "scopes": ["read"], "quota": { "requests": 1, "seconds": 0 } }),
        json!({ "name": "a", "scopes": ["read"], "quota": { "requests": 1, "seconds": u64::MAX } }),
        json!({ "name": "a", "scopes": ["read"], "owner": "eve" }),
    ] {
        let answer = ada.post("/api-keys", &bad).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
    let listed = ada.ask(Method::GET, "/api-keys").await;
    assert_eq!(listed.body, json!([]));
    let made = ada.post("/api-keys", &read_only()).await;
    let rotate = format!("/api-keys/{}/rotate", made.body["id"].as_str().unwrap());
    for bad in [
        json!([]),
        json!({ "overlap": u64::MAX }),
        json!({ "overlap": "1" }),
    ] {
        let answer = ada.post(&rotate, &bad).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
    let listed = ada.ask(Method::GET, "/api-keys").await;
    assert_eq!(listed.body.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn document_with_api_keys_names_their_routes_too() {
    let document = serde_json::to_value(openapi_with_api_keys(openapi())).unwrap();
    let paths = document["paths"].as_object().unwrap();
    for (path, method) in [
        ("/api-keys", "get"),
        ("/api-keys", "post"),
        ("/api-keys/{id}", "delete"),
        ("/api-keys/{id}/rotate", "post"),
    ] {
        assert!(paths[path][method].is_object(), "{path}");
    }
    assert!(paths.contains_key("/login"));
}
