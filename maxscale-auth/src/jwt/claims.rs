//! What a token says.

use std::borrow::Cow;

use maxscale_core::clock::Timestamp;
use maxscale_core::id::Id;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::session::{Level, Roles};

/// What an access token says of who brings it. Times are whole seconds: what is between
/// two is rounded down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The user.
    pub user: Id,
    /// The address at the time.
    pub email: String,
    /// The roles at the time.
    pub roles: Roles,
    /// The session by which the token was had.
    pub session: Id,
    /// What the user's changes counted then: a token of an older number may say what is
    /// no longer so.
    pub epoch: u64,
    /// How sure it was that it is the user.
    pub level: Level,
    /// When the user last proved it.
    pub authenticated_at: Timestamp,
    /// The token's own id.
    pub token: Uuid,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// From when on it counts for nothing.
    pub expires_at: Timestamp,
}

/// The claims as JSON. What is there twice or of another type is refused by the
/// parser; what is not known is left to who knows it.
#[derive(Serialize, Deserialize)]
pub(super) struct Wire<'t> {
    #[serde(borrow)]
    pub(super) iss: Cow<'t, str>,
    #[serde(borrow)]
    pub(super) aud: Cow<'t, str>,
    pub(super) sub: Uuid,
    pub(super) user_id: Uuid,
    #[serde(borrow)]
    email: Cow<'t, str>,
    #[serde(borrow)]
    roles: Vec<Cow<'t, str>>,
    session_id: Uuid,
    epoch: u64,
    aal: u8,
    auth_time: i64,
    jti: Uuid,
    pub(super) iat: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) nbf: Option<i64>,
    pub(super) exp: i64,
}

const SECOND: i64 = 1_000_000;

fn seconds(time: Timestamp) -> i64 {
    time.as_micros().div_euclid(SECOND)
}

fn time(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp::from_micros(seconds.checked_mul(SECOND)?))
}

// === impl Wire ===

impl<'t> Wire<'t> {
    pub(super) fn of(claims: &'t Claims, issuer: &'t str, audience: &'t str) -> Self {
        let user = claims.user.as_uuid();
        Self {
            iss: issuer.into(),
            aud: audience.into(),
            sub: user,
            user_id: user,
            email: claims.email.as_str().into(),
            roles: claims.roles.names().map(Cow::from).collect(),
            session_id: claims.session.as_uuid(),
            epoch: claims.epoch,
            aal: claims.level.number(),
            auth_time: seconds(claims.authenticated_at),
            jti: claims.token,
            iat: seconds(claims.issued_at),
            nbf: None,
            exp: seconds(claims.expires_at),
        }
    }

    /// What it says; `None` for ids that are none of ours, roles that have no such names,
    /// a level that there is not, and times out of range.
    pub(super) fn claims(&self) -> Option<Claims> {
        let level = Level::of(self.aal);
        (level.number() == self.aal && self.sub == self.user_id).then_some(())?;
        Some(Claims {
            user: Id::from_uuid(self.user_id).ok()?,
            email: self.email.clone().into_owned(),
            roles: Roles::new(self.roles.iter().map(Cow::as_ref))?,
            session: Id::from_uuid(self.session_id).ok()?,
            epoch: self.epoch,
            level,
            authenticated_at: time(self.auth_time)?,
            token: self.jti,
            issued_at: time(self.iat)?,
            expires_at: time(self.exp)?,
        })
    }
}
