//! Refusals on their way to problem+json.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use maxscale_core::Chain;
use maxscale_core::refusal::{Asker, Class, Classify, Refusal, Refuse};

/// Why a handler did not do what it was asked. It knows nothing of the request, so
/// [`write`] turns it into the answer.
#[derive(Debug)]
pub(super) struct Problem(Box<Refusal>);

// === impl Problem ===

impl Problem {
    pub(super) fn new(refusal: Refusal) -> Self {
        Self(Box::new(refusal))
    }

    pub(super) fn of(class: Class) -> Self {
        Self::new(Refusal::of(class))
    }
}

impl<E: Classify + 'static> From<E> for Problem {
    fn from(error: E) -> Self {
        if error.class().status().is_server_error() {
            tracing::warn!(error = %Chain(&error), "a request to accounts failed");
        }
        Self::new(Refusal::new(&error))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.0.class().status().into_response();
        response.extensions_mut().insert(*self.0);
        response
    }
}

/// Answers as `request` can read it, with the ids that it is known by.
pub(super) async fn write(request: Request, next: Next) -> Response {
    let asker = Asker::of(&request);
    let mut response = next.run(request).await;
    let Some(refusal) = response.extensions_mut().remove::<Refusal>() else {
        return response;
    };
    let mut answer = <Response as Refuse>::refuse(refusal, &asker).into_response();
    // Such as `Allow`, and what the layers have told.
    let mut headers = std::mem::take(response.headers_mut());
    headers.remove(http::header::CONTENT_LENGTH);
    headers.extend(std::mem::take(answer.headers_mut()));
    *answer.headers_mut() = headers;
    answer
}

pub(super) async fn not_allowed() -> Problem {
    Problem::of(Class::MethodNotAllowed)
}
