use http::header::{AUTHORIZATION, COOKIE, HeaderValue, VARY};
use proptest::prelude::*;
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::*;

const SITE: HeaderName = SEC_FETCH_SITE;
const OWN: (HeaderName, &str) = (COOKIE, "__Host-maxscale=t");
const TOKEN: (HeaderName, &str) = (AUTHORIZATION, "Bearer t");

fn layer() -> CsrfLayer {
    CsrfLayer::new(
        CookiePolicy::new(true),
        ["https://app.example", "https://b.example:8443"],
    )
    .unwrap()
}

fn request(method: Method, headers: &[(HeaderName, &str)]) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    for (name, value) in headers {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        request.headers_mut().append(name.clone(), value);
    }
    request
}

async fn ask(method: Method, headers: &[(HeaderName, &str)]) -> Response<ReplyBody<()>> {
    let handler =
        service_fn(async |_: Request<()>| Ok::<_, std::convert::Infallible>(Response::new(())));
    layer()
        .layer(handler)
        .oneshot(request(method, headers))
        .await
        .unwrap()
}

async fn status(method: Method, headers: &[(HeaderName, &str)]) -> u16 {
    ask(method, headers).await.status().as_u16()
}

#[tokio::test]
async fn what_a_browser_says_decides() {
    for (headers, expected) in [
        (vec![(SITE, "same-origin")], 200),
        (vec![(SITE, "none")], 200),
        (vec![(SITE, "same-site")], 403),
        (vec![(SITE, "cross-site")], 403),
        // The list is for who is trusted though he is elsewhere.
        (
            vec![(SITE, "same-site"), (ORIGIN, "https://app.example")],
            200,
        ),
        (vec![(ORIGIN, "https://app.example")], 200),
        (vec![(ORIGIN, "https://b.example:8443")], 200),
        (vec![(ORIGIN, "https://b.example")], 403),
        (vec![(ORIGIN, "http://app.example")], 403),
        (vec![(ORIGIN, "https://app.example.evil.example")], 403),
        (vec![(ORIGIN, "https://evil.example")], 403),
        (vec![(ORIGIN, "null")], 403),
        // Malformed is not own, and not absent.
        (vec![(SITE, "")], 403),
        (vec![(SITE, "SAME-ORIGIN")], 403),
        (vec![(SITE, "same-origin, cross-site")], 403),
        (vec![(SITE, "same-origin"), (SITE, "cross-site")], 403),
        (vec![(SITE, "same-origin"), (SITE, "same-origin")], 403),
        (vec![(SITE, "s\u{e4}me-origin")], 403),
        (vec![(ORIGIN, "")], 403),
        (vec![(ORIGIN, "https://app.example/")], 403),
        (vec![(ORIGIN, "HTTPS://APP.EXAMPLE")], 403),
        (
            vec![(ORIGIN, "https://app.example https://evil.example")],
            403,
        ),
        (
            vec![
                (ORIGIN, "https://app.example"),
                (ORIGIN, "https://evil.example"),
            ],
            403,
        ),
    ] {
        let with_cookie: Vec<_> = headers.iter().cloned().chain([OWN]).collect();
        assert_eq!(
            status(Method::POST, &with_cookie).await,
            expected,
            "{headers:?}"
        );
        // A login, which another site must not make either.
        assert_eq!(
            status(Method::POST, &headers).await,
            expected,
            "{headers:?}"
        );
        let with_token: Vec<_> = headers.into_iter().chain([TOKEN]).collect();
        assert_eq!(status(Method::POST, &with_token).await, 200);
    }
    assert_eq!(
        status(Method::POST, &[OWN]).await,
        403,
        "no browser of today"
    );
    assert_eq!(status(Method::POST, &[]).await, 200, "no browser");
    assert_eq!(
        status(Method::POST, &[OWN, TOKEN]).await,
        403,
        "the cookie counts"
    );
    let differs = (AUTHORIZATION, "Bearer other");
    assert_eq!(status(Method::POST, &[OWN, differs]).await, 400);
}

#[test]
fn silence_is_allowed_where_that_was_said_and_nothing_else_is() {
    let layer = layer().allow_silence();
    let passes = |headers: &[(HeaderName, &str)]| {
        let request = request(Method::POST, headers);
        layer.shared.check(request.headers()).is_ok()
    };
    assert!(passes(&[OWN]));
    for told in [
        (SITE, "cross-site"),
        (SITE, ""),
        (ORIGIN, "null"),
        (ORIGIN, "https://evil.example"),
    ] {
        assert!(!passes(&[OWN, told.clone()]), "{told:?}");
    }
}

#[tokio::test]
async fn only_what_changes_something_is_checked() {
    let cross = [OWN, (SITE, "cross-site")];
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE] {
        let answer = ask(method, &cross).await;
        assert_eq!(answer.status(), 200);
        assert!(!answer.headers().contains_key(VARY));
    }
    let other = Method::from_bytes(b"get").unwrap();
    for method in [
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::CONNECT,
        other,
    ] {
        assert_eq!(status(method, &cross).await, 403);
    }
    let [own, site] = cross;
    let socket = [own, site, (UPGRADE, "websocket")];
    assert_eq!(status(Method::GET, &socket).await, 403);
}

#[tokio::test]
async fn answer_says_on_what_it_depends() {
    for site in ["same-origin", "cross-site"] {
        let answer = ask(Method::POST, &[OWN, (SITE, site)]).await;
        assert_eq!(answer.headers()[VARY], "sec-fetch-site, origin");
    }
    let refused = ask(Method::POST, &[OWN]).await;
    assert_eq!(
        refused.headers()["content-type"],
        "application/problem+json"
    );
}

#[test]
fn origin_that_no_browser_sends_is_refused() {
    let tls = CookiePolicy::new(true);
    for bad in [
        "",
        "*",
        "null",
        "app.example",
        "https://",
        "https://app.example/",
        "https://app.example/path",
        "https://app.example:443",
        "https://App.example",
        "HTTPS://app.example",
        "https://user@app.example",
        "https://app.example?q",
        "ftp://app.example",
        "https://app.example:99999",
    ] {
        let error = CsrfLayer::new(tls, [bad]).unwrap_err();
        assert!(
            matches!(error, OriginError::Malformed { .. }),
            "{bad}: {error}"
        );
    }
    let plain = ["http://localhost:3000"];
    let error = CsrfLayer::new(tls, plain).unwrap_err();
    assert!(matches!(error, OriginError::Insecure { .. }));
    CsrfLayer::new(CookiePolicy::new(false), plain).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is sent beside the cookie: without one of the good words, or a listed
    /// origin, nothing passes.
    #[test]
    fn no_other_text_lets_a_cookie_pass(
        site in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
        origin in proptest::option::of("[ -~]{0,40}"),
    ) {
        let mut request = request(Method::POST, &[OWN]);
        let site = site.and_then(|it| HeaderValue::from_bytes(&it).ok());
        let origin = origin.and_then(|it| HeaderValue::from_str(&it).ok());
        for (name, value) in [(SITE, site), (ORIGIN, origin)] {
            if let Some(value) = value {
                request.headers_mut().insert(name, value);
            }
        }
        let headers = request.headers();
        let good = |name, values: &[&str]| {
            headers.get(name).is_some_and(|it| values.iter().any(|value| it == value))
        };
        let expected = good(SITE, &["same-origin", "none"])
            || good(ORIGIN, &["https://app.example", "https://b.example:8443"]);
        prop_assert_eq!(layer().shared.check(headers).is_ok(), expected);
    }
}
