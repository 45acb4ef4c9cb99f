//! Accounts as a client of their routes sees them.

mod api_keys;
#[cfg(feature = "jwt")]
mod tokens;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Extension;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use maxscale_auth::routes::{Routes, openapi};
use maxscale_auth::{Accounts, CookiePolicy, MailKind};
use maxscale_core::fact::ClientIp;
use maxscale_shard::Engine;
use maxscale_tests::eventually;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::letters::build;
use crate::support::{Bench, LIMIT, PASSWORD};

const ADA: &str = "ada@example.com";
const NEW_PASSWORD: &str = "another horse battery";

/// A browser of its own.
struct Visitor {
    router: Router,
    cookies: Vec<(String, String)>,
}

/// What was answered.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    set: Vec<String>,
    body: Value,
}

pub(crate) fn router(accounts: Accounts) -> Router {
    let router = Routes::new(accounts, CookiePolicy::new(true)).router();
    let here = ClientIp(IpAddr::V4(Ipv4Addr::LOCALHOST));
    Router::new()
        .nest("/auth", router.unwrap())
        .layer(Extension(here))
}

fn accounts(bench: &Bench) -> Accounts {
    let (ids, keys) = (bench.ids.clone(), bench.keys.clone());
    let builder = Accounts::builder(bench.router().clone(), ids, keys, bench.passwords.clone());
    build(builder.clock(bench.clock.clone()), &bench.letters)
}

async fn said(response: Response<Body>) -> Answer {
    let status = response.status();
    let set = response.headers().get_all(header::SET_COOKIE).iter();
    let set = set.map(|it| it.to_str().unwrap().to_owned()).collect();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Answer {
        status,
        set,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    }
}

impl Visitor {
    fn of(bench: &Bench) -> Self {
        Self {
            router: router(accounts(bench)),
            cookies: Vec::new(),
        }
    }

    fn request(&self, method: &Method, path: &str) -> http::request::Builder {
        let pairs = self.cookies.iter();
        let cookies: Vec<_> = pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        Request::builder()
            .method(method)
            .uri(format!("/auth{path}"))
            .header("sec-fetch-site", "same-origin")
            .header(header::COOKIE, cookies.join("; "))
    }

    async fn send(&mut self, request: Request<Body>) -> Answer {
        let answer = said(self.router.clone().oneshot(request).await.unwrap()).await;
        for line in &answer.set {
            let (name, rest) = line.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap().to_owned();
            self.cookies.retain(|(old, _)| old != name);
            if !rest.contains("Max-Age=0") {
                self.cookies.push((name.to_owned(), value));
            }
        }
        answer
    }

    /// Asks until it may: who has failed waits for a millisecond, and the next request
    /// may come sooner.
    async fn post(&mut self, path: &str, body: &Value) -> Answer {
        eventually(LIMIT, async || {
            let request = self
                .request(&Method::POST, path)
                .header(header::CONTENT_TYPE, "application/json");
            let request = request.body(Body::from(body.to_string())).unwrap();
            let answer = self.send(request).await;
            (answer.status != StatusCode::TOO_MANY_REQUESTS).then_some(answer)
        })
        .await
    }

    async fn ask(&mut self, method: Method, path: &str) -> Answer {
        let request = self.request(&method, path).body(Body::empty()).unwrap();
        self.send(request).await
    }

    /// Signs up, by the mail.
    async fn sign_up(&mut self, bench: &Bench) -> Answer {
        let new = json!({ "email": ADA, "password": PASSWORD, "name": "Ada" });
        let asked = self.post("/signup", &new).await;
        assert_eq!(asked.status, StatusCode::ACCEPTED, "{asked:?}");
        assert!(asked.set.is_empty());
        let token = bench.letters.token(MailKind::ConfirmSignUp, ADA).await;
        let confirm = json!({ "token": token, "password": PASSWORD });
        self.post("/email/verify", &confirm).await
    }

