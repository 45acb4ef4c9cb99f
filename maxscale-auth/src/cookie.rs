//! Where a request carries its token, and the cookie that keeps it.

use std::iter;
use std::time::Duration;

use http::StatusCode;
use http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use maxscale_core::refusal::{Class, Classify};
use memchr::memchr;

/// How the session cookie is named and protected.
///
/// Always HttpOnly, `SameSite=Strict` and for the whole site. Under TLS also
/// `Secure`, with the prefix `__Host-`, so that no other host can set it.
#[derive(Clone, Copy, Debug)]
pub struct CookiePolicy {
    secure: bool,
}

/// A request carries more than one credential, and nobody can say which one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request carries more than one credential")]
pub struct Ambiguous;

/// The credential of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried<'h> {
    /// None.
    Nothing,
    /// A cookie, which browsers add by themselves; perhaps in a header too.
    Cookie(&'h str),
    /// A header that only who knows the token can write.
    Bearer(&'h str),
}

// === impl CookiePolicy ===

impl CookiePolicy {
    /// The policy of a site under TLS, or of one without.
    pub const fn new(tls: bool) -> Self {
        Self { secure: tls }
    }

    /// Whether it needs TLS.
    pub(crate) const fn is_secure(&self) -> bool {
        self.secure
    }

    /// The cookie's name.
    pub const fn name(&self) -> &'static str {
        if self.secure {
            "__Host-maxscale"
        } else {
            "maxscale"
        }
    }

    /// The `Set-Cookie` value that keeps `token` for `age`, in whole seconds: what is
    /// left of its session's life ([`SessionPolicy::absolute`](crate::session::SessionPolicy::absolute),
    /// or [`Principal::life_left`](crate::Principal::life_left) after an exchange).
    ///
    /// [`SessionLayer`](crate::SessionLayer) forbids caches to store the answer, and
    /// takes the cookie off one that tells of a fault of the server.
    pub fn set(&self, token: &str, age: Duration) -> Option<HeaderValue> {
        self.write(self.name(), token, age)
    }

    fn write(&self, name: &str, value: &str, age: Duration) -> Option<HeaderValue> {
        let secure = if self.secure { "; Secure" } else { "" };
        let age = age.as_secs();
        let text =
            format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}{secure}");
        HeaderValue::try_from(text).ok()
    }

    /// The name of the cookie that a device is known by.
    #[cfg(feature = "routes")]
    pub(crate) const fn device_name(&self) -> &'static str {
        if self.secure {
            "__Host-maxscale-device"
        } else {
            "maxscale-device"
        }
    }

    /// The `Set-Cookie` value that keeps how a device is known, protected as the session is.
    #[cfg(feature = "routes")]
    pub(crate) fn set_device(&self, text: &str, age: Duration) -> Option<HeaderValue> {
        self.write(self.device_name(), text, age)
    }

    /// The `Set-Cookie` value that removes the cookie.
    pub fn clear(&self) -> Option<HeaderValue> {
        self.set("", Duration::ZERO)
    }

    /// The token that a request carries: as the cookie, or as `Authorization: Bearer`.
    ///
    /// # Errors
    ///
    /// Returns [`Ambiguous`] for two cookies of the name, two `Authorization` headers,
    /// and a cookie and a bearer token that differ.
    pub fn token<'h>(&self, headers: &'h HeaderMap) -> Result<Option<&'h str>, Ambiguous> {
        self.carried(headers).map(Carried::token)
    }

    pub(crate) fn carried<'h>(&self, headers: &'h HeaderMap) -> Result<Carried<'h>, Ambiguous> {
        match (self.cookie(headers)?, bearer(headers)?) {
            (Some(cookie), Some(bearer)) if cookie != bearer => Err(Ambiguous),
            (Some(cookie), _) => Ok(Carried::Cookie(cookie)),
            (None, Some(bearer)) => Ok(Carried::Bearer(bearer)),
            (None, None) => Ok(Carried::Nothing),
        }
    }

    /// An empty cookie is one that was removed.
    fn cookie<'h>(&self, headers: &'h HeaderMap) -> Result<Option<&'h str>, Ambiguous> {
        let lines = headers.get_all(COOKIE).iter();
        // By bytes: what other cookies of the line are made of is not our business.
        let pairs = lines.flat_map(|line| pairs(line.as_bytes()));
        let ours = pairs.filter_map(|pair| {
            let value = pair.trim_ascii().strip_prefix(self.name().as_bytes())?;
            value.strip_prefix(b"=")
        });
        let value = only(ours)?.and_then(|value| std::str::from_utf8(value).ok());
        Ok(value.filter(|value| !value.is_empty()))
    }

    /// What an answer must keep to, whoever has set the cookie in it: none is stored by
    /// a cache, and none comes with a fault, after which nobody knows what was done.
    pub(crate) fn settle(&self, status: StatusCode, headers: &mut HeaderMap) {
        let is_ours = |value: &&HeaderValue| {
            let value = value.as_bytes().strip_prefix(self.name().as_bytes());
            value.is_some_and(|rest| rest.starts_with(b"="))
        };
        if !headers.get_all(SET_COOKIE).iter().any(|it| is_ours(&it)) {
            return;
        }
        if !status.is_server_error() {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            return;
        }
        let all = headers.get_all(SET_COOKIE).iter();
        let others: Vec<_> = all.filter(|it| !is_ours(it)).cloned().collect();
        headers.remove(SET_COOKIE);
        for other in others {
            headers.append(SET_COOKIE, other);
        }
    }
}

