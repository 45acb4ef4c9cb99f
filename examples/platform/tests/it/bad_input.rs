//! Bad requests: each is refused as problem+json, and leaves nothing behind.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Client, PASSWORD, send};
use crate::service::Service;

mod raw;
mod session;
mod upload;

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The answer is a problem (RFC 9457) of this status and code, and names its request.
pub(crate) fn assert_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    let header = |name: &str| {
        answer
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    assert_eq!(
        header("content-type"),
        Some("application/problem+json"),
        "{answer:?}"
    );
    assert_eq!(answer.body["type"], "about:blank", "{answer:?}");
    assert_eq!(answer.body["status"], status, "{answer:?}");
    assert_eq!(answer.body["code"], code, "{answer:?}");
    let phrase = answer.status.canonical_reason().unwrap();
    assert_eq!(answer.body["title"], phrase, "{answer:?}");
    assert_ne!(answer.text("/detail"), "");
    let scheme = (status == 401).then_some("Session");
    assert_eq!(header("www-authenticate"), scheme, "{answer:?}");
    assert_eq!(
        Some(&*answer.text("/request_id")),
        header("x-request-id"),
        "{answer:?}"
    );
    assert_eq!(answer.text("/trace_id").len(), 32, "{answer:?}");
}

/// A problem without what is different for each request.
fn shape(answer: &Answer) -> Value {
    let mut body = answer.body.clone();
    let members = body.as_object_mut().unwrap();
    assert!(members.remove("request_id").is_some() && members.remove("trace_id").is_some());
    body
}

/// A request with a body of this type.
async fn sent(client: &Client, method: Method, path: &str, kind: &str, body: &str) -> Answer {
    let request = client.request(method, path).header("content-type", kind);
    send(request.body(body.to_owned())).await.unwrap()
}

#[tokio::test]
async fn body_that_is_not_what_was_asked_for_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    let client = service.client();
    let json = "application/json";
    for (kind, body, status, code) in [
        // Not JSON.
        (json, "", 400, "invalid"),
        (json, "{\"email\":", 400, "invalid"),
        (
            json,
            r#"{"email":"a@b.example","password":"p","name":"A"} {}"#,
            400,
            "invalid",
        ),
        (json, "\u{feff}{}", 400, "invalid"),
        (
            json,
            r#"{"email":"\ud800","password":"","name":""}"#,
            400,
            "invalid",
        ),
        // JSON, and not this request's.
        (json, "[]", 422, "unprocessable"),
        (json, "{}", 422, "unprocessable"),
        (
            json,
            r#"{"email":"a@b.example","password":1,"name":"A"}"#,
            422,
            "unprocessable",
        ),
        (
            json,
            r#"{"email":null,"password":"p","name":"A"}"#,
            422,
            "unprocessable",
        ),
        (
            json,
            r#"{"email":"a@b.example","password":"p","name":"A","admin":true}"#,
            422,
            "unprocessable",
        ),
        (
            json,
            r#"{"email":"a@b.example","email":"c@d.example","password":"p","name":"A"}"#,
            422,
            "unprocessable",
        ),
        ("text/plain", "{}", 415, "unsupported_media"),
        (
            "application/x-www-form-urlencoded",
            "email=a",
            415,
            "unsupported_media",
        ),
    ] {
        let answer = sent(&client, Method::POST, "/v1/signup", kind, body).await;
        assert_problem(&answer, status, code);
    }
    let untyped = client.request(Method::POST, "/v1/signup").body("{}");
    assert_problem(&send(untyped).await.unwrap(), 415, "unsupported_media");
    let not_text = client.request(Method::POST, "/v1/signup");
    let not_text = not_text.header("content-type", json).body(vec![0xff, 0xfe]);
    assert_problem(&send(not_text).await.unwrap(), 400, "invalid");
    let named = sent(
        &client,
        Method::POST,
        "/v1/login",
        json,
        r#"{"email":"a@b.example","password":1827364550}"#,
    )
    .await;
    assert_problem(&named, 422, "unprocessable");
    assert!(!named.body.to_string().contains("18273"), "{named:?}");
    client.sign_up("a@b.example").await;
    let named = client.post("/v1/projects", &json!({})).await;
    assert!(named.text("/detail").contains("title"), "{named:?}");
}

#[tokio::test]
async fn json_over_its_limit_is_refused_with_and_without_a_length() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    let client = service.client();
    let body =
        json!({ "email": "a@b.example", "password": PASSWORD, "name": "A".repeat(64 * 1024) });
    let known = client.post("/v1/signup", &body).await;
    assert_problem(&known, 413, "too_large");
    let chunks = body.to_string().into_bytes();
    let chunks: Vec<_> = chunks
        .chunks(8192)
        .map(|c| Ok::<_, std::io::Error>(c.to_vec()))
        .collect();
    let request = client.request(Method::POST, "/v1/signup");
    let request = request.header("content-type", "application/json");
    let chunked = request.body(reqwest::Body::wrap_stream(futures_util::stream::iter(
        chunks,
    )));
    assert_problem(&send(chunked).await.unwrap(), 413, "too_large");
}

