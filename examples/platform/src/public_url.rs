//! The URL that clients use: what links in mails begin with, and which origin is ours.

use std::str::FromStr;

use axum::http::Uri;

/// An `http` or `https` URL of a host, with a path if need be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    base: String,
    origin: String,
    tls: bool,
}

// === impl PublicUrl ===

impl PublicUrl {
    /// Without TLS, at `host:port`.
    pub(crate) fn plain(address: &str) -> Self {
        let base = format!("http://{address}");
        Self {
            origin: base.clone(),
            base,
            tls: false,
        }
    }

    /// Without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// As a browser writes it.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether clients come under TLS.
    pub const fn tls(&self) -> bool {
        self.tls
    }
}

impl FromStr for PublicUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "it must be http or https, a host, and a path if need be";
        let base = text.strip_suffix('/').unwrap_or(text);
        let url: Uri = base.parse().map_err(|_| FORM)?;
        let (Some(scheme), Some(host)) = (url.scheme_str(), url.host()) else {
            return Err(FORM);
        };
        let named = url.authority().is_some_and(|it| it.as_str().contains('@'));
        let tls = scheme == "https";
        if host.is_empty() || named || base.contains(['?', '#']) || !(tls || scheme == "http") {
            return Err(FORM);
        }
        let usual = if tls { 443 } else { 80 };
        let port = url.port_u16().filter(|port| *port != usual);
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        Ok(Self {
            base: base.to_owned(),
            origin: format!("{scheme}://{}{port}", host.to_ascii_lowercase()),
            tls,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_is_as_browsers_write_it() {
        for (url, base, origin) in [
            (
                "https://App.Example/",
                "https://App.Example",
                "https://app.example",
            ),
            (
                "https://a.example:443/b",
                "https://a.example:443/b",
                "https://a.example",
            ),
            (
                "http://localhost:3000",
                "http://localhost:3000",
                "http://localhost:3000",
            ),
            ("http://[::1]:80", "http://[::1]:80", "http://[::1]"),
        ] {
            let read: PublicUrl = url.parse().unwrap();
            assert_eq!((read.base(), read.origin()), (base, origin), "{url}");
            assert_eq!(read.tls(), url.starts_with("https"));
        }
    }

    #[test]
    fn what_links_cannot_begin_with_is_refused() {
        for url in [
            "https://",
            "https:///path",
            "https://bank.example@a.example",
            "https://a.example/?x",
            "https://a.example/#x",
            "ftp://a.example",
            "a.example",
        ] {
            assert!(url.parse::<PublicUrl>().is_err(), "{url}");
        }
    }
}
