use utoipa::OpenApi;

use super::{flow, session};

#[derive(OpenApi)]
#[openapi(
    info(title = "Accounts and sessions"),
    paths(
        flow::sign_up,
        flow::resend,
        flow::log_in,
        session::log_out,
        session::log_out_all,
        flow::forgot,
        flow::reset,
        flow::change_password,
        flow::verify,
        flow::change_email,
        flow::undo,
        flow::send_magic,
        flow::redeem_magic,
        flow::reauth,
        session::show,
        session::list,
        session::end,
    )
)]
struct Document;

/// What the routes are, to be merged into a service's own document by
/// [`nest`](utoipa::openapi::OpenApi::nest), where the router is nested.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[cfg(feature = "jwt")]
#[derive(OpenApi)]
#[openapi(paths(super::token::grant))]
struct TokenDocument;

/// The same with [`Routes::tokens`](super::Routes::tokens).
#[cfg(feature = "jwt")]
pub fn openapi_with_tokens() -> utoipa::openapi::OpenApi {
    openapi().merge_from(TokenDocument::openapi())
}
