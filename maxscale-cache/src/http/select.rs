//! By what, besides its URI, a request chooses among stored responses (`Vary`).

use std::fmt::Write as _;

use http::Extensions;
use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, HeaderMap, HeaderName, VARY};
use maxscale_core::fact::Subject;

use super::hints::Hints;

/// Headers by which frameworks and handlers choose what they answer while no
/// `Vary` tells: the first of each selection, and all of them `x-`. A response is only for requests that have the same ones, so
/// that nobody can put a page of his making before others.
const UNTOLD: [HeaderName; 7] = [
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-http-method-override"),
];

/// How the name of the subject stands among names of headers.
const SUBJECT: &str = ":subject";

/// More names in a `Vary` are somebody's mistake.
const MOST_NAMES: usize = 16;

/// One thing that has to be alike.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Selector {
    Header(HeaderName),
    /// The verified one, never what a request says of itself.
    Subject,
}

/// What a request has to have for a stored response to be its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selection(Vec<(Selector, Option<String>)>);

// === impl Selection ===

impl Selection {
    /// What `answer` was chosen by, in the request that it answers; none if it
    /// says that no other request is to have it.
    pub(super) fn of(
        headers: &HeaderMap,
        extensions: &Extensions,
        answer: &HeaderMap,
        per_principal: bool,
    ) -> Option<Self> {
        let mut names: Vec<_> = UNTOLD.map(Selector::Header).into();
        if per_principal {
            names.push(Selector::Subject);
        }
        let most = names.len() + MOST_NAMES;
        for value in answer.get_all(VARY) {
            for name in value.to_str().ok()?.split(',').map(str::trim) {
                if name.is_empty() {
                    continue;
                }
                // `*` is no name of a header either.
                let name = Selector::Header(name.parse().ok().filter(|_| name != "*")?);
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        let value = |name: Selector| {
            let value = name.value(headers, extensions);
            (name, value)
        };
        (names.len() <= most).then(|| Self(names.into_iter().map(value).collect()))
    }

    pub(super) fn matches(&self, headers: &HeaderMap, extensions: &Extensions) -> bool {
        let alike =
            |(name, value): &(Selector, Option<String>)| name.value(headers, extensions) == *value;
        self.0.iter().all(alike)
    }

    /// The same, of a request of whose names something is known.
    pub(super) fn matches_hinted(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        hints: Hints,
    ) -> bool {
        let (untold, told) = self.0.split_at(self.0.len().min(UNTOLD.len()));
        if hints.untold || untold.iter().any(|(_, value)| value.is_some()) {
            return self.matches(headers, extensions);
        }
        told.iter()
            .all(|(name, value)| name.value(headers, extensions) == *value)
    }

    /// Whether the other one looks at the same names.
    pub(super) fn looks_at_the_same(&self, other: &Self) -> bool {
        let names = |selection: &Self| {
            let names = selection.0.iter().map(|(name, _)| name.clone());
            names.collect::<Vec<_>>()
        };
        names(self) == names(other)
    }

    /// Where the response for a request is that this one is not for.
    pub(super) fn push_id(&self, id: &mut String, headers: &HeaderMap, extensions: &Extensions) {
        for (name, _) in &self.0 {
            // Values are escaped, so no line of the id can be another's.
            match name.value(headers, extensions) {
                Some(value) => {
                    let _ = write!(id, "\n{}={value}", name.as_str());
                }
                None => {
                    let _ = write!(id, "\n{}", name.as_str());
                }
            }
        }
    }

    /// Names and values, to be written down.
    pub(super) fn to_pairs(&self) -> Vec<(String, Option<String>)> {
        let pair =
            |(name, value): &(Selector, Option<String>)| (name.as_str().to_owned(), value.clone());
        self.0.iter().map(pair).collect()
    }

    pub(super) fn from_pairs(pairs: Vec<(String, Option<String>)>) -> Option<Self> {
        let read = |(name, value): (String, Option<String>)| match &*name {
            SUBJECT => Some((Selector::Subject, value)),
            _ => Some((Selector::Header(name.parse().ok()?), value)),
        };
        let read: Vec<_> = pairs.into_iter().map(read).collect::<Option<_>>()?;
        let mut names = read.iter().map(|(name, _)| name.clone());
        let untold = UNTOLD.map(Selector::Header);
        let first = untold
            .iter()
            .all(|name| names.next().as_ref() == Some(name));
        first.then_some(Self(read))
    }
}

// === impl Selector ===

impl Selector {
    fn as_str(&self) -> &str {
        match self {
            Self::Header(name) => name.as_str(),
            Self::Subject => SUBJECT,
        }
    }

    /// What the request has there: lines as one list, spaces between members left
    /// out, everything that is no plain text escaped.
    fn value(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<String> {
        let name = match self {
            Self::Header(name) => name,
            Self::Subject => {
                let subject: &Subject = extensions.get()?;
                return Some(subject.as_str().as_bytes().escape_ascii().to_string());
            }
        };
        let mut text: Option<String> = None;
        for line in headers.get_all(name) {
            for member in line.as_bytes().split(|byte| *byte == b',') {
                let member = member.trim_ascii().escape_ascii();
                match &mut text {
                    Some(text) => {
                        let _ = write!(text, ",{member}");
                    }
                    None => text = Some(member.to_string()),
                }
            }
        }
        if [ACCEPT_ENCODING, ACCEPT_LANGUAGE].contains(name)
            && let Some(text) = &mut text
        {
            text.make_ascii_lowercase();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, http::HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    fn selection(request: &HeaderMap, vary: &[u8]) -> Option<Selection> {
        Selection::of(
            request,
            &Extensions::new(),
            &headers(&[("vary", vary)]),
            false,
        )
    }

    fn id(selection: &Selection, request: &HeaderMap) -> String {
        let mut id = String::new();
        selection.push_id(&mut id, request, &Extensions::new());
        id
    }

    #[test]
    fn values_are_alike_however_their_lists_are_written() {
        let none = Extensions::new();
        let one = headers(&[("foo", b"1,  2"), ("accept-language", b"EN ,de")]);
        let other = headers(&[("foo", b"1"), ("foo", b" 2"), ("accept-language", b"en,DE")]);
        let chosen = selection(&one, b"Foo, Accept-Language").unwrap();
        assert!(chosen.matches(&other, &none));
        assert_eq!(id(&chosen, &one), id(&chosen, &other));
        for unlike in [
            headers(&[("foo", b"1,2")]),
            headers(&[]),
            headers(&[("foo", b"2,1")]),
        ] {
            assert!(!chosen.matches(&unlike, &none), "{unlike:?}");
        }
    }

    #[test]
    fn absent_header_is_not_an_empty_one() {
        let none = Extensions::new();
        let chosen = selection(&headers(&[]), b"foo").unwrap();
        assert!(!chosen.matches(&headers(&[("foo", b"")]), &none));
        assert_ne!(
            id(&chosen, &headers(&[])),
            id(&chosen, &headers(&[("foo", b"")]))
        );
    }

    #[test]
    fn hostile_values_cannot_be_the_id_of_another_request() {
        let chosen = selection(&headers(&[]), b"a, b").unwrap();
        let forged = headers(&[("a", b"1\xffb=2")]);
        let honest = headers(&[("a", b"1"), ("b", b"2")]);
        assert_ne!(id(&chosen, &forged), id(&chosen, &honest));
        let escaped = headers(&[("a", b"\\xff")]);
        let byte = headers(&[("a", b"\xff")]);
        assert_ne!(id(&chosen, &escaped), id(&chosen, &byte));
    }

    #[test]
    fn star_wherever_it_stands_means_that_nobody_else_is_to_have_it() {
        for vary in [&b"*"[..], b", *", b"foo, *", b"*, *", b"not a name"] {
            assert!(selection(&headers(&[]), vary).is_none(), "{vary:?}");
        }
    }

    #[test]
    fn written_down_it_reads_as_before() {
        let mut extensions = Extensions::new();
        extensions.insert(Subject::new("user:1"));
        let request = headers(&[("foo", b"1")]);
        let chosen = Selection::of(&request, &extensions, &headers(&[("vary", b"foo")]), true);
        let chosen = chosen.unwrap();
        let read = Selection::from_pairs(chosen.to_pairs());
        assert_eq!(read.as_ref(), Some(&chosen));
        assert!(chosen.matches(&request, &extensions));
        extensions.insert(Subject::new("user:2"));
        assert!(!chosen.matches(&request, &extensions));
        assert!(!chosen.matches(&request, &Extensions::new()));
    }
}
