use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use maxscale_auth::{AuthError, Principal};
use maxscale_core::Chain;
use maxscale_core::fact::{RequestId, TraceContext};
use maxscale_core::refusal::{Class, Classify, Refusal};
use tracing::Instrument as _;

/// Any error of a handler, on its way to becoming problem+json.
///
/// A handler does not see the request's ids, so the refusal travels in the
/// response's extensions and [`render`] writes it.
#[derive(Clone, Debug)]
pub struct ApiError(Box<Refusal>);

/// A JSON body; what is malformed is told as problem+json.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

/// Who is logged in; 401 without.
#[derive(Debug)]
pub(super) struct User(pub(super) Principal);

// === impl ApiError ===

impl ApiError {
    /// The refusal `refusal`.
    pub fn new(refusal: Refusal) -> Self {
        Self(Box::new(refusal))
    }

    /// 404: no such `thing`, or not the caller's.
    pub fn not_found(thing: &str) -> Self {
        Self::new(Refusal::of(Class::NotFound).detail(format!("there is no such {thing}")))
    }
}

impl<E: Classify + 'static> From<E> for ApiError {
    fn from(error: E) -> Self {
        if error.class().status().is_server_error() {
            tracing::warn!(error = %Chain(&error), "request failed");
        }
        Self::new(Refusal::new(&error))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.0.class().status().into_response();
        response.extensions_mut().insert(*self.0);
        response
    }
}

/// Writes refusals, and the framework's own 404 and 405, as problem+json.
pub async fn render(request: Request, next: Next) -> Response {
    // A refusal reads only the protocol and the ids of its request.
    let mut asked = axum::http::Request::new(());
    *asked.headers_mut() = request.headers().clone();
    if let Some(id) = request.extensions().get::<RequestId>() {
        asked.extensions_mut().insert(id.clone());
    }
    if let Some(id) = request.extensions().get::<TraceContext>() {
        asked.extensions_mut().insert(id.clone());
    }
    let mut response = next.run(request).await;
    let refusal = response.extensions_mut().remove::<Refusal>();
    let Some(refusal) = refusal.or_else(|| unwritten(&response)) else {
        return response;
    };
    let (status, headers, body) = refusal.into_parts(&asked);
    let mut written = (status, body.unwrap_or_default()).into_response();
    // Such as `Allow` on 405; the body's own headers are the refusal's.
    for (name, value) in response.headers() {
        if *name != axum::http::header::CONTENT_LENGTH && *name != axum::http::header::CONTENT_TYPE
        {
            // Several layers may tell the same: how much is left of which limit.
            written.headers_mut().append(name, value.clone());
        }
    }
    written.headers_mut().extend(headers);
    written
}

fn unwritten(response: &Response) -> Option<Refusal> {
    let typed = response
        .headers()
        .contains_key(axum::http::header::CONTENT_TYPE);
    match response.status() {
        StatusCode::NOT_FOUND if !typed => Some(Refusal::of(Class::NotFound)),
        StatusCode::METHOD_NOT_ALLOWED => Some(Refusal::of(Class::MethodNotAllowed)),
        _ => None,
    }
}

// === extractors ===

impl<S, T> FromRequest<S> for Body<T>
where
    S: Send + Sync,
    Json<T>: FromRequest<S, Rejection = JsonRejection>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match Json::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => {
                let class = match rejection.status() {
                    StatusCode::UNSUPPORTED_MEDIA_TYPE => Class::UnsupportedMedia,
                    StatusCode::PAYLOAD_TOO_LARGE => Class::TooLarge,
                    StatusCode::UNPROCESSABLE_ENTITY => Class::Unprocessable,
                    _ => Class::Invalid,
                };
                Err(ApiError::new(
                    Refusal::of(class).detail(rejection.body_text()),
                ))
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for User {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let principal = parts.extensions.get::<Principal>().cloned();
        Ok(Self(principal.ok_or(AuthError::NotLoggedIn)?))
    }
}

/// Runs a change and what tells of it in a task of its own: neither a deadline nor a
/// client that goes away comes in between.
pub(super) async fn to_its_end<T: Send + 'static>(
    change: impl Future<Output = T> + Send + 'static,
) -> Result<T, ApiError> {
    let ended = tokio::spawn(change.in_current_span()).await;
    ended.map_err(|_| ApiError::new(Refusal::of(Class::Internal)))
}

/// A malformed id in a path names nothing.
pub(super) fn path_error(_: PathRejection) -> ApiError {
    ApiError::not_found("thing")
}

/// A malformed query.
pub(super) fn query_error(rejection: &QueryRejection) -> ApiError {
    ApiError::new(Refusal::of(Class::Invalid).detail(rejection.body_text()))
}