/// What stands between semicolons. Most of a line is the token, and many bytes of that are
/// looked at in one go.
fn pairs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    iter::from_fn(move || {
        let line = rest?;
        let end = memchr(b';', line);
        rest = end.map(|end| &line[end + 1..]);
        Some(&line[..end.unwrap_or(line.len())])
    })
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Ambiguous> {
    let value = only(headers.get_all(AUTHORIZATION).iter())?;
    let credentials = value.and_then(|value| value.to_str().ok()?.split_once(' '));
    let bearer = credentials.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    Ok(bearer.map(|(_, token)| token).filter(|it| !it.is_empty()))
}

fn only<T>(mut values: impl Iterator<Item = T>) -> Result<Option<T>, Ambiguous> {
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(Ambiguous),
        (value, None) => Ok(value),
    }
}

// === impl Carried ===

impl<'h> Carried<'h> {
    pub(crate) fn token(self) -> Option<&'h str> {
        match self {
            Self::Nothing => None,
            Self::Cookie(token) | Self::Bearer(token) => Some(token),
        }
    }
}

// === impl Ambiguous ===

impl Classify for Ambiguous {
    fn class(&self) -> Class {
        Class::Invalid
    }

    fn code(&self) -> &'static str {
        "credentials_ambiguous"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: CookiePolicy = CookiePolicy::new(false);

    fn headers(pairs: &[(http::HeaderName, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            (name.clone(), value)
        });
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn cookie_is_secure_under_tls_only() {
        let age = Duration::from_secs(60);
        let tls = CookiePolicy::new(true).set("t", age).unwrap();
        assert_eq!(
            tls,
            "__Host-maxscale=t; Path=/; HttpOnly; SameSite=Strict; Max-Age=60; Secure"
        );
        let plain = PLAIN.set("t", age).unwrap();
        assert_eq!(
            plain,
            "maxscale=t; Path=/; HttpOnly; SameSite=Strict; Max-Age=60"
        );
    }

    #[test]
    fn one_credential_is_found_whatever_is_around_it() {
        let cookie = |line: &'static str| vec![(COOKIE, line)];
        let bearer = |value: &'static str| vec![(AUTHORIZATION, value)];
        for (carried, expected) in [
            (vec![], Carried::Nothing),
            (cookie("a=b; xmaxscale=no"), Carried::Nothing),
            (cookie("maxscalex=no; =; ;;"), Carried::Nothing),
            (cookie("maxscale"), Carried::Nothing),
            (cookie("maxscale="), Carried::Nothing),
            (cookie("MAXSCALE=yes"), Carried::Nothing),
            (cookie("a=b;maxscale=yes"), Carried::Cookie("yes")),
            (cookie(" maxscale=yes ; c=d"), Carried::Cookie("yes")),
            (
                cookie("na\u{ef}ve=\u{fc}; maxscale=yes"),
                Carried::Cookie("yes"),
            ),
            (
                vec![(COOKIE, "a=b"), (COOKIE, "maxscale=yes")],
                Carried::Cookie("yes"),
            ),
            (bearer("Bearer yes"), Carried::Bearer("yes")),
            (bearer("bEARER yes"), Carried::Bearer("yes")),
            (bearer("Bearer"), Carried::Nothing),
            (bearer("Bearer "), Carried::Nothing),
            (bearer("Basic YTpi"), Carried::Nothing),
            (bearer("\u{fc} yes"), Carried::Nothing),
            // A browser has sent it too.
            (
                vec![(COOKIE, "maxscale=yes"), (AUTHORIZATION, "Bearer yes")],
                Carried::Cookie("yes"),
            ),
            (
                vec![(COOKIE, "maxscale=yes"), (AUTHORIZATION, "Basic YTpi")],
                Carried::Cookie("yes"),
            ),
        ] {
            assert_eq!(
                PLAIN.carried(&headers(&carried)),
                Ok(expected),
                "{carried:?}"
            );
        }
        let other = headers(&cookie("maxscale=yes"));
        assert_eq!(CookiePolicy::new(true).token(&other), Ok(None));
    }

    #[test]
    fn two_credentials_are_refused() {
        for carried in [
            vec![(COOKIE, "maxscale=a; maxscale=b")],
            vec![(COOKIE, "maxscale=a; maxscale=a")],
            vec![(COOKIE, "maxscale=a; maxscale=")],
            vec![(COOKIE, "maxscale=a"), (COOKIE, "maxscale=b")],
            vec![(AUTHORIZATION, "Bearer a"), (AUTHORIZATION, "Bearer a")],
            vec![(AUTHORIZATION, "Basic YTpi"), (AUTHORIZATION, "Bearer a")],
            vec![(COOKIE, "maxscale=a"), (AUTHORIZATION, "Bearer b")],
        ] {
            assert_eq!(
                PLAIN.carried(&headers(&carried)),
                Err(Ambiguous),
                "{carried:?}"
            );
        }
    }

    #[test]
    fn answer_with_the_cookie_is_stored_by_nobody_and_tells_of_no_fault() {
        let answer = || {
            headers(&[
                (SET_COOKIE, "maxscale=t; Path=/"),
                (SET_COOKIE, "maxscaler=t"),
                (CACHE_CONTROL, "public"),
            ])
        };
        let mut good = answer();
        PLAIN.settle(StatusCode::UNAUTHORIZED, &mut good);
        assert_eq!(good[CACHE_CONTROL], "no-store");
        assert_eq!(good.get_all(SET_COOKIE).iter().count(), 2);
        let mut bad = answer();
        PLAIN.settle(StatusCode::BAD_GATEWAY, &mut bad);
        let left: Vec<_> = bad.get_all(SET_COOKIE).iter().collect();
        assert_eq!(left, ["maxscaler=t"]);
        let mut without = headers(&[(SET_COOKIE, "theme=dark"), (CACHE_CONTROL, "public")]);
        PLAIN.settle(StatusCode::OK, &mut without);
        assert_eq!(without[CACHE_CONTROL], "public");
    }
}
