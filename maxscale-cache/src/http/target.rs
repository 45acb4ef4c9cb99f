//! Which resource a request is about, as the id of what is stored for it.

use axum::extract::OriginalUri;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery};
use http::{Request, Uri};

/// A resource: its authority without regard to case, its path and its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    authority: String,
    path: String,
}

// === impl Target ===

impl Target {
    /// What a request is about: as its client wrote it, also within a nested router.
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let (authority, path) = parts_of(request);
        Self::new(authority, path)
    }

    /// The resource at an absolute URI.
    pub(super) fn at(uri: &Uri) -> Self {
        let authority = uri.authority().map_or("", Authority::as_str);
        Self::new(authority, path_of(uri))
    }

    /// What a `Location` or `Content-Location` of an answer about this resource
    /// names, if it lies at the same authority.
    pub(super) fn neighbour(&self, reference: &str) -> Option<Self> {
        let reference = reference.split('#').next()?;
        if let Some(rest) = reference.strip_prefix("//") {
            return self.here(&format!("http://{rest}").parse().ok()?);
        }
        let scheme = reference.split(['/', '?']).next()?;
        if scheme.contains(':') {
            return self.here(&reference.parse().ok()?);
        }
        let own = self.path.split('?').next()?;
        let path = match reference.chars().next() {
            None => self.path.clone(),
            Some('/') => reference.to_owned(),
            Some('?') => format!("{own}{reference}"),
            Some(_) => format!("{}/{reference}", own.rsplit_once('/')?.0),
        };
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path.as_str(), None),
        };
        let mut path = without_dots(path);
        if let Some(query) = query {
            path.push('?');
            path.push_str(query);
        }
        Some(Self::new(&self.authority, &path))
    }

    pub(super) fn id(&self) -> String {
        id(&self.authority, &self.path)
    }

    /// The resource's URL, as CDNs are asked to drop it.
    pub(super) fn url(&self) -> String {
        format!("https://{}{}", self.authority, self.path)
    }

    fn new(authority: &str, path: &str) -> Self {
        Self {
            authority: authority.to_ascii_lowercase(),
            path: path.to_owned(),
        }
    }

    fn here(&self, uri: &Uri) -> Option<Self> {
        let there = Self::at(uri);
        (there.authority == self.authority).then_some(there)
    }
}

/// The id of what a request is about.
pub(super) fn id_of<B>(request: &Request<B>) -> String {
    let (authority, path) = parts_of(request);
    id(authority, path)
}

/// Written so that it is a part of a key as it is: `@` and two digits stand for
/// what keys would escape.
fn id(authority: &str, path: &str) -> String {
    let mut id = String::with_capacity(authority.len() + path.len() + 32);
    let has_upper = authority.bytes().any(|byte| byte.is_ascii_uppercase());
    let lower = has_upper.then(|| authority.to_ascii_lowercase());
    push(&mut id, lower.as_deref().unwrap_or(authority));
    push(&mut id, "\n");
    push(&mut id, path);
    id
}

fn push(id: &mut String, text: &str) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-') {
            continue;
        }
        // None within a character, where nothing is to be copied.
        id.push_str(text.get(from..at).unwrap_or_default());
        id.push('@');
        for four in [byte >> 4, byte & 0xf] {
            id.push(char::from(DIGITS[usize::from(four)]));
        }
        from = at + 1;
    }
    id.push_str(text.get(from..).unwrap_or_default());
}

fn parts_of<B>(request: &Request<B>) -> (&str, &str) {
    let uri = request.extensions().get();
    let uri = uri.map_or_else(|| request.uri(), |OriginalUri(uri)| uri);
    let host = || request.headers().get(HOST)?.to_str().ok();
    let authority = uri.authority().map(Authority::as_str);
    (authority.or_else(host).unwrap_or(""), path_of(uri))
}

fn path_of(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", PathAndQuery::as_str)
}

/// RFC 3986, 5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str) -> Target {
        Target::at(&uri.parse().unwrap())
    }

    #[test]
    fn neighbours_are_found_as_uris_say() {
        let here = target("http://a.example/b/c/d?q");
        for (reference, there) in [
            ("/x?y", "http://a.example/x?y"),
            ("e", "http://a.example/b/c/e"),
            ("../e", "http://a.example/b/e"),
            ("../../../e/.", "http://a.example/e/"),
            ("?z", "http://a.example/b/c/d?z"),
            ("", "http://a.example/b/c/d?q"),
            ("e#f", "http://a.example/b/c/e"),
            ("https://A.example/x", "http://a.example/x"),
            ("//a.example/x", "http://a.example/x"),
        ] {
            assert_eq!(
                here.neighbour(reference),
                Some(target(there)),
                "{reference}"
            );
        }
    }

    #[test]
    fn no_two_resources_have_one_id() {
        let uris = [
            "http://a.example/",
            "http://a.example/@2F",
            "http://a.example//",
            "http://a.example/?",
            "http://a.example/?a=/",
            "http://a.example/%2F",
            "http://a.example:80/",
            "http://a.exampl/e/",
        ];
        let ids: std::collections::HashSet<_> = uris.map(|uri| target(uri).id()).into();
        assert_eq!(ids.len(), uris.len());
        let safe = |id: &String| {
            id.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.-@".contains(&b))
        };
        assert!(ids.iter().all(safe), "{ids:?}");
    }

    #[test]
    fn id_is_the_same_in_any_case_of_the_authority_and_escapes_every_byte() {
        assert_eq!(id("A.example:80", "/ü?b"), id("a.EXAMPLE:80", "/ü?b"));
        assert_eq!(id("a:1", "/éé-ü"), "a@3A1@0A@2F@C3@A9@C3@A9-@C3@BC");
    }

    #[test]
    fn resource_elsewhere_is_no_neighbour() {
        let here = target("http://a.example/b");
        for reference in ["http://b.example/b", "//b.example/b", "mailto:a@a.example"] {
            assert_eq!(here.neighbour(reference), None, "{reference}");
        }
    }
}
