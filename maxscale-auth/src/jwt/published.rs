//! The key set as others get it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use http::{Request, Response, StatusCode};
use sha2::{Digest, Sha256};

use super::keeper::SigningKeys;
use super::keys::Keys;

/// A key set as JSON, and the tag by which one is known from another.
#[derive(Clone, Debug)]
pub(super) struct Published {
    json: Arc<str>,
    tag: HeaderValue,
}

// === impl Published ===

impl Published {
    /// A change that is due may be a moment away, and not all who ask must ask again then.
    const AT_LEAST: Duration = Duration::from_secs(60);

    pub(super) fn of(keys: &Keys) -> Self {
        let json: Arc<str> = keys.jwks().into();
        let tag = URL_SAFE_NO_PAD.encode(&Sha256::digest(&*json)[..16]);
        let tag = HeaderValue::try_from(format!("\"{tag}\""));
        Self {
            json,
            tag: tag.expect("base64url is visible ASCII"),
        }
    }

    /// For how long it may be kept: until the next change, and in no case for longer than
    /// what this process knows is `sure`, which counts for caches as for processes.
    pub(super) fn cached_for(sure: Duration, due: Duration) -> Duration {
        due.max(Self::AT_LEAST).min(sure)
    }

    fn is_known(&self, known: &HeaderValue) -> bool {
        let known = known.to_str().unwrap_or_default().split(',');
        let mut known = known.map(|it| it.trim().trim_start_matches("W/"));
        known.any(|it| it == "*" || it.as_bytes() == self.tag.as_bytes())
    }
}

// === impl SigningKeys ===

impl SigningKeys {
    /// Where others look for the key set (RFC 8414, by custom).
    pub const PATH: &str = "/.well-known/jwks.json";

    /// The answer to who asks for the key set by GET or HEAD: JSON (RFC 7517) with a tag, or
    /// that it is the one that he knows. It may be kept until the keys change next, and for
    /// no longer than [`Rotation::seen_within`](super::Rotation::seen_within), which counts
    /// from when this process read the keys.
    #[expect(clippy::missing_panics_doc, reason = "a number is visible ASCII")]
    pub fn answer<B>(&self, request: &Request<B>) -> Response<String> {
        let (published, age) = self.published();
        let mut known = request.headers().get_all(IF_NONE_MATCH).iter();
        let is_known = known.any(|it| published.is_known(it));
        let mut response = match is_known {
            true => Response::new(String::new()),
            false => Response::new(published.json.as_ref().to_owned()),
        };
        let cached = HeaderValue::try_from(format!("public, max-age={}", age.as_secs()));
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, cached.expect("a number is visible ASCII"));
        headers.insert(ETAG, published.tag);
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            let json = HeaderValue::from_static("application/jwk-set+json");
            headers.insert(CONTENT_TYPE, json);
        }
        response
    }

    /// The route at [`PATH`](Self::PATH), to be merged into the service's.
    #[cfg(feature = "axum")]
    pub fn route(&self) -> axum::Router {
        let keys = self.clone();
        let answer = async move |request: axum::extract::Request| {
            let response = keys.answer(&request);
            response.map(axum::body::Body::from)
        };
        axum::Router::new().route(Self::PATH, axum::routing::get(answer))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Algorithm, KeyState, SigningKey};
    use super::*;

    fn published() -> Published {
        let key = SigningKey::random(Algorithm::EdDsa).unwrap();
        Published::of(&Keys::new([(key, KeyState::Active)]).unwrap())
    }

    #[test]
    fn set_is_kept_until_it_changes_and_no_longer_than_it_is_sure() {
        let [second, minute, hour] = [1, 60, 3_600].map(Duration::from_secs);
        for (sure, due, kept) in [
            (hour, 2 * hour, hour),
            (hour, 2 * minute, 2 * minute),
            (hour, second, minute),
            (second, hour, second),
            (Duration::ZERO, hour, Duration::ZERO),
        ] {
            assert_eq!(Published::cached_for(sure, due), kept, "{sure:?} {due:?}");
        }
    }

    #[test]
    fn tag_is_known_in_any_list_and_of_any_strength() {
        let (published, other) = (published(), published());
        let tag = published.tag.to_str().unwrap();
        for (known, is_known) in [
            (tag.to_owned(), true),
            (format!("W/{tag}"), true),
            (format!("\"other\", {tag}"), true),
            ("*".to_owned(), true),
            (String::new(), false),
            (tag.trim_matches('"').to_owned(), false),
            (other.tag.to_str().unwrap().to_owned(), false),
        ] {
            let header = HeaderValue::try_from(&known).unwrap();
            assert_eq!(published.is_known(&header), is_known, "{known}");
        }
    }
}
