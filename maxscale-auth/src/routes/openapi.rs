use utoipa::OpenApi;

use super::{api_key, flow, session};

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

#[derive(OpenApi)]
#[openapi(paths(api_key::list, api_key::make, api_key::rotate, api_key::revoke))]
struct KeyDocument;

/// `document`, one of these, with [`Routes::api_keys`](super::Routes::api_keys).
pub fn openapi_with_api_keys(document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    document.merge_from(KeyDocument::openapi())
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