#[tokio::test]
async fn field_that_breaks_a_rule_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    let client = service.client();
    let long = |count: usize| "x".repeat(count);
    let email = "ada@example.com";
    for (email, password, name, code, field) in [
        ("", PASSWORD, "Ada", "email_invalid", "email"),
        ("ada", PASSWORD, "Ada", "email_invalid", "email"),
        (
            "a\u{0}@b.example",
            PASSWORD,
            "Ada",
            "email_invalid",
            "email",
        ),
        (
            &format!("{}@b.example", long(300)),
            PASSWORD,
            "Ada",
            "email_invalid",
            "email",
        ),
        (email, "", "Ada", "password_length", "password"),
        (email, &long(14), "Ada", "password_length", "password"),
        (email, &long(257), "Ada", "password_length", "password"),
        (email, PASSWORD, "", "name_invalid", "name"),
        (email, PASSWORD, " \t ", "name_invalid", "name"),
        (email, PASSWORD, "a\u{7}b", "name_invalid", "name"),
        (email, PASSWORD, &long(101), "name_invalid", "name"),
    ] {
        let body = json!({ "email": email, "password": password, "name": name });
        let answer = client.post("/v1/signup", &body).await;
        assert_problem(&answer, 422, code);
        assert!(answer.text("/detail").contains(field), "{answer:?}");
    }
    // The bounds themselves are fine, and so are long letters.
    let words = |words: &str, chars| words.chars().cycle().take(chars).collect::<String>();
    let latin = "pack my box with five dozen jugs ";
    for (at, password) in [
        words(latin, 15),
        words(latin, 256),
        words("съешь же ещё этих мягких булок ", 256),
    ]
    .iter()
    .enumerate()
    {
        let body =
            json!({ "email": format!("ada{at}@example.com"), "password": password, "name": "Ada" });
        assert_eq!(
            client.post("/v1/signup", &body).await.status,
            201,
            "{password}"
        );
    }
    for title in ["", "  ", "a\u{0}b", "a\nb", &long(201)] {
        let answer = client
            .post("/v1/projects", &json!({ "title": title }))
            .await;
        assert_problem(&answer, 422, "unprocessable");
        assert!(answer.text("/detail").contains("title"), "{answer:?}");
    }
    let renamed = client.patch("/v1/me", &json!({ "name": long(101) })).await;
    assert_problem(&renamed, 422, "name_invalid");
    assert_eq!(client.get("/v1/me").await.text("/user/name"), "Ada");
    assert_eq!(client.get("/v1/projects").await.body["projects"], json!([]));
}

#[tokio::test]
async fn email_that_has_an_account_is_a_conflict_however_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    service.client().sign_up("ada@example.com").await;
    for email in ["ada@example.com", "ADA@Example.COM", " ada@example.com "] {
        let body = json!({ "email": email, "password": PASSWORD, "name": "Eve" });
        let answer = service.client().post("/v1/signup", &body).await;
        assert_problem(&answer, 409, "email_taken");
        assert!(!answer.headers.contains_key("set-cookie"), "{answer:?}");
    }
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_yours_look_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    let (ada, eve) = (service.client(), service.client());
    ada.sign_up("ada@example.com").await;
    eve.sign_up("eve@example.com").await;
    let theirs = ada.project("Hers").await;
    let own = eve.project("Mine").await;
    let track = send(ada.upload(&theirs, crate::client::PLUCK))
        .await
        .unwrap()
        .text("/track/id");

    // Of the right form, and of nobody's: one digit of the random part differs.
    let nobodys = |id: &str| {
        let last = if id.ends_with('0') { '1' } else { '0' };
        format!("{}{last}", &id[..id.len() - 1])
    };
    let (unknown, no_track) = (nobodys(&theirs), nobodys(&track));
    for (foreign, absent) in [
        (
            format!("/v1/projects/{theirs}"),
            format!("/v1/projects/{unknown}"),
        ),
        (
            format!("/v1/projects/{theirs}/tracks"),
            format!("/v1/projects/{unknown}/tracks"),
        ),
        (
            format!("/v1/projects/{theirs}/tracks/{track}"),
            format!("/v1/projects/{unknown}/tracks/{no_track}"),
        ),
        (
            format!("/v1/projects/{own}/tracks/{track}"),
            format!("/v1/projects/{own}/tracks/{no_track}"),
        ),
    ] {
        let (foreign, absent) = (eve.get(&foreign).await, eve.get(&absent).await);
        assert_problem(&foreign, 404, "not_found");
        assert_problem(&absent, 404, "not_found");
        assert_eq!(shape(&foreign), shape(&absent));
    }
    let refused = send(eve.upload(&theirs, crate::client::PLUCK))
        .await
        .unwrap();
    assert_problem(&refused, 404, "not_found");
    let tracks = ada.get(&format!("/v1/projects/{theirs}/tracks")).await;
    assert_eq!(
        tracks.body["tracks"].as_array().map(Vec::len),
        Some(1),
        "{tracks:?}"
    );
}

