//! Whether a client has what it asks for already (RFC 9110, 13.2).

use http::header::{
    DATE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use httpdate::parse_http_date;

/// The conditions of a request that a stored response can answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    none_match: Vec<HeaderValue>,
    modified_since: Option<HeaderValue>,
}

// === impl Conditions ===

impl Conditions {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self {
            none_match: headers.get_all(IF_NONE_MATCH).iter().cloned().collect(),
            modified_since: headers.get(IF_MODIFIED_SINCE).cloned(),
        }
    }

    /// Takes them out of a request whose whole answer is wanted.
    pub(super) fn remove_from(headers: &mut HeaderMap) {
        headers.remove(IF_NONE_MATCH);
        headers.remove(IF_MODIFIED_SINCE);
    }

    /// Whether who asked has the response with `headers`.
    pub(super) fn hold(&self, headers: &HeaderMap) -> bool {
        if !self.none_match.is_empty() {
            let Some(tag) = headers.get(ETAG) else {
                return false;
            };
            let tag = opaque(tag.as_bytes());
            return self
                .none_match
                .iter()
                .any(|line| lists(line.as_bytes(), tag));
        }
        let Some(since) = &self.modified_since else {
            return false;
        };
        let date = |value: &HeaderValue| parse_http_date(value.to_str().ok()?).ok();
        // Without the one it was as it is now when it was sent (RFC 9111, 4.3.2).
        let modified = headers.get(LAST_MODIFIED).or_else(|| headers.get(DATE));
        let modified = modified.and_then(date);
        matches!((date(since), modified), (Some(since), Some(modified)) if modified <= since)
    }
}

/// Adds what asks a handler whether a response with `headers` is still the right one.
pub(super) fn ask_again(request: &mut HeaderMap, headers: &HeaderMap, own_tag: bool) {
    let mut copy = |from: HeaderName, to: HeaderName| {
        if let Some(value) = headers.get(from) {
            request.insert(to, value.clone());
        }
    };
    // The handler knows no tag that was made here.
    if !own_tag {
        copy(ETAG, IF_NONE_MATCH);
    }
    copy(LAST_MODIFIED, IF_MODIFIED_SINCE);
}

/// A tag without what says that it is weak: `If-None-Match` compares weakly.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Whether a list of tags has `tag` in it. Commas may stand within tags.
fn lists(mut list: &[u8], tag: &[u8]) -> bool {
    loop {
        list = list.trim_ascii_start();
        list = list.strip_prefix(b",").unwrap_or(list).trim_ascii_start();
        if list.is_empty() {
            return false;
        }
        let bare = opaque(list);
        let end = match bare.strip_prefix(b"\"") {
            Some(rest) => rest.iter().position(|byte| *byte == b'"').map(|at| at + 2),
            None => bare.iter().position(|byte| *byte == b','),
        };
        let (member, rest) = bare.split_at(end.unwrap_or(bare.len()));
        let member = member.trim_ascii_end();
        if member == tag || member == b"*" {
            return true;
        }
        list = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_in_lists_and_compared_weakly() {
        for (list, tag, found) in [
            ("\"a\"", "\"a\"", true),
            ("W/\"a\"", "\"a\"", true),
            ("\"a\"", "W/\"a\"", true),
            ("\"b\", \"a\"", "\"a\"", true),
            ("\"b\",W/\"a\" , \"c\"", "\"a\"", true),
            ("\"b,\", \"a,c\"", "\"a,c\"", true),
            ("\"b,\\\"a\\\"\"", "\"a\"", false),
            ("*", "\"a\"", true),
            ("a", "\"a\"", false),
            ("\"a", "\"a\"", false),
            ("", "\"a\"", false),
            (",,,", "\"a\"", false),
        ] {
            let mut request = HeaderMap::new();
            request.insert(IF_NONE_MATCH, list.parse().unwrap());
            let mut answer = HeaderMap::new();
            answer.insert(ETAG, tag.parse().unwrap());
            assert_eq!(
                Conditions::of(&request).hold(&answer),
                found,
                "{list} {tag}"
            );
        }
    }

    #[test]
    fn date_counts_only_without_tags() {
        let mut answer = HeaderMap::new();
        answer.insert(ETAG, "\"a\"".parse().unwrap());
        let date: HeaderValue = "Wed, 01 Jan 2020 00:00:00 GMT".parse().unwrap();
        answer.insert(LAST_MODIFIED, date.clone());
        let mut request = HeaderMap::new();
        request.insert(IF_MODIFIED_SINCE, date);
        assert!(Conditions::of(&request).hold(&answer));
        request.insert(IF_NONE_MATCH, "\"b\"".parse().unwrap());
        assert!(!Conditions::of(&request).hold(&answer));
        request.remove(IF_NONE_MATCH);
        let earlier = "Tue, 31 Dec 2019 23:59:59 GMT".parse().unwrap();
        request.insert(IF_MODIFIED_SINCE, earlier);
        assert!(!Conditions::of(&request).hold(&answer));
        request.insert(IF_MODIFIED_SINCE, "yesterday".parse().unwrap());
        assert!(!Conditions::of(&request).hold(&answer));
    }
}
