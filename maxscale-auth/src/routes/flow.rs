//! Flows of accounts: each handler is one method of [`Accounts`](crate::Accounts).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::Serialize;

use super::Shared;
use super::body::{
    Address, Body, ChangeEmail, ChangePassword, LogIn, Prove, Reset, SignUp, Token, Verify,
};
use super::caller::{Caller, begun, exchanged};
use super::problem::Problem;
use crate::account::{LoggedIn, SignedUp, User};
use crate::error::AuthError;
use crate::mail::Purpose;

type Answer = Result<Response, Problem>;

/// A user, as he sees himself.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) struct Shown {
    /// The user's id.
    id: String,
    /// The email address.
    email: String,
    /// What others call the user.
    name: String,
}

/// Who is logged in from here on.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) struct Begun {
    /// Whose session it is.
    user: Shown,
}

/// Signs up: a mail is sent, whatever the address; or, where sign-ups are open, there
/// is a session.
#[cfg_attr(feature = "openapi", utoipa::path(post, path = "/signup", request_body = SignUp, responses(
    (status = 202, description = "A mail says how to go on"),
    (status = 201, description = "Signed up and logged in", body = Begun),
    (status = 4XX, description = "Refused", content_type = "application/problem+json"))))]
pub(super) async fn sign_up(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(body): Body<SignUp>,
) -> Answer {
    let (accounts, client) = (&shared.accounts, caller.client());
    let signed_up = accounts.sign_up(&body.email, &body.password, &body.name, &client);
    Ok(match signed_up.await? {
        SignedUp::LoggedIn(new) => logged_in(&shared, StatusCode::CREATED, &new),
        SignedUp::Mailed => StatusCode::ACCEPTED.into_response(),
    })
}

/// Sends the mail of a sign-up again.
#[cfg_attr(feature = "openapi", utoipa::path(post, path = "/signup/resend", request_body = Address, responses(
    (status = 202, description = "A mail is sent, if somebody signed up"),
    (status = 4XX, description = "Refused", content_type = "application/problem+json"))))]
pub(super) async fn resend(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(body): Body<Address>,
) -> Answer {
    let (accounts, client) = (&shared.accounts, caller.client());
    let sent = accounts.resend_sign_up(&body.email, &client);
    sent.await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Logs in with a password.
#[cfg_attr(feature = "openapi", utoipa::path(post, path = "/login", request_body = LogIn, responses(
    (status = 200, description = "Logged in; the cookie is set", body = Begun),
    (status = 401, description = "The email or the password is wrong", content_type = "application/problem+json"),
    (status = 4XX, description = "Refused", content_type = "application/problem+json"))))]
pub(super) async fn log_in(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(body): Body<LogIn>,
) -> Answer {
    let (accounts, client) = (&shared.accounts, caller.client());
    let begun = accounts.log_in(&body.email, &body.password, &client);
    Ok(logged_in(&shared, StatusCode::OK, &begun.await?))
}

/// Sends a link that sets another password.
#[cfg_attr(feature = "openapi", utoipa::path(post, path = "/password/forgot", request_body = Address, responses(
    (status = 202, description = "A mail is sent, if there is an account"),
    (status = 4XX, description = "Refused", content_type = "application/problem+json"))))]
pub(super) async fn forgot(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(body): Body<Address>,
) -> Answer {
    let (accounts, client) = (&shared.accounts, caller.client());
    let sent = accounts.forgot_password(&body.email, &client);
    sent.await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Sets another password by the token of a mail. All sessions end.
#[cfg_attr(feature = "openapi", utoipa::path(post, path = "/password/reset", request_body = Reset, responses(
    (status = 204, description = "The password is set; log in with it"),
    (status = 4XX, description = "Refused", content_type = "application/problem+json"))))]
pub(super) async fn reset(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(body): Body<Reset>,
) -> Answer {
    let (accounts, client) = (&shared.accounts, caller.client());
    let reset = accounts.reset_password(&body.token, &body.password, &client);
    reset.await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Sets another password. All other sessions end.
#[cfg_attr(feature = "openapi", utoipa::path(post, path = "/password/change", request_body = ChangePassword, responses(
    (status = 204, description = "The password is set; the cookie is exchanged"),
    (status = 4XX, description = "Refused", content_type = "application/problem+json"))))]