    async fn log_in(&mut self, password: &str) -> Answer {
        let body = json!({ "email": ADA, "password": password });
        self.post("/login", &body).await
    }

    async fn is_logged_in(&mut self) -> bool {
        let answer = self.ask(Method::GET, "/session").await;
        match answer.status {
            StatusCode::OK => true,
            StatusCode::UNAUTHORIZED => false,
            _ => panic!("{answer:?}"),
        }
    }
}

async fn sqlite() -> Bench {
    Bench::new(Engine::Sqlite).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_goes_from_sign_up_to_log_out() {
    let bench = sqlite().await;
    let mut ada = Visitor::of(&bench);
    assert!(!ada.is_logged_in().await);
    let begun = ada.sign_up(&bench).await;
    assert_eq!(begun.status, StatusCode::OK, "{begun:?}");
    assert_eq!(begun.body["user"]["email"], ADA);
    let [session, device] = &*begun.set else {
        panic!("{begun:?}");
    };
    assert!(session.starts_with("__Host-maxscale=mxs_"), "{session}");
    assert!(
        device.starts_with("__Host-maxscale-device=mxd_"),
        "{device}"
    );
    for line in [session, device] {
        for attribute in ["Path=/", "HttpOnly", "Secure", "SameSite=Strict"] {
            assert!(line.contains(attribute), "{line}");
        }
    }
    let shown = ada.ask(Method::GET, "/session").await;
    assert_eq!(shown.body["user"]["name"], "Ada");
    assert_eq!(shown.body["level"], 1);

    let out = ada.post("/logout", &json!({})).await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    assert!(!ada.is_logged_in().await);
    let again = ada.post("/logout", &json!({})).await;
    assert_eq!(again.status, StatusCode::NO_CONTENT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_listed_and_ended_by_their_user_only() {
    let bench = sqlite().await;
    let (mut laptop, mut phone) = (Visitor::of(&bench), Visitor::of(&bench));
    laptop.sign_up(&bench).await;
    assert_eq!(phone.log_in(PASSWORD).await.status, StatusCode::OK);
    let listed = laptop.ask(Method::GET, "/sessions").await.body;
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 2);
    let other = listed.iter().find(|it| it["current"] == false).unwrap();
    let path = format!("/sessions/{}", other["id"].as_str().unwrap());

    let mut stranger = Visitor::of(&bench);
    let refused = stranger.ask(Method::DELETE, &path).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(phone.is_logged_in().await);
    let ended = laptop.ask(Method::DELETE, &path).await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT);
    assert!(!phone.is_logged_in().await);
    for gone in [
        &*path,
        "/sessions/none",
        "/sessions/00000000-0000-0000-0000-000000000000",
    ] {
        let gone = laptop.ask(Method::DELETE, gone).await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND);
    }
    let out = laptop.post("/logout/all", &json!({})).await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    assert!(!laptop.is_logged_in().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn password_is_changed_and_reset() {
    let bench = sqlite().await;
    let (mut ada, mut other) = (Visitor::of(&bench), Visitor::of(&bench));
    ada.sign_up(&bench).await;
    other.log_in(PASSWORD).await;
    let change = json!({ "current": PASSWORD, "new": NEW_PASSWORD });
    let changed = ada.post("/password/change", &change).await;
    assert_eq!(changed.status, StatusCode::NO_CONTENT, "{changed:?}");
    assert!(ada.is_logged_in().await && !other.is_logged_in().await);

    let forgot = ada.post("/password/forgot", &json!({ "email": ADA })).await;
    assert_eq!(forgot.status, StatusCode::ACCEPTED);
    let token = bench.letters.token(MailKind::ResetPassword, ADA).await;
    let reset = json!({ "token": token, "password": PASSWORD });
    assert_eq!(
        other.post("/password/reset", &reset).await.status,
        StatusCode::NO_CONTENT
    );
    let twice = other.post("/password/reset", &reset).await;
    assert_eq!(twice.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(twice.body["code"], "mail_token");
    assert!(!ada.is_logged_in().await && !other.is_logged_in().await);
    assert_eq!(
        other.log_in(NEW_PASSWORD).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(ada.log_in(PASSWORD).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proof_is_renewed_and_the_old_secret_ends() {
    let bench = sqlite().await;
    let mut ada = Visitor::of(&bench);
    ada.sign_up(&bench).await;
    let mut old = Visitor::of(&bench);
    old.cookies.clone_from(&ada.cookies);
    let wrong = ada
        .post("/reauth", &json!({ "password": NEW_PASSWORD }))
        .await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(wrong.set.is_empty(), "{wrong:?}");
    let renewed = ada.post("/reauth", &json!({ "password": PASSWORD })).await;
    assert_eq!(renewed.status, StatusCode::NO_CONTENT, "{renewed:?}");
    assert_eq!(renewed.set.len(), 1);
    bench.time.advance(Duration::from_secs(11));
    assert!(ada.is_logged_in().await && !old.is_logged_in().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn magic_link_logs_in_once() {
    let bench = sqlite().await;
    let mut ada = Visitor::of(&bench);
    ada.sign_up(&bench).await;
    let mut phone = Visitor::of(&bench);
    let sent = phone.post("/magic/send", &json!({ "email": ADA })).await;
    assert_eq!(sent.status, StatusCode::ACCEPTED);
    let token = bench.letters.token(MailKind::LogIn, ADA).await;
    // What opens links in mails gets a page, and takes nothing.
    for path in ["/magic", &format!("/magic?token={token}")] {
        assert_eq!(phone.ask(Method::GET, path).await.status, StatusCode::OK);
    }
    let redeem = json!({ "token": token });
    assert_eq!(
        phone.post("/magic/redeem", &redeem).await.status,
        StatusCode::OK
    );
    assert!(phone.is_logged_in().await);
    let twice = Visitor::of(&bench).post("/magic/redeem", &redeem).await;
    assert_eq!(twice.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(twice.set.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_site_cannot_log_in_or_out() {
    let bench = sqlite().await;
    let mut ada = Visitor::of(&bench);
    ada.sign_up(&bench).await;
    for (path, body) in [
        ("/logout", json!({})),
        ("/login", json!({ "email": ADA, "password": PASSWORD })),
    ] {
        let mut request = ada
            .request(&Method::POST, path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        let site = "cross-site".parse().unwrap();
        request.headers_mut().insert("sec-fetch-site", site);
        let refused = ada.send(request).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        assert_eq!(refused.body["code"], "cross_site");
        assert!(refused.set.is_empty());
    }
    assert!(ada.is_logged_in().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_are_refused_and_consume_nothing() {
    let bench = sqlite().await;
    let mut ada = Visitor::of(&bench);
    ada.sign_up(&bench).await;
    ada.post("/password/forgot", &json!({ "email": ADA })).await;
    let token = bench.letters.token(MailKind::ResetPassword, ADA).await;
    let long = "x".repeat(Routes::MAX_BODY);
    let json_type = "application/json";
    let with_token = |rest: &str| format!("{{\"token\":\"{token}\",{rest}}}");
    for (content_type, body, status) in [
        (json_type, String::new(), 400),
        (json_type, "{".to_owned(), 400),
        (json_type, "\u{0}".to_owned(), 400),
        (json_type, "[".repeat(5_000), 422),
        (json_type, "{}".to_owned(), 422),
        (json_type, "[]".to_owned(), 422),
        (json_type, with_token("\"password\":null"), 422),
        (json_type, with_token("\"password\":7"), 422),
        (json_type, with_token("\"password\":\"short\""), 422),
        (
            json_type,
            with_token(&format!("\"password\":\"{long}\"")),
            413,
        ),
        (
            json_type,
            format!("{{\"token\":\"{token}x\",\"password\":\"{PASSWORD}\"}}"),
            422,
        ),
        (
            json_type,
            "{\"token\":\"mxm_\u{202e}\",\"password\":\"xxxxxxxxxxxxxxxxxx\"}".to_owned(),
            422,
        ),
        (
            json_type,
            with_token("\"password\":\"long enough a password\",\"admin\":true"),
            422,
        ),
        (
            "text/plain",
            with_token("\"password\":\"long enough a password\""),
            415,
        ),
        (
            "application/x-www-form-urlencoded",
            "token=1".to_owned(),
            415,
        ),
    ] {
        let request = ada
            .request(&Method::POST, "/password/reset")
            .header(header::CONTENT_TYPE, content_type)
            .body(Body::from(body.clone()))
            .unwrap();
        let refused = ada.send(request).await;
        let start: String = body.chars().take(60).collect();
        assert_eq!(refused.status.as_u16(), status, "{start}: {refused:?}");
        assert_eq!(refused.body["status"], status, "{start}: {refused:?}");
        assert!(!refused.body.to_string().contains(&token), "{start}");
    }
    let reset = json!({ "token": token, "password": NEW_PASSWORD });
    assert_eq!(
        ada.post("/password/reset", &reset).await.status,
        StatusCode::NO_CONTENT
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_headers_are_refused_or_nobody() {
    let bench = sqlite().await;
    let mut visitor = Visitor::of(&bench);
    for (value, status) in [
        (&b"__Host-maxscale=mxs_AAAA"[..], 401),
        (b"__Host-maxscale=\xff\xfe", 401),
        (b"__Host-maxscale=a; __Host-maxscale=b", 400),
        (b"=;;==", 401),
    ] {
        let mut request = visitor
            .request(&Method::GET, "/session")
            .body(Body::empty())
            .unwrap();
        let value = http::HeaderValue::from_bytes(value).unwrap();
        request.headers_mut().insert(header::COOKIE, value);
        let refused = visitor.send(request).await;
        assert_eq!(refused.status.as_u16(), status, "{refused:?}");
        assert_eq!(refused.body["status"], status);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_the_same_for_everybody_and_leak_no_token() {
    let bench = sqlite().await;
    let visitor = Visitor::of(&bench);
    for path in [
        "/confirm", "/reset", "/magic", "/email", "/undo", "/forgot", "/page.js",
    ] {
        let mut texts = Vec::new();
        for query in ["", "?token=%22%3E%3Cscript%3Ealert(1)%3C/script%3E"] {
            let request = visitor.request(&Method::GET, &format!("{path}{query}"));
            let request = request.body(Body::empty()).unwrap();
            let response = visitor.router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            let headers = response.headers().clone();
            assert_eq!(headers[header::REFERRER_POLICY], "no-referrer");
            assert_eq!(headers[header::CACHE_CONTROL], "no-store");
            let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(
                policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'")
            );
            assert!(!headers.contains_key(header::SET_COOKIE));
            texts.push(response.into_body().collect().await.unwrap().to_bytes());
        }
        assert_eq!(texts[0], texts[1], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn document_names_every_route_and_no_other() {
    let bench = sqlite().await;
    let mut visitor = Visitor::of(&bench);
    let document = serde_json::to_value(openapi()).unwrap();
    let mut named = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let answer = visitor.ask(method.clone(), path).await;
            let absent = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
            assert!(
                !absent.contains(&answer.status),
                "{method} {path}: {answer:?}"
            );
            named += 1;
        }
    }
    let source = include_str!("../../src/routes.rs");
    assert_eq!(named, source.matches(".route(").count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_clients_address_nothing_is_tried() {
    let bench = sqlite().await;
    let accounts = accounts(&bench);
    let router = Routes::new(accounts, CookiePolicy::new(true))
        .router()
        .unwrap();
    let request = Request::post("/login")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(
            json!({ "email": ADA, "password": PASSWORD }).to_string(),
        ));
    let answer = said(router.oneshot(request.unwrap()).await.unwrap()).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.body["status"], 500);
}
