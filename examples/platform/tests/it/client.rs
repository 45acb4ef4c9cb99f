//! A client of the platform with its cookies.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// A browser, as far as the platform can tell. Clones share their cookies.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its headers.
    pub(crate) headers: reqwest::header::HeaderMap,
    /// Its body as JSON; null if it is none.
    pub(crate) body: Value,
}

/// A recording that another program measured; its numbers lie beside it.
pub(crate) const PLUCK: &[u8] = include_bytes!("../../assets/pluck.wav");
/// Every account of the tests has this one.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

// === impl Client ===

impl Client {
    /// A client of the platform at `base`, without cookies.
    pub(crate) fn new(base: &str) -> Self {
        let http = reqwest::Client::builder()
            .cookie_store(true)
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        Self {
            base: base.to_owned(),
            http,
        }
    }

    /// The same browser, after the platform came up at another address.
    pub(crate) fn at(&self, base: &str) -> Self {
        Self {
            base: base.to_owned(),
            http: self.http.clone(),
        }
    }

    /// A request to `path`, to be sent with [`send`].
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// GET.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await.unwrap()
    }

    /// POST of JSON.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).json(body))
            .await
            .unwrap()
    }

    /// PATCH of JSON.
    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::PATCH, path).json(body))
            .await
            .unwrap()
    }

    /// A new account under `email`; gives its id.
    pub(crate) async fn sign_up(&self, email: &str) -> String {
        let body = json!({ "email": email, "password": PASSWORD, "name": "Ada" });
        let answer = self.post("/v1/signup", &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.text("/user/id")
    }

    /// A new project; gives its id.
    pub(crate) async fn project(&self, title: &str) -> String {
        let answer = self.post("/v1/projects", &json!({ "title": title })).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.text("/project/id")
    }

    /// Uploads `wav` to `project`.
    pub(crate) fn upload(&self, project: &str, wav: impl Into<reqwest::Body>) -> RequestBuilder {
        let path = format!("/v1/projects/{project}/tracks?name=pluck.wav");
        let request = self.request(Method::POST, &path);
        request.header("content-type", "audio/wav").body(wav)
    }

    /// Waits until the track's job came to its end; gives the track.
    pub(crate) async fn measured(&self, project: &str, track: &str, limit: Duration) -> Value {
        let path = format!("/v1/projects/{project}/tracks/{track}");
        maxscale_tests::eventually(limit, async || {
            let answer = send(self.request(Method::GET, &path)).await;
            let answer = answer.map_err(|error| error.to_string())?;
            let state = answer.body.pointer("/track/state");
            match state.and_then(Value::as_str) {
                Some("done" | "failed") => Ok(answer.body["track"].clone()),
                _ => Err(format!("{answer:?}")),
            }
        })
        .await
    }
}

/// Sends a request and reads the whole answer.
///
/// # Errors
///
/// Returns what the connection said.
pub(crate) async fn send(request: RequestBuilder) -> reqwest::Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.bytes().await?;
    Ok(Answer {
        status,
        headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

// === impl Answer ===

impl Answer {
    /// The text at `pointer` in the body.
    pub(crate) fn text(&self, pointer: &str) -> String {
        let text = self.body.pointer(pointer).and_then(Value::as_str);
        text.unwrap_or_else(|| panic!("no {pointer} in {self:?}"))
            .to_owned()
    }
}
