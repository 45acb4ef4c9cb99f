//! What another site has a browser send changes nothing.

use reqwest::Method;
use serde_json::{Value, json};

use crate::bad_input::assert_problem;
use crate::client::{Client, send};
use crate::service::Service;

const PUBLIC: &str = "https://tracks.example";

/// Sends a change with the session's cookie and these headers; gives status and code.
async fn change(client: &Client, cookie: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    let request = client.request(Method::POST, "/v1/projects");
    let mut request = request.json(&json!({ "title": "Theirs" }));
    request = request.header("cookie", cookie);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = send(request).await.unwrap();
    if answer.status == 403 {
        assert_problem(&answer, 403, "cross_site");
    }
    (answer.status.as_u16(), answer.body["code"].clone())
}

/// The cookie of a new account, as a request brings it.
async fn session(service: &Service) -> String {
    let body = json!({
        "email": "ada@example.com", "password": crate::client::PASSWORD, "name": "Ada",
    });
    let answer = service.client().post("/v1/signup", &body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn request_from_another_site_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    let (cookie, client) = (session(&service).await, service.client());
    let elsewhere = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ];
    for header in elsewhere {
        let (status, code) = change(&client, &cookie, &[header]).await;
        assert_eq!((status, code), (403, json!("cross_site")), "{header:?}");
        for path in ["/v1/logout", "/v1/login"] {
            let request = client.request(Method::POST, path).header("cookie", &cookie);
            let answer = send(request.header(header.0, header.1)).await.unwrap();
            assert_problem(&answer, 403, "cross_site");
        }
    }
    // Nobody was logged out, and what the pages of the service send is taken.
    for header in [
        ("sec-fetch-site", "same-origin"),
        ("origin", service.base()),
    ] {
        assert_eq!(
            change(&client, &cookie, &[header]).await.0,
            201,
            "{header:?}"
        );
    }
    // A program that keeps cookies, on a machine of one's own.
    assert_eq!(change(&client, &cookie, &[]).await.0, 201);
}

#[tokio::test]
async fn under_tls_who_brings_a_cookie_says_where_he_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let builder = Service::builder(folder.path()).env("MAXSCALE__HTTP__PUBLIC_URL", PUBLIC);
    let service = Service::start(builder).await;
    let (cookie, client) = (session(&service).await, service.client());
    let logout = client.request(Method::POST, "/v1/logout");
    let logout = send(logout.header("cookie", &cookie)).await.unwrap();
    assert_problem(&logout, 403, "cross_site");
    for (headers, status) in [
        (&[][..], 403),
        (&[("origin", service.base())], 403),
        (&[("origin", "http://tracks.example")], 403),
        (&[("origin", PUBLIC)], 201),
        (&[("sec-fetch-site", "same-origin")], 201),
    ] {
        let (found, code) = change(&client, &cookie, headers).await;
        assert_eq!(found, status, "{headers:?}: {code}");
    }
}
