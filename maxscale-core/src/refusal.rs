//! The one place that turns a typed cause into a status code.
//!
//! A layer keeps its inner service's error and answers a refusal as a response
//! with a [`ReplyBody`]: problem+json (RFC 9457) over HTTP, trailers-only
//! `grpc-status` over gRPC, a snooze where the request is a job. [`Refuse`] is
//! that choice, so the same layer stands in axum, in tonic and around jobs.

pub(crate) mod admitted;
mod asker;
mod body;
mod grpc;
mod refuse;
mod retry_info;

use std::error::Error;
use std::fmt::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Request, Response, StatusCode};

pub use asker::Asker;
#[cfg(feature = "telemetry")]
pub(crate) use asker::is_grpc;
pub use body::ReplyBody;
pub use refuse::Refuse;

/// No registered scheme tells of a login with cookies, and one that does not
/// fit would make clients, or browsers, ask for the wrong thing.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Session");

/// What a refusal means for the caller. Each class has one HTTP and one gRPC status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// The request is malformed: 400, `INVALID_ARGUMENT`.
    Invalid,
    /// Nobody is logged in, or the credentials are wrong: 401, `UNAUTHENTICATED`.
    ///
    /// A 401 has to name a scheme (RFC 9110, 15.5.2). Unless the refusal has a
    /// `WWW-Authenticate` of its own, that is `Session`: the credential is what
    /// a login gives out, be it a cookie. No browser asks for a password then.
    Unauthenticated,
    /// Logged in, and not allowed: 403, `PERMISSION_DENIED`.
    Forbidden,
    /// No such thing, or none that the caller may know of: 404, `NOT_FOUND`.
    NotFound,
    /// The method is not offered here: 405, `UNIMPLEMENTED`.
    MethodNotAllowed,
    /// It exists already, or changed meanwhile: 409, `ALREADY_EXISTS`.
    Conflict,
    /// The body is larger than allowed: 413, `OUT_OF_RANGE`.
    TooLarge,
    /// The body is of another type than expected: 415, `INVALID_ARGUMENT`.
    UnsupportedMedia,
    /// Well formed, and still not acceptable: 422, `INVALID_ARGUMENT`.
    Unprocessable,
    /// Over a limit: 429, `RESOURCE_EXHAUSTED`.
    Limited,
    /// Something this needs is down or full: 503, `UNAVAILABLE`.
    Unavailable,
    /// The deadline passed: 504, `DEADLINE_EXCEEDED`.
    Timeout,
    /// A defect of ours: 500, `INTERNAL`.
    Internal,
}

/// Says which [`Class`] an error belongs to, and its stable code.
pub trait Classify: Error {
    /// What the error means for the caller.
    fn class(&self) -> Class;

    /// A code that programs may match on; stable over releases.
    fn code(&self) -> &'static str {
        self.class().code()
    }

    /// What the person who called may be told; the class's own sentence if none.
    fn detail(&self) -> Option<String> {
        match self.class() {
            // Faults of ours tell nothing about our insides.
            Class::Internal | Class::Unavailable => None,
            _ => Some(self.to_string()),
        }
    }

    /// When trying again makes sense.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// An answer that refuses a request.
#[derive(Clone, Debug)]
#[must_use]
pub struct Refusal {
    class: Class,
    code: &'static str,
    detail: Option<String>,
    retry_after: Option<Duration>,
    headers: HeaderMap,
}

impl Classify for std::convert::Infallible {
    fn class(&self) -> Class {
        match *self {}
    }
}

// === impl Class ===

impl Class {
    /// The HTTP status.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Limited => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The code of an error that names none of its own.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::UnsupportedMedia => "unsupported_media",
            Self::Unprocessable => "unprocessable",
            Self::Limited => "limited",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
        }
    }

    /// What is told where nothing more is known.
    const fn sentence(self) -> &'static str {
        match self {
            Self::Invalid => "The request is malformed",
            Self::Unauthenticated => "Log in first",
            Self::Forbidden => "Not allowed",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "The method is not offered here",
            Self::Conflict => "It exists already or has changed",
            Self::TooLarge => "The body is too large",
            Self::UnsupportedMedia => "The body is of an unsupported type",
            Self::Unprocessable => "The content is not acceptable",
            Self::Limited => "Too many requests",
            Self::Unavailable => "Temporarily unavailable",
            Self::Timeout => "The deadline passed",
            Self::Internal => "An error of ours",
        }
    }
}

// === impl Refusal ===

impl Refusal {
    /// The refusal that `error` asks for.
    pub fn new(error: &impl Classify) -> Self {
        Self {
            class: error.class(),
            code: error.code(),
            detail: error.detail(),
            retry_after: error.retry_after(),
            headers: HeaderMap::new(),
        }
    }

    /// A refusal of `class` whose cause has no type.
    pub fn of(class: Class) -> Self {
        Self {
            class,
            code: class.code(),
            detail: None,
            retry_after: None,
            headers: HeaderMap::new(),
        }
    }

    /// What the refusal means for the caller.
    #[must_use]
    pub const fn class(&self) -> Class {
        self.class
    }

