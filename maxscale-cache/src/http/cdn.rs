//! What a CDN before the service is told (L3): for how long, and by which tags it
//! can be told to drop things again.

use std::fmt::Write as _;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::directives::CDN_CACHE_CONTROL;

const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

/// How long caches before the service keep a response (`CDN-Cache-Control`,
/// RFC 9213). An [`HttpCache`](super::HttpCache) is one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct CdnCacheControl {
    max_age: Duration,
    while_revalidate: Duration,
    if_error: Duration,
}

/// Names something that responses show, so that they can be dropped together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

/// Several [`Tag`]s, as one header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Vec<Tag>);

/// A text that is no [`Tag`], or one tag too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TagError {
    /// It is empty, too long, or has something else than visible ASCII without
    /// spaces, commas and quotes: it would be read as another tag, or as several.
    #[error(
        "a tag is up to {} visible ASCII characters without commas and quotes",
        Tag::MAX_LEN
    )]
    Text,
    /// Together they are longer than CDNs read.
    #[error("tags of a response are up to {} bytes", Tags::MAX_LEN)]
    TooMany,
}

// === impl CdnCacheControl ===

impl CdnCacheControl {
    /// How long a response is kept when nothing else is given.
    pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

    /// Kept for [`DEFAULT_MAX_AGE`](Self::DEFAULT_MAX_AGE), and never served stale.
    pub const fn new() -> Self {
        Self {
            max_age: Self::DEFAULT_MAX_AGE,
            while_revalidate: Duration::ZERO,
            if_error: Duration::ZERO,
        }
    }

    /// Sets how long a response is kept, in whole seconds.
    ///
    /// Default: [`CdnCacheControl::DEFAULT_MAX_AGE`].
    pub const fn max_age(mut self, time: Duration) -> Self {
        self.max_age = time;
        self
    }

    /// Sets how long after that it may be served while a new one is fetched.
    ///
    /// Default: not at all.
    pub const fn stale_while_revalidate(mut self, time: Duration) -> Self {
        self.while_revalidate = time;
        self
    }

    /// Sets how long after that it may be served if no new one can be had.
    ///
    /// Default: not at all.
    pub const fn stale_if_error(mut self, time: Duration) -> Self {
        self.if_error = time;
        self
    }

    /// Writes it into the headers of a response, in place of what is there.
    pub fn write(&self, headers: &mut HeaderMap) {
        let mut text = format!("max-age={}", self.max_age.as_secs());
        for (name, time) in [
            ("stale-while-revalidate", self.while_revalidate),
            ("stale-if-error", self.if_error),
        ] {
            if !time.is_zero() {
                let _ = write!(text, ", {name}={}", time.as_secs());
            }
        }
        // Names and numbers: always text for a header.
        if let Ok(text) = HeaderValue::try_from(text) {
            headers.insert(CDN_CACHE_CONTROL, text);
        }
    }
}

impl Default for CdnCacheControl {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Tag ===

impl Tag {
    /// The longest tag.
    pub const MAX_LEN: usize = 256;

    /// The tag named `text`.
    ///
    /// # Errors
    ///
    /// Returns [`TagError::Text`] for a text that could not be told from others in a
    /// header. Encode what somebody else chose, as by its id.
    pub fn new(text: &str) -> Result<Self, TagError> {
        let visible = |b: u8| b.is_ascii_graphic() && !b",\"\\'".contains(&b);
        let fits = (1..=Self::MAX_LEN).contains(&text.len());
        match fits && text.bytes().all(visible) {
            true => Ok(Self(text.to_owned())),
            false => Err(TagError::Text),
        }
    }

    /// The tag's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl Tags ===

impl Tags {
    /// The longest list, as a header writes it. Cloudflare reads so much of one, and
    /// Fastly the same.
    pub const MAX_LEN: usize = 16 * 1024;

    /// No tag yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// One tag.
    pub(super) fn of(tag: Tag) -> Self {
        Self(vec![tag])
    }

    /// What a response says of itself, in either header, as it is written there: each
    /// name once.
    pub(super) fn named_in(headers: &HeaderMap) -> Vec<String> {
        let mut names = Vec::new();
        for (header, between) in [(CACHE_TAG, ','), (SURROGATE_KEY, ' ')] {
            let lines = headers.get_all(header);
            for line in lines.iter().filter_map(|line| line.to_str().ok()) {
                for name in line.split(between).map(str::trim) {
                    if !name.is_empty() && !names.iter().any(|known| known == name) {
                        names.push(name.to_owned());
                    }
                }
            }
        }
        names
    }

