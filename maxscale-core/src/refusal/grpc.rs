use std::fmt::Write as _;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::Class;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether the request's content type is `application/grpc` or one of its kind.
pub(super) fn speaks(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Makes `headers` a trailers-only answer.
pub(super) fn fill(headers: &mut HeaderMap, class: Class, detail: Option<&str>) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(STATUS, HeaderValue::from(status(class)));
    let message = percent_encoded(detail.unwrap_or_else(|| class.title()));
    if let Ok(message) = HeaderValue::try_from(message) {
        headers.insert(MESSAGE, message);
    }
}

const fn status(class: Class) -> u16 {
    match class {
        Class::Invalid | Class::UnsupportedMedia | Class::Unprocessable => 3,
        Class::Timeout => 4,
        Class::NotFound => 5,
        Class::Conflict => 6,
        Class::Forbidden => 7,
        Class::Limited => 8,
        Class::TooLarge => 11,
        Class::MethodNotAllowed => 12,
        Class::Internal => 13,
        Class::Unavailable => 14,
        Class::Unauthenticated => 16,
    }
}

// As the gRPC over HTTP/2 protocol page defines Percent-Encoded.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, 0x20..=0x24 | 0x26..=0x7e) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
