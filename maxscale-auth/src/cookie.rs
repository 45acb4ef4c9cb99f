use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue};

/// How the session cookie is named and protected.
///
/// Always HttpOnly, `SameSite=Lax` and for the whole site. Under TLS also
/// `Secure`, with the prefix `__Host-`, so that no other host can set it.
#[derive(Clone, Copy, Debug)]
pub struct CookiePolicy {
    secure: bool,
}

// === impl CookiePolicy ===

impl CookiePolicy {
    /// The policy of a site under TLS, or of one without.
    pub const fn new(tls: bool) -> Self {
        Self { secure: tls }
    }

    /// The cookie's name.
    pub const fn name(&self) -> &'static str {
        if self.secure {
            "__Host-maxscale"
        } else {
            "maxscale"
        }
    }

    /// The `Set-Cookie` value that keeps `token` for `age`.
    pub fn set(&self, token: &str, age: Duration) -> Option<HeaderValue> {
        let secure = if self.secure { "; Secure" } else { "" };
        let name = self.name();
        let age = age.as_secs();
        let text = format!("{name}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age}{secure}");
        HeaderValue::try_from(text).ok()
    }

    /// The `Set-Cookie` value that removes the cookie.
    pub fn clear(&self) -> Option<HeaderValue> {
        self.set("", Duration::ZERO)
    }

    /// The token that a request carries: `Authorization: Bearer`, else the cookie.
    pub(crate) fn find<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let bearer = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token);
        bearer.or_else(|| self.cookie(headers))
    }

    fn cookie<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let lines = headers.get_all(COOKIE).iter();
        lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, _)| *name == self.name())
            .map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookie_is_secure_under_tls_only() {
        let age = Duration::from_secs(60);
        let tls = CookiePolicy::new(true).set("t", age).unwrap();
        assert_eq!(
            tls,
            "__Host-maxscale=t; Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure"
        );
        let plain = CookiePolicy::new(false).set("t", age).unwrap();
        assert_eq!(
            plain,
            "maxscale=t; Path=/; HttpOnly; SameSite=Lax; Max-Age=60"
        );
    }

    #[test]
    fn token_is_found_among_other_cookies() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "a=b; xmaxscale=no".parse().unwrap());
        headers.append(COOKIE, "c=d; maxscale=yes".parse().unwrap());
        let policy = CookiePolicy::new(false);
        assert_eq!(policy.find(&headers), Some("yes"));
        assert_eq!(CookiePolicy::new(true).find(&headers), None);
        headers.insert(AUTHORIZATION, "Bearer first".parse().unwrap());
        assert_eq!(policy.find(&headers), Some("first"));
    }
}
