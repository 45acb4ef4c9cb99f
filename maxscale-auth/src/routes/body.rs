//! What requests say, and what is said of it if it cannot be read.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use http::StatusCode;
use maxscale_core::id::Id;
use maxscale_core::refusal::{Class, Refusal};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::problem::Problem;

/// A body in JSON.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

/// To sign up.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) struct SignUp {
    /// The email address.
    pub(super) email: String,
    /// 15 to 256 characters.
    pub(super) password: String,
    /// What others call the user.
    pub(super) name: String,
}

/// To log in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) struct LogIn {
    /// The email address.
    pub(super) email: String,
    /// The password.
    pub(super) password: String,
}

/// An address that a mail is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) struct Address {
    /// The email address.
    pub(super) email: String,
}

/// The token of a mail.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) struct Token {
    /// What the link ends in.
    pub(super) token: String,
}

/// The token of a mail that ends a sign-up or confirms another address.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) struct Verify {
    /// What the link ends in.
    pub(super) token: String,
    /// The password that was chosen; for a sign-up only.
    pub(super) password: Option<String>,
}

/// Another password, by the token of a mail.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) struct Reset {
    /// What the link ends in.
    pub(super) token: String,
    /// 15 to 256 characters.
    pub(super) password: String,
}

/// Another password, by the old one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) struct ChangePassword {
    /// The password until now, if there is one.
    pub(super) current: Option<String>,
    /// 15 to 256 characters.
    pub(super) new: String,
}

/// Another address.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) struct ChangeEmail {
    /// The email address.
    pub(super) email: String,
    /// The password, unless it was proved a moment ago.
    pub(super) password: Option<String>,
}

/// One more proof.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) struct Prove {
    /// The password.
    pub(super) password: String,
}

/// The id in a path: what is none names nothing.
pub(super) fn id(text: &str) -> Result<Id, Problem> {
    let id = Uuid::try_parse(text).ok();
    let id = id.and_then(|it| Id::from_uuid(it).ok());
    id.ok_or_else(|| Problem::of(Class::NotFound))
}

// === impl Body ===

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let read = Json::from_request(request, state).await;
        read.map(|Json(body)| Self(body)).map_err(|it| refused(&it))
    }
}

/// Without the parser's own words: they may quote a password.
fn refused(rejection: &JsonRejection) -> Problem {
    let (class, detail) = match rejection.status() {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            (Class::UnsupportedMedia, "the body must be application/json")
        }
        StatusCode::PAYLOAD_TOO_LARGE => (Class::TooLarge, "the body is too large"),
        StatusCode::UNPROCESSABLE_ENTITY => (
            Class::Unprocessable,
            "a field is missing, unknown or of another type",
        ),
        _ => (Class::Invalid, "the body is no JSON"),
    };
    Problem::new(Refusal::of(class).detail(detail))
}
