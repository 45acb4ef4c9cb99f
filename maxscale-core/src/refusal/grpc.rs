use std::fmt::Write as _;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::{Class, retry_info};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// When a client that retries may do so (gRFC A6).
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// The same for clients that read `google.rpc.RetryInfo`.
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// Makes `headers` a trailers-only answer.
pub(super) fn fill(headers: &mut HeaderMap, class: Class, told: &str, wait: Option<Duration>) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(STATUS, HeaderValue::from(status(class)));
    let message = percent_encoded(told);
    if let Ok(message) = HeaderValue::try_from(message) {
        headers.insert(MESSAGE, message);
    }
    if let Some(wait) = wait {
        // Clients read 32 bits, and take more for "never".
        let millis = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        headers.insert(PUSHBACK, HeaderValue::from(millis.max(1)));
        let details = retry_info::header(status(class), told, wait);
        if let Ok(details) = HeaderValue::try_from(details) {
            headers.insert(DETAILS, details);
        }
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