pub(super) async fn change_password(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(body): Body<ChangePassword>,
) -> Answer {
    let client = caller.client();
    let current = body.current.as_deref();
    let changed = shared.accounts.change_password(current, &body.new, &client);
    let token = changed.await?;
    let cookies = exchanged(&shared, &caller, token.as_deref());
    Ok((StatusCode::NO_CONTENT, cookies).into_response())
}

/// Ends a sign-up, or confirms another address, by the token of a mail.
#[cfg_attr(feature = "openapi", utoipa::path(post, path = "/email/verify", request_body = Verify, responses(
    (status = 200, description = "Signed up and logged in", body = Begun),
    (status = 204, description = "The address is confirmed"),
    (status = 4XX, description = "Refused", content_type = "application/problem+json"))))]
pub(super) async fn verify(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(body): Body<Verify>,
) -> Answer {
    let (accounts, client) = (&shared.accounts, caller.client());
    if accounts.purpose(&body.token) == Some(Purpose::SignUp) {
        let password = body.password.as_deref().ok_or(AuthError::Credentials)?;
        let begun = accounts.confirm_sign_up(&body.token, password, &client);
        return Ok(logged_in(&shared, StatusCode::OK, &begun.await?));
    }
    accounts.confirm_email(&body.token, &client).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Asks for another address: a mail to it confirms it.
#[cfg_attr(feature = "openapi", utoipa::path(post, path = "/email/change", request_body = ChangeEmail, responses(
    (status = 202, description = "A mail says how to go on"),
    (status = 4XX, description = "Refused", content_type = "application/problem+json"))))]
pub(super) async fn change_email(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(body): Body<ChangeEmail>,
) -> Answer {
    let client = caller.client();
    let password = body.password.as_deref();
    let asked = shared.accounts.change_email(&body.email, password, &client);
    asked.await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Takes a change of the address back by the token of a mail. All sessions end.
#[cfg_attr(feature = "openapi", utoipa::path(post, path = "/email/undo", request_body = Token, responses(
    (status = 204, description = "The address is the old one"),
    (status = 4XX, description = "Refused", content_type = "application/problem+json"))))]
pub(super) async fn undo(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(body): Body<Token>,
) -> Answer {
    let (accounts, client) = (&shared.accounts, caller.client());
    let undone = accounts.undo_email(&body.token, &client);
    undone.await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Sends a link that logs in.
#[cfg_attr(feature = "openapi", utoipa::path(post, path = "/magic/send", request_body = Address, responses(
    (status = 202, description = "A mail is sent, if there is an account"),
    (status = 4XX, description = "Refused", content_type = "application/problem+json"))))]
pub(super) async fn send_magic(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(body): Body<Address>,
) -> Answer {
    let (accounts, client) = (&shared.accounts, caller.client());
    let sent = accounts.send_magic_link(&body.email, &client);
    sent.await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Logs in by the token of a mail.
#[cfg_attr(feature = "openapi", utoipa::path(post, path = "/magic/redeem", request_body = Token, responses(
    (status = 200, description = "Logged in; the cookie is set", body = Begun),
    (status = 4XX, description = "Refused", content_type = "application/problem+json"))))]
pub(super) async fn redeem_magic(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(body): Body<Token>,
) -> Answer {
    let (accounts, client) = (&shared.accounts, caller.client());
    let begun = accounts.redeem_magic_link(&body.token, &client);
    Ok(logged_in(&shared, StatusCode::OK, &begun.await?))
}

/// Proves once more who it is, for what needs a fresh proof.
#[cfg_attr(feature = "openapi", utoipa::path(post, path = "/reauth", request_body = Prove, responses(
    (status = 204, description = "The proof is fresh; the cookie is exchanged"),
    (status = 4XX, description = "Refused", content_type = "application/problem+json"))))]
pub(super) async fn reauth(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(body): Body<Prove>,
) -> Answer {
    let (accounts, client) = (&shared.accounts, caller.client());
    let proved = accounts.reauthenticate(&body.password, &client);
    let token = proved.await?;
    let cookies = exchanged(&shared, &caller, token.as_deref());
    Ok((StatusCode::NO_CONTENT, cookies).into_response())
}

fn logged_in(shared: &Shared, status: StatusCode, new: &LoggedIn) -> Response {
    let cookies = begun(shared, new);
    let user = Shown::of(&new.user);
    (status, cookies, Json(Begun { user })).into_response()
}

// === impl Shown ===

impl Shown {
    pub(super) fn of(user: &User) -> Self {
        Self {
            id: user.id.to_string(),
            email: user.email.clone(),
            name: user.name.clone(),
        }
    }
}
