//! Origins as browsers write them (RFC 6454, 6.2).

use http::Uri;

/// A text is no origin that may be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OriginError {
    /// It is not written as a browser writes an origin.
    #[error("{origin} is not an origin such as https://app.example")]
    Malformed {
        /// What was given.
        origin: String,
    },

    /// Pages that come without TLS may be anybody's, and the cookie needs TLS.
    #[error("{origin} is without TLS, and the session cookie is not")]
    Insecure {
        /// What was given.
        origin: String,
    },
}

/// The origin, if it can ever be what a browser sends.
pub(super) fn check(origin: &str, tls: bool) -> Result<String, OriginError> {
    let given = || origin.to_owned();
    let malformed = || OriginError::Malformed { origin: given() };
    let uri: Uri = origin.parse().map_err(|_| malformed())?;
    let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
        return Err(malformed());
    };
    let port = uri.port_u16();
    // A browser leaves out the port that the scheme has anyway.
    let is_default = matches!((scheme, port), ("https", Some(443)) | ("http", Some(80)));
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let written = format!("{scheme}://{}{port}", host.to_ascii_lowercase());
    if !matches!(scheme, "http" | "https") || is_default || written != origin {
        return Err(malformed());
    }
    if tls && scheme == "http" {
        return Err(OriginError::Insecure { origin: given() });
    }
    Ok(written)
}
