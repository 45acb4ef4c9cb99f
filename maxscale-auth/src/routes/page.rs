//! The pages that links in mails lead to.
//!
//! A page is the same for everybody and asks nobody: programs that follow links in
//! mails change nothing. A person presses its button, and the page posts the token.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

/// What a page is for.
#[derive(Clone, Copy, Debug)]
struct Page {
    title: &'static str,
    /// What it posts to, seen from the page.
    action: &'static str,
    /// What a person has to type.
    field: &'static str,
    button: &'static str,
    done: &'static str,
}

const PASSWORD: &str = "<label>Your password <input name=password type=password required \
                        autocomplete=current-password></label>";
const NEW_PASSWORD: &str = "<label>A new password, of 15 characters or more <input name=password \
                            type=password minlength=15 maxlength=256 required \
                            autocomplete=new-password></label>";
const EMAIL: &str = "<label>Your email address <input name=email type=email required \
                     autocomplete=email></label>";

const CONFIRM: Page = Page {
    title: "Confirm your address",
    action: "email/verify",
    field: PASSWORD,
    button: "Confirm",
    done: "Your address is confirmed, and you are logged in.",
};
const RESET: Page = Page {
    title: "Set a new password",
    action: "password/reset",
    field: NEW_PASSWORD,
    button: "Set the password",
    done: "Your password is set. You can log in with it.",
};
const MAGIC: Page = Page {
    title: "Log in",
    action: "magic/redeem",
    field: "",
    button: "Log in",
    done: "You are logged in.",
};
const EMAIL_CHANGE: Page = Page {
    title: "Confirm your new address",
    action: "email/verify",
    field: "",
    button: "Confirm",
    done: "This is the address of your account now.",
};
const UNDO: Page = Page {
    title: "Keep your old address",
    action: "email/undo",
    field: "",
    button: "Keep it",
    done: "Your account has its old address again. A mail says how to set a new password.",
};
const FORGOT: Page = Page {
    title: "Forgotten password",
    action: "password/forgot",
    field: EMAIL,
    button: "Send me a link",
    done: "If there is an account with this address, a mail is on its way.",
};

/// Nothing but the page's own script, and nobody may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The pages, and the script that they share.
pub(super) fn pages() -> Router {
    let page = |page: Page| get(move || async move { page.into_response() });
    Router::new()
        .route("/confirm", page(CONFIRM))
        .route("/reset", page(RESET))
        .route("/magic", page(MAGIC))
        .route("/email", page(EMAIL_CHANGE))
        .route("/undo", page(UNDO))
        .route("/forgot", page(FORGOT))
        .route("/page.js", get(script))
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let Self {
            title,
            action,
            field,
            button,
            done,
        } = self;
        let text = format!(
            "<!doctype html><html lang=en><meta charset=utf-8>\
             <meta name=viewport content=\"width=device-width\"><title>{title}</title>\
             <h1>{title}</h1><form method=post action=\"{action}\" data-done=\"{done}\">{field} \
             <button name=send>{button}</button></form><output></output>\
             <noscript>This page needs scripts.</noscript><script src=page.js></script>"
        );
        answer("text/html; charset=utf-8", text)
    }
}

async fn script() -> Response {
    answer("text/javascript; charset=utf-8", include_str!("page.js"))
}

fn answer(content_type: &'static str, text: impl IntoResponse) -> Response {
    let headers = [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
    ];
    (headers, text).into_response()
}