#[tokio::test]
async fn path_that_leads_nowhere_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    let client = service.client();
    client.sign_up("ada@example.com").await;
    let project = client.project("Mine").await;
    let long = format!("/v1/projects/{}", "a".repeat(4000));
    let track = format!("/v1/projects/{project}/tracks/x");
    for path in [
        "/",
        "/nothing",
        "/v1",
        "/v1/projects/",
        "/v1/projects/x",
        "/v1/projects/00000000-0000-0000-0000-000000000000",
        "/v1/projects/ffffffff-ffff-ffff-ffff-ffffffffffff",
        "/v1/projects/%00",
        "/v1/projects/%FF",
        "/v1/projects/%FF/tracks",
        "/v1/projects/..%2F..%2Fetc",
        &track,
        &long,
    ] {
        assert_problem(&client.get(path).await, 404, "not_found");
    }
}

#[tokio::test]
async fn method_that_is_not_offered_is_told_which_are() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    let client = service.client();
    client.sign_up("ada@example.com").await;
    let tracks = format!("/v1/projects/{}/tracks", client.project("Mine").await);
    for (method, path, offered) in [
        (Method::GET, "/v1/signup", "POST"),
        (Method::DELETE, "/v1/me", "GET,HEAD,PATCH"),
        (Method::OPTIONS, "/v1/projects", "GET,HEAD,POST"),
        (Method::PUT, &tracks, "GET,HEAD,POST"),
        (Method::POST, "/readyz", "GET,HEAD"),
        (Method::DELETE, "/metrics", "GET,HEAD"),
    ] {
        let answer = send(client.request(method, path)).await.unwrap();
        assert_eq!(answer.status, 405, "{path} {answer:?}");
        assert_eq!(
            answer.body["code"], "method_not_allowed",
            "{path} {answer:?}"
        );
        let allow = answer.headers["allow"].to_str().unwrap();
        let mut allow: Vec<_> = allow.split(',').map(str::trim).collect();
        allow.sort_unstable();
        allow.dedup();
        assert_eq!(allow.join(","), offered, "{path}");
    }
    for (path, status) in [
        ("/v1/me", 200),
        (&tracks, 200),
        ("/nothing", 404),
        ("/livez", 200),
    ] {
        let head = send(client.request(Method::HEAD, path)).await.unwrap();
        assert_eq!(head.status, status, "{path} {head:?}");
        assert_eq!(head.body, Value::Null, "{path}");
    }
}

/// Sends what `request` makes until it is refused for its number.
async fn until_limited(request: impl AsyncFn() -> Answer) -> Answer {
    // A tenth of ten a minute may come at once, so the second is refused
    // unless the first took six seconds.
    for _ in 0..20 {
        let answer = request().await;
        if answer.status == 429 {
            return answer;
        }
        assert_eq!(answer.status, 401, "{answer:?}");
    }
    panic!("none of twenty is refused");
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let builder =
        Service::builder(folder.path()).env("MAXSCALE__LIMITS__ADDRESSES_PER_MINUTE", "10");
    let service = Service::start(builder).await;
    let client = service.client();
    assert_problem(&client.get("/v1/me").await, 401, "not_logged_in");
    assert_limited(
        &until_limited(async || client.get("/v1/me").await).await,
        "\"addresses\"",
    );
    // Neither who asks for nothing nor who sends rubbish asks for free.
    assert_limited(&client.get("/nothing").await, "\"addresses\"");
    let rubbish = sent(&client, Method::POST, "/v1/signup", "text/plain", "rubbish").await;
    assert_limited(&rubbish, "\"addresses\"");
    for probe in ["/livez", "/startupz", "/readyz", "/health", "/metrics"] {
        assert_eq!(client.get(probe).await.status, 200, "{probe}");
    }
}

#[tokio::test]
async fn logins_of_an_address_are_limited_by_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let builder = Service::builder(folder.path());
    let builder = builder.env("MAXSCALE__LIMITS__LOGINS_PER_MINUTE", "10");
    let service = Service::start(builder).await;
    let client = service.client();
    let login = json!({ "email": "ada@example.com", "password": PASSWORD });
    let first = client.post("/v1/login", &login).await;
    assert_problem(&first, 401, "credentials");
    let refused = until_limited(async || client.post("/v1/login", &login).await).await;
    assert_limited(&refused, "\"logins\"");
    let signup = json!({ "email": "ada@example.com", "password": PASSWORD, "name": "Ada" });
    assert_limited(&client.post("/v1/signup", &signup).await, "\"logins\"");
    assert_problem(&client.get("/v1/me").await, 401, "not_logged_in");
}

fn assert_limited(answer: &Answer, policy: &str) {
    assert_problem(answer, 429, "limited");
    let wait: u64 = answer.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&wait), "{answer:?}");
    for name in ["ratelimit", "ratelimit-policy"] {
        let values = answer.headers.get_all(name).iter();
        let told = values.filter_map(|value| value.to_str().ok());
        assert!(
            told.into_iter().any(|value| value.starts_with(policy)),
            "{name}: {answer:?}"
        );
    }
}
