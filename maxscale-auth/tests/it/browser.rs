//! What a real Chromium does with cookies, links in mails and other sites.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, Response};
use axum::routing::get;
use axum::serve::Listener;
use fantoccini::{Client, ClientBuilder, Locator};
use http::header::COOKIE;
use hyper_util::client::legacy::connect::HttpConnector;
use maxscale_auth::{Accounts, CookiePolicy, MailKind, Principal, SessionLayer};
use maxscale_shard::Engine;
use maxscale_tests::{Certificates, Chromium, eventually};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::routes::router;
use crate::support::{Bench, LIMIT, PASSWORD};

const ADA: &str = "ada@example.com";
const COOKIE_NAME: &str = "__Host-maxscale";

/// Two sites, `app.test` and `evil.example`, and a browser.
struct Web {
    bench: Bench,
    seen: Seen,
    browser: Client,
    _chromium: Chromium,
    _certificates: Certificates,
}

/// Method, path and query, whether the session's cookie came, and the status.
type Seen = Arc<Mutex<Vec<(String, String, bool, u16)>>>;

struct Tls(TcpListener, TlsAcceptor);

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, from) = self.0.accept().await.unwrap();
            // A browser tries connections that it does not use.
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

async fn listener(certificates: &Certificates) -> Tls {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Tls(listener, certificates.valid().acceptor())
}

async fn who(principal: Option<Principal>) -> Html<String> {
    let who = if principal.is_some() { "ada" } else { "nobody" };
    Html(format!("<p>{who}</p><a href=/who>again</a>"))
}

/// What the other site offers, and what it tries.
async fn evil() -> Html<&'static str> {
    Html(
        "<a href=https://app.test/who>a prize</a>\
         <form method=post enctype=text/plain action=https://app.test/auth/logout>\
         <button>a prize</button></form>",
    )
}

async fn watch(State(seen): State<Seen>, request: Request, next: Next) -> Response {
    let cookies = request.headers().get_all(COOKIE).iter();
    let ours = cookies
        .filter_map(|it| it.to_str().ok())
        .any(|it| it.contains(&format!("{COOKIE_NAME}=")));
    let (method, uri) = (request.method().to_string(), request.uri().to_string());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    seen.lock().unwrap().push((method, uri, ours, status));
    response
}

fn site(accounts: Accounts, seen: Seen) -> Router {
    let layer = SessionLayer::new(accounts.sessions().clone(), CookiePolicy::new(true));
    let app = Router::new().route("/who", get(who)).layer(layer);
    app.route("/evil", get(evil))
        .merge(router(accounts))
        .layer(from_fn_with_state(seen, watch))
}

impl Web {
    async fn new() -> Self {
        let bench = Bench::new(Engine::Sqlite).await;
        let certificates = Certificates::naming(&["app.test", "evil.example"]);
        let listener = listener(&certificates).await;
        let server = listener.local_addr().unwrap().to_string();
        let seen = Seen::default();
        let site = site((*bench.accounts).clone(), seen.clone());
        tokio::spawn(async move { axum::serve(listener, site).await });
        let chromium = Chromium::start(certificates.ca(), &server).await;
        let capabilities = serde_json::from_str(chromium.capabilities()).unwrap();
        let browser = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(chromium.url())
            .await
            .unwrap();
        bench.accounts.sign_up(ADA, PASSWORD, "Ada").await.unwrap();
        Self {
            bench,
            seen,
            browser,
            _chromium: chromium,
            _certificates: certificates,
        }
    }

    /// Sends a request from the page that is open, and gives its status.
    async fn post(&self, path: &str, body: &Value) -> u64 {
        let script = "const [path, body, done] = arguments;
             fetch(path, { method: 'POST', body, headers: { 'content-type': 'application/json' } })
                 .then((answer) => done(answer.status))";
        let arguments = vec![json!(path), json!(body.to_string())];
        let status = self.browser.execute_async(script, arguments).await;
        status.unwrap().as_u64().unwrap()
    }