    /// Adds the tag named `text`.
    ///
    /// # Errors
    ///
    /// See [`TagError`].
    pub fn with(mut self, text: &str) -> Result<Self, TagError> {
        let tag = Tag::new(text)?;
        if !self.0.contains(&tag) {
            self.0.push(tag);
        }
        let len: usize = self.0.iter().map(|tag| tag.0.len() + 1).sum();
        (len <= Self::MAX_LEN + 1)
            .then_some(self)
            .ok_or(TagError::TooMany)
    }

    /// The tags, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Tag> {
        self.0.iter()
    }

    /// Writes them as `Cache-Tag: a,b`, as Cloudflare, Akamai and Google read it.
    pub fn write_cache_tag(&self, headers: &mut HeaderMap) {
        self.write(headers, CACHE_TAG, ",");
    }

    /// Writes them as `Surrogate-Key: a b`, as Fastly and Varnish read it.
    pub fn write_surrogate_key(&self, headers: &mut HeaderMap) {
        self.write(headers, SURROGATE_KEY, " ");
    }

    fn write(&self, headers: &mut HeaderMap, name: HeaderName, between: &str) {
        let tags: Vec<_> = self.0.iter().map(Tag::as_str).collect();
        // Tags are visible ASCII: always text for a header.
        if let Ok(text) = HeaderValue::try_from(tags.join(between)) {
            headers.insert(name, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_tags_are_refused() {
        let long = "x".repeat(Tag::MAX_LEN + 1);
        for text in [
            "",
            "a,b",
            "a b",
            "a\nb",
            "a\r\nSet-Cookie: x",
            "ä",
            "a\"",
            "\0",
            &long,
        ] {
            assert_eq!(Tag::new(text), Err(TagError::Text), "{text:?}");
        }
        assert_eq!(Tag::new("user:1/posts").unwrap().as_str(), "user:1/posts");
    }

    #[test]
    fn list_is_as_long_as_cdns_read() {
        let mut tags = Tags::new();
        let refused = (0..1_000).find_map(|n| {
            let more = tags.clone().with(&format!("{n:0>64}"));
            more.map(|more| tags = more).err()
        });
        assert_eq!(refused, Some(TagError::TooMany));
        let mut headers = HeaderMap::new();
        tags.write_cache_tag(&mut headers);
        let written = headers["cache-tag"].len();
        assert!(
            (Tags::MAX_LEN - 65..=Tags::MAX_LEN).contains(&written),
            "{written}"
        );
    }

    #[test]
    fn names_are_read_from_either_header_and_each_once() {
        let mut headers = HeaderMap::new();
        assert!(Tags::named_in(&headers).is_empty());
        headers.append(CACHE_TAG, HeaderValue::from_static("a, b,,a"));
        headers.append(CACHE_TAG, HeaderValue::from_static("c d"));
        headers.append(SURROGATE_KEY, HeaderValue::from_static("b  e"));
        assert_eq!(Tags::named_in(&headers), ["a", "b", "c d", "e"]);
    }

    #[test]
    fn headers_are_written_as_each_cdn_reads_them() {
        let mut headers = HeaderMap::new();
        let tags = Tags::new().with("a").unwrap().with("b").unwrap();
        let tags = tags.with("a").unwrap();
        tags.write_cache_tag(&mut headers);
        tags.write_surrogate_key(&mut headers);
        CdnCacheControl::new().write(&mut headers);
        assert_eq!(headers["cache-tag"], "a,b");
        assert_eq!(headers["surrogate-key"], "a b");
        assert_eq!(headers["cdn-cache-control"], "max-age=86400");
        CdnCacheControl::new()
            .max_age(Duration::from_secs(60))
            .stale_while_revalidate(Duration::from_secs(5))
            .stale_if_error(Duration::from_secs(7))
            .write(&mut headers);
        let said = "max-age=60, stale-while-revalidate=5, stale-if-error=7";
        assert_eq!(headers["cdn-cache-control"], said);
    }
}
