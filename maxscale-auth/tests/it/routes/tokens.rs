//! Tokens for programs, as they ask for them.

use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use http::{Method, StatusCode};
use maxscale_auth::jwt::{SessionTokens, TokenError, TokenGrants};
use maxscale_auth::routes::{Routes, openapi_with_tokens};
use maxscale_auth::session::RefreshTokens;
use maxscale_auth::{Accounts, CookiePolicy};
use maxscale_core::fact::ClientIp;
use serde_json::{Value, json};

use super::{Answer, Visitor, accounts, sqlite};
use crate::signing_keys::tokens;
use crate::support::{Bench, keys};

/// A visitor of a service that gives tokens, and who recognises them.
async fn desk(bench: &Bench) -> (Visitor, SessionTokens) {
    let accounts: Accounts = accounts(bench);
    let sessions = accounts.sessions();
    let issued = SessionTokens::new(sessions.clone(), tokens(), bench.keep().await).unwrap();
    let refresh = RefreshTokens::new(sessions.clone(), bench.rows(), keys());
    let grants = TokenGrants::new(accounts.clone(), issued.clone(), refresh).unwrap();
    let routes = Routes::new(accounts, CookiePolicy::new(true)).tokens(grants);
    let here = ClientIp([127, 0, 0, 1].into());
    let router = Router::new()
        .nest("/auth", routes.router().unwrap())
        .layer(Extension(here));
    let visitor = Visitor {
        router,
        cookies: Vec::new(),
    };
    (visitor, issued)
}

fn text<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.body[name].as_str().unwrap()
}

fn by(token: &str) -> Value {
    json!({ "grant_type": "refresh_token", "refresh_token": token })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_is_exchanged_for_tokens_and_these_for_the_next() {
    let bench = sqlite().await;
    let (mut ada, tokens) = desk(&bench).await;
    ada.sign_up(&bench).await;
    let session = ada.ask(Method::GET, "/session").await;
    let begun = ada
        .post("/token", &json!({ "grant_type": "session" }))
        .await;
    assert_eq!(begun.status, StatusCode::OK, "{begun:?}");
    assert_eq!(begun.body["token_type"], "Bearer");
    assert_eq!(begun.body["expires_in"], 900);
    assert!(begun.set[0].contains("Max-Age=0"), "{begun:?}");
    assert!(!ada.is_logged_in().await);
    let first = tokens
        .recognise(text(&begun, "access_token"))
        .await
        .unwrap();
    assert_eq!(session.body["user"]["id"], first.user().to_string());
    assert_ne!(session.body["session"], first.session().to_string());

    let next = ada.post("/token", &by(text(&begun, "refresh_token"))).await;
    assert_eq!(next.status, StatusCode::OK, "{next:?}");
    assert!(next.set.is_empty());
    let second = tokens.recognise(text(&next, "access_token")).await.unwrap();
    assert_eq!(second.session(), first.session());

    // A second one who has the first refresh token ends it all.
    bench.time.advance(Duration::from_secs(11));
    let late = ada.post("/token", &by(text(&begun, "refresh_token"))).await;
    assert_eq!(late.status, StatusCode::UNAUTHORIZED, "{late:?}");
    assert_eq!(late.body["code"], "refresh_token");
    let over = tokens.recognise(text(&next, "access_token")).await;
    assert!(matches!(over, Err(TokenError::Over)), "{over:?}");
    let last = ada.post("/token", &by(text(&next, "refresh_token"))).await;
    assert_eq!(last.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_asks_for_no_token_is_told_so_and_takes_nothing() {
    let bench = sqlite().await;
    let (mut ada, _) = desk(&bench).await;
    ada.sign_up(&bench).await;
    for bad in [
        json!({}),
        json!([]),
        json!({ "grant_type": "password" }),
        json!({ "grant_type": 1 }),
        json!({ "grant_type": "refresh_token" }),
        json!({ "grant_type": "refresh_token", "refresh_token": 5 }),
        json!({ "grant_type": "session", "scope": "all" }),
    ] {
        let answer = ada.post("/token", &bad).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
        assert!(answer.set.is_empty());
    }
    for none in ["", "mxr_", "mxs_", "a.b.c"] {
        let answer = ada.post("/token", &by(none)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{none}");
        assert_eq!(answer.body["code"], "refresh_token");
    }
    assert!(ada.is_logged_in().await);
    let (mut nobody, _) = desk(&bench).await;
    let session = json!({ "grant_type": "session" });
    let answer = nobody.post("/token", &session).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    // Of a service that gives none.
    let answer = Visitor::of(&bench).post("/token", &session).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn document_with_tokens_names_their_route_too() {
    let document = serde_json::to_value(openapi_with_tokens()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths["/token"]["post"].is_object(), "{paths:?}");
    assert!(paths.contains_key("/login"));
    let schemas = document["components"]["schemas"].as_object().unwrap();
    assert!(schemas.contains_key("Tokens") && schemas.contains_key("Grant"));
}
