use http::header::HeaderName;
use http::{HeaderValue, Method, Request};

use crate::fact::Facts;

/// Makes a request again; functions `Fn(&Q) -> Option<Q>` do.
pub trait Replay<Q> {
    /// The request once more; `None` if it must not be made twice.
    fn again(&self, request: &Q) -> Option<Q>;

    /// Tells whoever receives the request that it is attempt `attempt`, from 1
    /// on, of a caller who makes it again himself. What has no headers stays silent.
    fn mark(&self, _request: &mut Q, _attempt: u32) {}
}

/// Clones HTTP requests that may be made twice: those whose method is idempotent
/// (RFC 9110, 9.2.2), and those with the fact [`MayRepeat`].
///
/// gRPC calls are all `POST`, so they need the fact.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Idempotent;

/// The fact that a request may be made twice, whatever its method: the caller
/// knows that it has no effect, or has its effect once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MayRepeat;

/// The fact that a layer further out makes this request again, and which attempt
/// this is, from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAttempt(pub(super) u32);

/// The same to another process.
static HEADER: HeaderName = HeaderName::from_static("x-retry-attempt");

/// What gRPC's own clients send from the second attempt on (gRFC A6).
static GRPC: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

// === impl Replay ===

impl<Q, F: Fn(&Q) -> Option<Q>> Replay<Q> for F {
    fn again(&self, request: &Q) -> Option<Q> {
        self(request)
    }
}

/// Whether somebody else makes this request again. A caller who only says so
/// does without retries, and harms nobody.
pub(super) fn is_marked(request: &impl Facts) -> bool {
    request.fact::<RetryAttempt>().is_some()
        || request.header(&HEADER).is_some()
        || request.header(&GRPC).is_some()
}

// === impl Idempotent ===

impl Idempotent {
    /// Clones requests.
    pub const fn new() -> Self {
        Self
    }
}

impl<B: Clone> Replay<Request<B>> for Idempotent {
    fn again(&self, request: &Request<B>) -> Option<Request<B>> {
        let idempotent = request.method().is_idempotent() && request.method() != Method::CONNECT;
        let may = idempotent || request.extensions().get::<MayRepeat>().is_some();
        may.then(|| request.clone())
    }

    fn mark(&self, request: &mut Request<B>, attempt: u32) {
        // Of nearly all requests it is the first, whose text is at hand.
        let attempt = match attempt {
            1 => HeaderValue::from_static("1"),
            later => HeaderValue::from(later),
        };
        request.headers_mut().insert(&HEADER, attempt);
    }
}

// === impl RetryAttempt ===

impl RetryAttempt {
    /// Which attempt it is, from 1 on.
    pub const fn get(self) -> u32 {
        self.0
    }
}
