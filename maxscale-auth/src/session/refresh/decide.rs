//! What is to be done with a refresh token. Pure.

use maxscale_core::clock::Timestamp;

use super::token::RefreshToken;
use crate::session::record::Session;

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// The next one.
    Exchange,
    /// The next one, which is the session's now.
    Again,
    /// A sign that two have it.
    Reused,
    /// Nothing.
    Over,
}

/// Decides by the session as its row says. The token's MAC is right, so it was issued for
/// this session, in whatever generation.
pub(super) fn decide(session: &Session, token: &RefreshToken, now: Timestamp) -> Use {
    let secret = token.secret_hash();
    let previous = session.previous.filter(|it| it.secret_hash == secret);
    let is_current = session.secret_hash == secret;
    match previous {
        _ if !session.is_live(now) => Use::Over,
        _ if is_current => Use::Exchange,
        Some(previous) if now < previous.until => Use::Again,
        Some(_) => Use::Reused,
        None if token.generation < session.version => Use::Reused,
        // The rows are older than what was issued: they were restored.
        None => Use::Over,
    }
}