    /// The code that programs may match on.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// The time after which trying again makes sense, if that is known.
    #[must_use]
    pub const fn wait(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Adds a sentence for the person who called.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a header to the answer.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Says when trying again makes sense; whole seconds, at least 1.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The answer to `request`, in the protocol that the request speaks.
    pub fn into_response<B, R>(self, request: &Request<B>) -> Response<ReplyBody<R>> {
        self.answer(&Asker::of(request))
    }

    /// Status, headers and body of the answer, for frameworks with bodies of their own.
    pub fn into_parts<B>(self, request: &Request<B>) -> (StatusCode, HeaderMap, Option<Bytes>) {
        self.parts(&Asker::of(request))
    }

    fn answer<R>(self, asker: &Asker) -> Response<ReplyBody<R>> {
        let (status, headers, data) = self.parts(asker);
        let mut response = Response::new(ReplyBody::refusal(data));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    fn parts(mut self, asker: &Asker) -> (StatusCode, HeaderMap, Option<Bytes>) {
        let wait = self.retry_after;
        let mut headers = std::mem::take(&mut self.headers);
        if asker.grpc {
            grpc::fill(&mut headers, self.class, self.told(), wait);
            return (StatusCode::OK, headers, None);
        }
        let body = Bytes::from(self.problem(asker));
        if let Some(wait) = wait {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if self.class == Class::Unauthenticated {
            headers.entry(WWW_AUTHENTICATE).or_insert(CHALLENGE);
        }
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        (self.class.status(), headers, Some(body))
    }

    fn told(&self) -> &str {
        self.detail.as_deref().unwrap_or(self.class.sentence())
    }

    fn problem(&self, asker: &Asker) -> String {
        let mut json = String::with_capacity(224);
        json.push_str("{\"type\":\"about:blank\"");
        // Of `about:blank` the title is the status in words.
        let status = self.class.status();
        push_member(&mut json, "title", status.canonical_reason().unwrap_or(""));
        let _ = write!(json, ",\"status\":{}", status.as_u16());
        push_member(&mut json, "code", self.code);
        push_member(&mut json, "detail", self.told());
        if let Some(trace) = &asker.trace {
            push_member(&mut json, "trace_id", &trace.to_string());
        }
        if let Some(request) = &asker.request {
            push_member(&mut json, "request_id", request.as_str());
        }
        json.push('}');
        json
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused as {}: {}", self.code, self.told())
    }
}

impl Error for Refusal {}

/// As `Retry-After` tells a time: rounded up, and never none.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

// Core's default features leave serde out; a problem has only text members.
fn push_member(json: &mut String, name: &str, value: &str) {
    let _ = write!(json, ",\"{name}\":\"");
    for c in value.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_is_json_whatever_the_detail() {
        let refusal = Refusal::of(Class::Limited)
            .detail("a \"quoted\"\n\\ detail\u{1}")
            .retry_after(Duration::from_millis(1200));
        let (status, headers, body) = refusal.into_parts(&Request::new(()));
        let body: serde_json::Value = serde_json::from_slice(&body.unwrap()).unwrap();

        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(headers[RETRY_AFTER], "2");
        assert_eq!(body["detail"], "a \"quoted\"\n\\ detail\u{1}");
        assert_eq!(body["code"], "limited");
    }

    fn answered(refusal: Refusal) -> (HeaderMap, serde_json::Value) {
        let (_, headers, body) = refusal.into_parts(&Request::new(()));
        (headers, serde_json::from_slice(&body.unwrap()).unwrap())
    }

    #[test]
    fn problem_without_a_type_has_the_status_as_its_title() {
        for class in [Class::Unauthenticated, Class::Limited, Class::Internal] {
            let (_, body) = answered(Refusal::of(class));
            assert_eq!(body["title"], class.status().canonical_reason().unwrap());
            assert_eq!(body["detail"], class.sentence(), "nothing more is known");
        }
    }

    #[test]
    fn refusal_of_nobody_names_a_scheme() {
        let (headers, _) = answered(Refusal::of(Class::Unauthenticated));
        assert_eq!(headers[WWW_AUTHENTICATE], "Session");
        let bearer = HeaderValue::from_static("Bearer");
        let other = Refusal::of(Class::Unauthenticated).header(WWW_AUTHENTICATE, bearer);
        let (headers, _) = answered(other);
        let all: Vec<_> = headers.get_all(WWW_AUTHENTICATE).iter().collect();
        assert_eq!(all, ["Bearer"]);
        let (headers, _) = answered(Refusal::of(Class::Forbidden));
        assert!(!headers.contains_key(WWW_AUTHENTICATE));
    }

    #[derive(Debug, thiserror::Error)]
    #[error("taken")]
    struct Taken;

    impl Classify for Taken {
        fn class(&self) -> Class {
            Class::Conflict
        }
    }

    #[test]
    fn refusal_keeps_the_class_of_its_cause() {
        let refusal = Refusal::new(&Taken).detail("somebody was faster");
        assert_eq!(refusal.class(), Class::Conflict);
    }

    #[test]
    fn grpc_refusal_has_no_body() {
        let request = Request::builder()
            .header(CONTENT_TYPE, "application/grpc+proto")
            .body(())
            .unwrap();
        let (status, headers, body) = Refusal::of(Class::Limited)
            .detail("slow down, 100% full")
            .retry_after(Duration::from_millis(1_200))
            .into_parts(&request);

        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers["grpc-status"], "8");
        assert_eq!(headers["grpc-message"], "slow down, 100%25 full");
        assert_eq!(headers["grpc-retry-pushback-ms"], "1200");
        assert!(headers.contains_key("grpc-status-details-bin"));
        assert!(body.is_none());
    }
}
