//! Sessions that are none.

use maxscale_tests::eventually;
use reqwest::Method;
use serde_json::json;

use super::{LIMIT, assert_problem};
use crate::client::{Answer, Client, PASSWORD, send};
use crate::service::Service;

async fn me_with(client: &Client, name: &str, value: &[u8]) -> Answer {
    let value = reqwest::header::HeaderValue::from_bytes(value).unwrap();
    send(client.request(Method::GET, "/v1/me").header(name, value))
        .await
        .unwrap()
}

/// The whole `Set-Cookie` of a new account, and the token in it.
async fn cookie(service: &Service, email: &str) -> (String, String) {
    let body = json!({ "email": email, "password": PASSWORD, "name": "Ada" });
    let answer = service.client().post("/v1/signup", &body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let cookie = answer.headers["set-cookie"].to_str().unwrap().to_owned();
    let token = cookie.split(['=', ';']).nth(1).unwrap().to_owned();
    (cookie, token)
}

#[tokio::test]
async fn request_without_a_session_is_not_logged_in() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    let client = service.client();
    let id = "00000000-0000-7000-8000-000000000000";
    for (method, path) in [
        (Method::GET, "/v1/me".to_owned()),
        (Method::PATCH, "/v1/me".to_owned()),
        (Method::GET, "/v1/projects".to_owned()),
        (Method::POST, "/v1/projects".to_owned()),
        (Method::GET, format!("/v1/projects/{id}")),
        (Method::GET, format!("/v1/projects/{id}/tracks")),
        (Method::POST, format!("/v1/projects/{id}/tracks")),
        (Method::GET, format!("/v1/projects/{id}/tracks/{id}")),
    ] {
        let answer = send(client.request(method, &path)).await.unwrap();
        assert_problem(&answer, 401, "not_logged_in");
    }
}

#[tokio::test]
async fn logging_out_without_a_session_leaves_no_cookie_either() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    let logout = service.client().request(Method::POST, "/v1/logout");
    let logout = logout.header("cookie", "maxscale=mxs_over");
    let answer = send(logout).await.unwrap();
    assert_eq!(answer.status, 204, "{answer:?}");
    let cleared = answer.headers["set-cookie"].to_str().unwrap();
    assert!(cleared.starts_with("maxscale=;"), "{cleared}");
}

#[tokio::test]
async fn cookie_that_was_not_given_here_logs_nobody_in() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let service = Service::embedded(folders[0].path()).await;
    let other = Service::embedded(folders[1].path()).await;
    let (_, token) = cookie(&service, "ada@example.com").await;
    let (_, foreign) = cookie(&other, "ada@example.com").await;
    let client = service.client();
    let valid = format!("a=b; maxscale={token}; c=d");
    assert_eq!(
        me_with(&client, "cookie", valid.as_bytes()).await.status,
        200
    );

    let flipped = |at: usize| {
        let mut text = token.clone().into_bytes();
        text[at] = if text[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(text).unwrap()
    };
    let last = token.len() - 2;
    for bad in [
        String::new(),
        "garbage".to_owned(),
        "mxs_".to_owned(),
        format!("mxs_{}", "A".repeat(token.len() - 4)),
        "A".repeat(8000),
        foreign,
        flipped(5),
        flipped(token.len() / 2),
        flipped(last),
        format!("{token}A"),
        token[..token.len() - 1].to_owned(),
        token.to_uppercase(),
    ] {
        let cookie = format!("maxscale={bad}");
        let answer = me_with(&client, "cookie", cookie.as_bytes()).await;
        assert_problem(&answer, 401, "not_logged_in");
        let bearer = format!("Bearer {bad}");
        let answer = me_with(&client, "authorization", bearer.as_bytes()).await;
        assert_problem(&answer, 401, "not_logged_in");
    }
    let bytes = me_with(&client, "cookie", b"maxscale=\xff\xfe; maxscale").await;
    assert_problem(&bytes, 401, "not_logged_in");
}

#[tokio::test]
async fn cookie_of_a_session_that_was_ended_logs_nobody_in() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    let (_, token) = cookie(&service, "ada@example.com").await;
    let cookie = format!("maxscale={token}");
    let client = service.client();
    let logout = client.request(Method::POST, "/v1/logout");
    let answer = send(logout.header("cookie", &cookie)).await.unwrap();
    assert_eq!(answer.status, 204, "{answer:?}");
    let cleared = answer.headers["set-cookie"].to_str().unwrap();
    assert_eq!(
        cleared,
        "maxscale=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"
    );
    let answer = me_with(&client, "cookie", cookie.as_bytes()).await;
    assert_problem(&answer, 401, "not_logged_in");
}

#[tokio::test]
async fn wrong_password_and_unknown_email_are_told_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    service.client().sign_up("ada@example.com").await;
    let mut told = Vec::new();
    for (email, password) in [
        ("ada@example.com", "wrong horse battery staple"),
        ("eve@example.com", PASSWORD),
        ("ada@example.com", ""),
        ("ada@example.com", &"x".repeat(2000)),
        ("no address", PASSWORD),
    ] {
        let body = json!({ "email": email, "password": password });
        // After a failure the account waits a second, and after the next two.
        let answer = eventually(LIMIT, async || {
            let answer = service.client().post("/v1/login", &body).await;
            (answer.status != 429).then_some(answer)
        })
        .await;
        assert_problem(&answer, 401, "credentials");
        assert!(!answer.headers.contains_key("set-cookie"), "{answer:?}");
        told.push(super::shape(&answer));
    }
    assert!(told.iter().all(|body| *body == told[0]), "{told:?}");
}

#[tokio::test]
async fn session_cookie_is_out_of_reach_of_scripts_and_of_other_sites() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    let (plain, token) = cookie(&service, "ada@example.com").await;
    let ninety_days = 90 * 24 * 60 * 60;
    let expected =
        format!("maxscale={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={ninety_days}");
    assert_eq!(plain, expected);
}

#[tokio::test]
async fn session_cookie_of_a_site_under_tls_is_sent_there_only() {
    let folder = tempfile::tempdir().unwrap();
    let builder = Service::builder(folder.path());
    let builder = builder.env("MAXSCALE__HTTP__PUBLIC_URL", "https://tracks.example");
    let service = Service::start(builder).await;
    let (secure, token) = cookie(&service, "ada@example.com").await;
    assert!(
        secure.starts_with(&format!("__Host-maxscale={token}; Path=/; HttpOnly;")),
        "{secure}"
    );
    assert!(secure.ends_with("; Secure"), "{secure}");

    let client = service.client();
    let cookie = format!("__Host-maxscale={token}");
    assert_eq!(
        me_with(&client, "cookie", cookie.as_bytes()).await.status,
        200
    );
    // Another host of the site could have set this one.
    let cookie = format!("maxscale={token}");
    assert_problem(
        &me_with(&client, "cookie", cookie.as_bytes()).await,
        401,
        "not_logged_in",
    );
}
