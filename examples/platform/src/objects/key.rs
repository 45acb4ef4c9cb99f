//! Names of objects, checked once.

use object_store::path::Path;

use super::ObjectsError;

const SCHEME: &str = "file://";

/// File systems take names of 255 bytes; a temporary file adds a few to its target's.
const MAX_BYTES: usize = 200;

/// A path below the store's folder that leads nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(Path);

// === impl Key ===

impl Key {
    pub(super) fn parse(text: &str) -> Result<Self, ObjectsError> {
        let refused = || ObjectsError::Key { key: text.into() };
        if text.len() > MAX_BYTES || !text.split('/').all(is_name) {
            return Err(refused());
        }
        Path::parse(text).map(Self).map_err(|_| refused())
    }

    pub(super) fn from_url(url: &str) -> Result<Self, ObjectsError> {
        url.strip_prefix(SCHEME)
            .and_then(|key| Self::parse(key).ok())
            .ok_or_else(|| ObjectsError::Url { url: url.into() })
    }

    pub(super) fn url(&self) -> String {
        format!("{SCHEME}{}", self.0)
    }

    pub(super) fn location(&self) -> Path {
        self.0.clone()
    }
}

/// Whether `segment` may stand between two slashes.
pub(super) fn is_name(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..")
        && segment
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-'))
}
