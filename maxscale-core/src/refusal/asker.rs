use http::header::CONTENT_TYPE;

use crate::fact::{Facts, RequestId, TraceContext, TraceId};

/// What a refusal needs to know of a request, also when that was handed on.
#[derive(Clone, Debug)]
pub struct Asker {
    pub(super) grpc: bool,
    pub(super) trace: Option<TraceId>,
    pub(super) request: Option<RequestId>,
}

// === impl Asker ===

impl Asker {
    /// Whoever sent `request`.
    pub fn of(request: &impl Facts) -> Self {
        Self {
            grpc: request.header(&CONTENT_TYPE).is_some_and(is_grpc),
            trace: request.fact().map(TraceContext::trace_id),
            request: request.fact().cloned(),
        }
    }

    /// Whether the request speaks gRPC.
    pub const fn is_grpc(&self) -> bool {
        self.grpc
    }
}

/// Whether a content type is `application/grpc` or one of its kind.
pub(crate) fn is_grpc(content_type: &str) -> bool {
    content_type
        .strip_prefix("application/grpc")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';', '-']))
}
