//! Which resource a request is about, as the id of what is stored for it.

use axum::extract::OriginalUri;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{Extensions, HeaderMap, Uri};

/// A resource: its authority without regard to case, its path and its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    authority: String,
    path: String,
}

// === impl Target ===

impl Target {
    /// What a request is about: as its client wrote it, also within a nested router.
    pub(super) fn of(uri: &Uri, headers: &HeaderMap, extensions: &Extensions) -> Self {
        let uri = extensions.get().map_or(uri, |OriginalUri(uri)| uri);
        let host = || headers.get(HOST).and_then(|host| host.to_str().ok());
        let authority = uri.authority().map(|authority| authority.as_str());
        Self::new(authority.or_else(host).unwrap_or(""), uri.path_and_query())
    }

    /// The resource at an absolute URI.
    pub(super) fn at(uri: &Uri) -> Self {
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        Self::new(authority, uri.path_and_query())
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
        Some(Self {
            authority: self.authority.clone(),
            path,
        })
    }

    pub(super) fn id(&self) -> String {
        format!("{}\n{}", self.authority, self.path)
    }

    /// The resource's URL, as CDNs are asked to drop it.
    pub(super) fn url(&self) -> String {
        format!("https://{}{}", self.authority, self.path)
    }

    fn new(authority: &str, path: Option<&PathAndQuery>) -> Self {
        Self {
            authority: authority.to_ascii_lowercase(),
            path: path.map_or("/", PathAndQuery::as_str).to_owned(),
        }
    }

    fn here(&self, uri: &Uri) -> Option<Self> {
        let there = Self::at(uri);
        (there.authority == self.authority).then_some(there)
    }
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
    fn resource_elsewhere_is_no_neighbour() {
        let here = target("http://a.example/b");
        for reference in ["http://b.example/b", "//b.example/b", "mailto:a@a.example"] {
            assert_eq!(here.neighbour(reference), None, "{reference}");
        }
    }
}
