//! `Cache-Control` as it was meant: names without regard to case, quoted texts
//! kept whole, the first of a name that is given twice, numbers bounded.

use std::fmt::Write as _;

use http::HeaderMap;
use http::header::{CACHE_CONTROL, HeaderName};

/// For shared caches that stand before the service, this one among them (RFC 9213).
pub(super) const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// RFC 9111, 1.2.2: what is larger is read as this.
const FOREVER: u64 = 1 << 31;

/// The directives of one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directives(Vec<(String, Option<String>)>);

// === impl Directives ===

impl Directives {
    /// What `Cache-Control` says.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut all = Self::default();
        for value in headers.get_all(CACHE_CONTROL) {
            // What is no text is no name and no number either.
            for member in members(&String::from_utf8_lossy(value.as_bytes())) {
                all.add(member);
            }
        }
        all
    }

    /// What `CDN-Cache-Control` says; none if it is absent, empty or malformed.
    ///
    /// It is a dictionary of structured fields, in which one mistake spoils all.
    pub(super) fn of_cdn(headers: &HeaderMap) -> Option<Self> {
        let mut all = Self::default();
        for value in headers.get_all(CDN_CACHE_CONTROL) {
            let text = value.to_str().ok()?;
            for member in members(text) {
                all.add(well_formed(member)?);
            }
        }
        (!all.0.is_empty()).then_some(all)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// The seconds that `name` gives; none if it is absent or no number.
    pub(super) fn seconds(&self, name: &str) -> Option<u64> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        seconds(value.as_deref()?)
    }

    /// The directives that say how a message is kept, as simple text.
    pub(super) fn plain(&self) -> String {
        const NUMBERS: [&str; 5] = ["max-age", "s-maxage", "max-stale", "min-fresh", "age"];
        let mut text = String::new();
        for (name, value) in &self.0 {
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(name);
            if NUMBERS.contains(&name.as_str())
                && let Some(value) = value
            {
                // No number means that it is stale already.
                let seconds = seconds(value).unwrap_or(0);
                let _ = write!(text, "={seconds}");
            }
        }
        text
    }

    fn add(&mut self, member: &str) {
        let (name, value) = match member.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (member, None),
        };
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) || self.has(&name.to_ascii_lowercase()) {
            return;
        }
        let value = value.map(|value| {
            let quoted = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
            quoted.unwrap_or(value).to_owned()
        });
        self.0.push((name.to_ascii_lowercase(), value));
    }
}

/// Splits at the commas that stand in no quoted text.
fn members(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let split = text.split(move |c: char| {
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        c == ',' && !quoted
    });
    split.map(str::trim).filter(|member| !member.is_empty())
}

/// The member, if it is a key, alone or with an integer or a token: what
/// directives are made of.
fn well_formed(member: &str) -> Option<&str> {
    let (name, value) = match member.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (member, None),
    };
    let key = |b: u8| b.is_ascii_alphanumeric() || b"_-.*".contains(&b);
    let named = !name.is_empty() && name.bytes().all(key);
    let valued = value.is_none_or(|value| !value.is_empty() && value.bytes().all(key));
    (named && valued).then_some(member)
}

/// Digits and nothing else.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // What has more digits than a u64 is far beyond the bound.
    digits.then(|| text.parse().unwrap_or(FOREVER).min(FOREVER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(lines: &[&str]) -> Directives {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, line.parse().unwrap());
        }
        Directives::of(&headers)
    }

    #[test]
    fn names_have_no_case_and_the_first_of_two_counts() {
        let all = parsed(&["No-Store, MAX-age=5", "max-age=9,, public"]);
        assert!(all.has("no-store") && all.has("public") && !all.has("private"));
        assert_eq!(all.seconds("max-age"), Some(5));
        assert_eq!(all.plain(), "no-store, max-age=5, public");
    }

    #[test]
    fn what_is_quoted_is_no_directive() {
        let all = parsed(&["x=\"private, \\\", max-age=9\", max-age=\"7\", private=\"a, b\""]);
        assert_eq!(all.seconds("max-age"), Some(7));
        assert_eq!(all.plain(), "x, max-age=7, private");
    }

    #[test]
    fn numbers_are_digits_and_bounded() {
        for (text, read) in [
            ("max-age=99999999999999999999", Some(FOREVER)),
            ("max-age=-1", None),
            ("max-age=1.5", None),
            ("max-age='9'", None),
            ("max-age= 9", None),
            ("max-age =9", None),
            ("max-age", None),
        ] {
            assert_eq!(parsed(&[text]).seconds("max-age"), read, "{text}");
        }
        assert_eq!(parsed(&["max-age=1.5"]).plain(), "max-age=0");
    }

    #[test]
    fn cdn_header_with_a_mistake_is_as_if_absent() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CDN_CACHE_CONTROL, text.parse().unwrap());
            Directives::of_cdn(&headers)
        };
        assert_eq!(read("max-age=9").unwrap().seconds("max-age"), Some(9));
        for bad in ["max-age=9, &&&", "max-age=\"9\"", "max-age =9", ""] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
