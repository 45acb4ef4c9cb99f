use std::borrow::Cow;

use http::Uri;

use super::Purpose;
use crate::account::AccountsError;

/// Where the pages are that links in mails lead to, each below the base URL.
///
/// A token is put behind the path as it is. By default that is behind a `#`: what
/// follows it is sent to no server, so it lies in no log and no `Referer`; the page
/// reads it and posts it. For pages without scripts, end a path in `?token=`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkPaths {
    /// Ends a sign-up. Default: `/auth/confirm#`.
    pub sign_up: Cow<'static, str>,
    /// Sets another password. Default: `/auth/reset#`.
    pub reset: Cow<'static, str>,
    /// Logs in. Default: `/auth/magic#`.
    pub magic: Cow<'static, str>,
    /// Confirms another address. Default: `/auth/email#`.
    pub email: Cow<'static, str>,
    /// Takes a change of the address back. Default: `/auth/undo#`.
    pub undo: Cow<'static, str>,
    /// Asks for a link that sets another password; without a token. Default:
    /// `/auth/forgot`.
    pub forgot: Cow<'static, str>,
}

/// Makes links of a base URL that was checked.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    base: String,
    paths: LinkPaths,
}

// === impl LinkPaths ===

impl Default for LinkPaths {
    fn default() -> Self {
        Self {
            sign_up: "/auth/confirm#".into(),
            reset: "/auth/reset#".into(),
            magic: "/auth/magic#".into(),
            email: "/auth/email#".into(),
            undo: "/auth/undo#".into(),
            forgot: "/auth/forgot".into(),
        }
    }
}

// === impl Links ===

impl Links {
    /// Checks `base` and each path.
    pub(crate) fn new(base: &str, paths: LinkPaths, secure: bool) -> Result<Self, AccountsError> {
        let base = base.strip_suffix('/').unwrap_or(base);
        if !is_base(base, secure) {
            return Err(AccountsError::BaseUrl { secure });
        }
        let all = [
            &paths.sign_up,
            &paths.reset,
            &paths.magic,
            &paths.email,
            &paths.undo,
            &paths.forgot,
        ];
        let plain = |path: &str| path.starts_with('/') && is_plain(path);
        if let Some(path) = all.into_iter().find(|path| !plain(path)) {
            return Err(AccountsError::LinkPath {
                path: path.to_string(),
            });
        }
        Ok(Self {
            base: base.to_owned(),
            paths,
        })
    }

    pub(crate) fn with_token(&self, purpose: Purpose, token: &str) -> String {
        let paths = &self.paths;
        let path = match purpose {
            Purpose::SignUp => &paths.sign_up,
            Purpose::ResetPassword => &paths.reset,
            Purpose::LogIn => &paths.magic,
            Purpose::ConfirmEmail => &paths.email,
            Purpose::UndoEmail => &paths.undo,
        };
        format!("{}{path}{token}", self.base)
    }

    /// Where to begin when the password is forgotten, or not the user's.
    pub(crate) fn forgot(&self) -> String {
        format!("{}{}", self.base, self.paths.forgot)
    }
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic())
}

fn is_base(text: &str, secure: bool) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    let scheme = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => !secure,
        _ => false,
    };
    // No user, whose name could pass for a host; nothing that ends the path.
    let host =
        (uri.authority()).is_some_and(|it| !it.host().is_empty() && !it.as_str().contains('@'));
    scheme && host && is_plain(text) && !text.contains(['?', '#'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(base: &str, secure: bool) -> Result<Links, AccountsError> {
        Links::new(base, LinkPaths::default(), secure)
    }

    #[test]
    fn base_is_https_and_nothing_but_an_origin_and_a_path() {
        for base in [
            "https://a.example",
            "https://a.example/",
            "https://a.example:8443/app",
        ] {
            assert!(links(base, true).is_ok(), "{base}");
        }
        assert!(links("http://localhost:8080", false).is_ok());
        for base in [
            "",
            "a.example",
            "//a.example",
            "http://a.example",
            "ftp://a.example",
            "https://",
            "https:///path",
            "https://bank.example@a.example",
            "https://a.example/?x",
            "https://a.example/#x",
            "https://a.example/a b",
            "https://a.example\r\nBcc: eve",
            "javascript:alert(1)",
        ] {
            assert!(links(base, true).is_err(), "{base}");
            let plain = base.starts_with("http://");
            assert!(plain || links(base, false).is_err(), "{base}");
        }
    }

    #[test]
    fn token_follows_its_path() {
        let paths = LinkPaths {
            reset: "/r?token=".into(),
            ..LinkPaths::default()
        };
        let links = Links::new("https://a.example/", paths, true).unwrap();
        assert_eq!(
            links.with_token(Purpose::ResetPassword, "mxm_x"),
            "https://a.example/r?token=mxm_x"
        );
        assert_eq!(
            links.with_token(Purpose::SignUp, "mxm_x"),
            "https://a.example/auth/confirm#mxm_x"
        );
        assert_eq!(links.forgot(), "https://a.example/auth/forgot");
        for bad in ["", "r#", "/r #", "/\n", "/ü"] {
            let paths = LinkPaths {
                magic: bad.into(),
                ..LinkPaths::default()
            };
            let refused = Links::new("https://a.example", paths, true);
            assert!(
                matches!(refused, Err(AccountsError::LinkPath { .. })),
                "{bad:?}"
            );
        }
    }
}
