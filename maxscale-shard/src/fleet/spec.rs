use std::borrow::Cow;

use crate::topology::NodeId;

/// An entry of the list of nodes: `url`, `name=url` or `name=url|direct-url`.
#[derive(Clone)]
pub struct NodeSpec {
    pub(crate) id: NodeId,
    pub(crate) url: String,
    direct: Option<String>,
}

/// An entry that is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The name is not one. It stays out of the text: behind a comma in an
    /// unescaped password, what looks like a name is a part of that password.
    #[error("the name in entry {0} of the list of nodes is not 1 to 63 of a-z, 0-9 and -")]
    Name(usize),
    /// There is no URL in it.
    #[error("entry {0} of the list of nodes has no URL")]
    NoUrl(usize),
}

// === impl NodeSpec ===

impl NodeSpec {
    /// Reads entry number `position` (from 1); without a name it is `node-<position>`.
    ///
    /// The direct URL goes past a connection pooler, for migrations. With one,
    /// the first leads to a pooler in transaction mode that knows prepared
    /// statements, unless it says `pooler=unprepared` or `pooler=none`.
    ///
    /// # Errors
    ///
    /// Returns [`SpecError`] for a bad name or an entry without a URL.
    pub fn parse(entry: &str, position: usize) -> Result<Self, SpecError> {
        let entry = entry.trim();
        // A `=` before the scheme ends a name; later ones belong to the URL.
        let scheme = entry.find(':').unwrap_or(entry.len());
        let (name, urls) = match entry.find('=') {
            Some(at) if at < scheme => (entry[..at].trim().to_owned(), &entry[at + 1..]),
            _ => (format!("node-{position}"), entry),
        };
        let (url, direct) = match urls.split_once('|') {
            Some((url, direct)) => (url.trim(), Some(direct.trim().to_owned())),
            None => (urls.trim(), None),
        };
        if url.is_empty() || direct.as_deref() == Some("") {
            return Err(SpecError::NoUrl(position));
        }
        Ok(Self {
            id: NodeId::new(&name).map_err(|_| SpecError::Name(position))?,
            url: url.to_owned(),
            direct,
        })
    }

    /// The node's name.
    pub const fn id(&self) -> &NodeId {
        &self.id
    }

    /// The direct URL, if it is another one.
    pub(crate) fn direct(&self) -> Option<&str> {
        self.direct.as_deref().filter(|direct| *direct != self.url)
    }

    /// The URL for statements, which says what pooler it leads to.
    pub(crate) fn way(&self) -> Cow<'_, str> {
        let url = self.url.as_str();
        if self.direct().is_none() || !url.starts_with("postgres") || names_pooler(url) {
            return Cow::Borrowed(url);
        }
        let more = if url.contains('?') { '&' } else { '?' };
        Cow::Owned(format!("{url}{more}pooler=prepared"))
    }

    pub(crate) fn urls(&self) -> impl Iterator<Item = &str> {
        [Some(self.url.as_str()), self.direct()]
            .into_iter()
            .flatten()
    }
}

/// Whether a URL says what stands before its server.
fn names_pooler(url: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|part| part.starts_with("pooler="))
}

impl std::fmt::Debug for NodeSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // URLs carry passwords.
        f.debug_struct("NodeSpec")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_with_and_without_name_and_direct_url() {
        let spec = NodeSpec::parse("postgres://u:p@h/d?options=-c%20a=b", 3).unwrap();
        assert_eq!(
            (spec.id.as_str(), spec.url.as_str()),
            ("node-3", "postgres://u:p@h/d?options=-c%20a=b")
        );
        let spec = NodeSpec::parse(" eu-1 = postgres://pool/d | postgres://direct/d ", 1).unwrap();
        assert_eq!(
            (spec.id.as_str(), spec.url.as_str()),
            ("eu-1", "postgres://pool/d")
        );
        assert_eq!(spec.direct(), Some("postgres://direct/d"));
        assert_eq!(spec.way(), "postgres://pool/d?pooler=prepared");
        let spec = "postgres://p/d?pooler=none|postgres://d/d";
        let spec = NodeSpec::parse(spec, 1).unwrap();
        assert_eq!(spec.way(), "postgres://p/d?pooler=none");
        assert!(matches!(NodeSpec::parse("a=", 1), Err(SpecError::NoUrl(1))));
        assert!(matches!(
            NodeSpec::parse("A=sqlite:x", 1),
            Err(SpecError::Name(1))
        ));
        assert!(
            !format!("{:?}", NodeSpec::parse("postgres://u:hunter2@h/d", 1)).contains("hunter2")
        );
    }
}