    async fn log_in(&self) {
        self.browser.goto("https://app.test/who").await.unwrap();
        let body = json!({ "email": ADA, "password": PASSWORD });
        assert_eq!(self.post("/auth/login", &body).await, 200);
    }

    async fn click(&self, what: &str) {
        let found = self.browser.find(Locator::Css(what)).await.unwrap();
        found.click().await.unwrap();
    }

    async fn text(&self, of: &str) -> String {
        let found = self
            .browser
            .wait()
            .at_most(LIMIT)
            .for_element(Locator::Css(of));
        found.await.unwrap().text().await.unwrap()
    }

    fn seen(&self) -> Vec<(String, String, bool, u16)> {
        self.seen.lock().unwrap().clone()
    }

    async fn end(self) {
        self.browser.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a browser is 322 MB where the machine has none; CONTRIBUTING.md has the command"]
async fn cookie_stays_with_its_site() {
    let web = Web::new().await;
    web.log_in().await;
    let shown = web.browser.execute("return document.cookie", vec![]).await;
    assert_eq!(shown.unwrap(), "");
    let cookie = web.browser.get_named_cookie(COOKIE_NAME).await.unwrap();
    assert_eq!(
        (cookie.http_only(), cookie.secure()),
        (Some(true), Some(true))
    );
    assert_eq!(cookie.same_site().unwrap().to_string(), "Strict");

    // A link on the other site: the first request comes without it, the next one from
    // the page itself with it.
    web.browser.goto("https://evil.example/evil").await.unwrap();
    web.click("a").await;
    assert_eq!(web.text("p").await, "nobody");
    web.click("a").await;
    let again = async || (web.text("p").await == "ada").then_some(());
    eventually(LIMIT, again).await;
    web.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a browser is 322 MB where the machine has none; CONTRIBUTING.md has the command"]
async fn other_site_logs_nobody_out() {
    let web = Web::new().await;
    web.log_in().await;
    web.browser.goto("https://evil.example/evil").await.unwrap();
    let script = "const done = arguments[0];
        fetch('https://app.test/auth/logout', { method: 'POST', mode: 'no-cors', credentials: 'include' })
            .finally(() => done(0))";
    web.browser.execute_async(script, vec![]).await.unwrap();
    web.click("button").await;
    let tried = async || {
        let outs = web.seen().into_iter().filter(|it| it.1 == "/auth/logout");
        let outs: Vec<_> = outs.collect();
        (outs.len() == 2).then_some(outs)
    };
    for (_, _, cookie, status) in eventually(LIMIT, tried).await {
        assert_eq!((cookie, status), (false, 403));
    }
    web.browser.goto("https://app.test/who").await.unwrap();
    assert_eq!(web.text("p").await, "ada");
    web.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a browser is 322 MB where the machine has none; CONTRIBUTING.md has the command"]
async fn link_of_a_mail_lands_and_its_button_redeems_it() {
    let web = Web::new().await;
    web.browser
        .goto("https://app.test/auth/magic")
        .await
        .unwrap();
    assert_eq!(
        web.post("/auth/magic/send", &json!({ "email": ADA })).await,
        202
    );
    let mail = web.bench.letters.take(MailKind::LogIn, ADA).await;
    let link = mail.link().replace("app.example", "app.test");
    let token = link.split_once('#').unwrap().1.to_owned();
    web.browser.goto("https://app.test/who").await.unwrap();
    web.browser.goto(&link).await.unwrap();
    assert_eq!(web.text("h1").await, "Log in");
    let at = web.browser.current_url().await.unwrap();
    assert_eq!(at.as_str(), "https://app.test/auth/magic");
    let posted =
        |seen: &[(String, String, bool, u16)]| seen.iter().any(|it| it.1 == "/auth/magic/redeem");
    assert!(!posted(&web.seen()));

    web.click("button").await;
    let done = async || (web.text("output").await == "You are logged in.").then_some(());
    eventually(LIMIT, done).await;
    assert!(posted(&web.seen()));
    assert!(!web.seen().iter().any(|it| it.1.contains(&token)));
    web.browser.goto("https://app.test/who").await.unwrap();
    assert_eq!(web.text("p").await, "ada");
    web.end().await;
}
