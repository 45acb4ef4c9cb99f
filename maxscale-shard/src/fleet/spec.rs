use std::borrow::Cow;

use maxscale_core::fact::RegionId;

use crate::residency::Stand;
use crate::topology::NodeId;

/// An entry of the list of nodes: `url`, `name=url` or `name=url|direct-url`,
/// and what the list of replicas adds to it.
///
/// `region=eu` in the query of a PostgreSQL URL says where that server stands.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeSpec {
    pub(crate) id: NodeId,
    /// The primary, as far as is known, and then the replicas.
    pub(crate) endpoints: Vec<EndpointSpec>,
}

/// One server of a node.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct EndpointSpec {
    url: String,
    direct: Option<String>,
    pub(crate) region: Option<RegionId>,
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
    /// The region is not one.
    #[error("the region in entry {0} of the list of nodes is not 1 to 63 of a-z, 0-9 and -")]
    Region(usize),
    /// A replica of no listed node.
    #[error("entry {0} of the list of replicas begins with no name of a node and a =")]
    ReplicaOf(usize),
    /// A replica that is no PostgreSQL server; a SQLite file has none.
    #[error("entry {0} of the list of replicas has no PostgreSQL URL, or its node has none")]
    ReplicaUrl(usize),
    /// The region of a replica is not one.
    #[error("the region in entry {0} of the list of replicas is not 1 to 63 of a-z, 0-9 and -")]
    ReplicaRegion(usize),
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
        let endpoint = EndpointSpec::parse(urls).ok_or(SpecError::NoUrl(position))?;
        Ok(Self {
            id: NodeId::new(&name).map_err(|_| SpecError::Name(position))?,
            endpoints: vec![endpoint.located().ok_or(SpecError::Region(position))?],
        })
    }

    /// Reads entry number `position` (from 1) of a list of replicas, `name=url` or
    /// `name=url|direct-url`, and adds it to the node of that name.
    ///
    /// A replica may be promoted at any time, and is the primary then. As long as the
    /// former one takes writes too, nothing is written to the node.
    ///
    /// # Errors
    ///
    /// Returns [`SpecError`] for a name that is none of the nodes', or an entry
    /// without the URL of a PostgreSQL server.
    pub fn attach(nodes: &mut [Self], entry: &str, position: usize) -> Result<(), SpecError> {
        let (name, urls) = entry
            .split_once('=')
            .ok_or(SpecError::ReplicaOf(position))?;
        let named = |node: &&mut Self| node.id.as_str() == name.trim();
        let node = nodes.iter_mut().find(named);
        let node = node.ok_or(SpecError::ReplicaOf(position))?;
        let postgres = |endpoint: &EndpointSpec| endpoint.is_postgres();
        let endpoint = EndpointSpec::parse(urls).filter(postgres);
        let endpoint = endpoint.filter(|_| postgres(&node.endpoints[0]));
        let endpoint = endpoint.ok_or(SpecError::ReplicaUrl(position))?;
        let located = endpoint.located();
        node.endpoints
            .push(located.ok_or(SpecError::ReplicaRegion(position))?);
        Ok(())
    }

    /// The node's name.
    pub const fn id(&self) -> &NodeId {
        &self.id
    }

    /// Where its servers stand.
    pub(crate) fn stand(&self) -> Stand {
        let endpoints = self.endpoints.iter();
        endpoints.map(|endpoint| endpoint.region.clone()).collect()
    }

    pub(crate) fn urls(&self) -> impl Iterator<Item = &str> {
        self.endpoints.iter().flat_map(EndpointSpec::urls)
    }
}

// === impl EndpointSpec ===

impl EndpointSpec {
    /// The server at `url` or `url|direct-url`, of no region yet.
    fn parse(urls: &str) -> Option<Self> {
        let (url, direct) = match urls.split_once('|') {
            Some((url, direct)) => (url.trim(), Some(direct.trim().to_owned())),
            None => (urls.trim(), None),
        };
        (!url.is_empty() && direct.as_deref() != Some("")).then(|| Self {
            url: url.to_owned(),
            direct,
            region: None,
        })
    }

    /// Itself in the region that its URL names, if it names one that can be.
    fn located(self) -> Option<Self> {
        let region = match parameter(&self.url, "region").filter(|_| self.is_postgres()) {
            Some(name) => Some(RegionId::new(name)?),
            None => None,
        };
        Some(Self { region, ..self })
    }

    fn is_postgres(&self) -> bool {
        self.url.starts_with("postgres")
    }

    /// The direct URL, if it is another one.
    pub(crate) fn direct(&self) -> Option<&str> {
        self.direct.as_deref().filter(|direct| *direct != self.url)
    }

    /// The URL for statements, which says what pooler it leads to.
    pub(crate) fn way(&self) -> Cow<'_, str> {
        let url = self.url.as_str();
        if self.direct().is_none() || !self.is_postgres() || parameter(url, "pooler").is_some() {
            return Cow::Borrowed(url);
        }
        let more = if url.contains('?') { '&' } else { '?' };
        Cow::Owned(format!("{url}{more}pooler=prepared"))
    }

    fn urls(&self) -> impl Iterator<Item = &str> {
        [Some(self.url.as_str()), self.direct()]
            .into_iter()
            .flatten()
    }
}

/// The value of one of our own parameters in a URL.
fn parameter<'u>(url: &'u str, name: &str) -> Option<&'u str> {
    let (_, query) = url.split_once('?')?;
    let pairs = query.split('&').filter_map(|part| part.split_once('='));
    pairs
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value)
        .next()
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

    fn parsed(entry: &str, position: usize) -> (String, EndpointSpec) {
        let mut spec = NodeSpec::parse(entry, position).unwrap();
        (spec.id.to_string(), spec.endpoints.remove(0))
    }

    #[test]
    fn entries_are_read_with_and_without_name_and_direct_url() {
        let (name, endpoint) = parsed("postgres://u:p@h/d?options=-c%20a=b", 3);
        assert_eq!(name, "node-3");
        assert_eq!(endpoint.url, "postgres://u:p@h/d?options=-c%20a=b");
        let (name, endpoint) = parsed(" eu-1 = postgres://pool/d | postgres://direct/d ", 1);
        assert_eq!((&*name, &*endpoint.url), ("eu-1", "postgres://pool/d"));
        assert_eq!(endpoint.direct(), Some("postgres://direct/d"));
        assert_eq!(endpoint.way(), "postgres://pool/d?pooler=prepared");
        let (_, endpoint) = parsed("postgres://p/d?pooler=none|postgres://d/d", 1);
        assert_eq!(endpoint.way(), "postgres://p/d?pooler=none");
        assert!(matches!(NodeSpec::parse("a=", 1), Err(SpecError::NoUrl(1))));
        assert!(matches!(
            NodeSpec::parse("A=sqlite:x", 1),
            Err(SpecError::Name(1))
        ));
        let debug = format!("{:?}", NodeSpec::parse("postgres://u:hunter2@h/d", 1));
        assert!(!debug.contains("hunter2"));
    }

    #[test]
    fn region_is_read_from_the_url() {
        let (_, endpoint) = parsed("postgres://u@h/d?sslmode=disable&region=eu-1", 1);
        assert_eq!(endpoint.region, RegionId::new("eu-1"));
        assert_eq!(parsed("postgres://u@h/d", 1).1.region, None);
        let bad = NodeSpec::parse("postgres://u@h/d?region=Europe", 2);
        assert!(matches!(bad, Err(SpecError::Region(2))));
    }

    #[test]
    fn replicas_are_added_to_the_node_they_name() {
        let nodes = [
            "eu=postgres://u@a/d",
            "us=postgres://u@b/d",
            "file=sqlite:x",
        ];
        let mut nodes: Vec<NodeSpec> = (nodes.iter())
            .map(|entry| NodeSpec::parse(entry, 1).unwrap())
            .collect();
        NodeSpec::attach(
            &mut nodes,
            "us = postgres://u@c/d?region=ap|postgres://u@e/d",
            1,
        )
        .unwrap();
        assert_eq!(nodes[0].endpoints.len(), 1);
        let replica = &nodes[1].endpoints[1];
        assert_eq!(replica.region, RegionId::new("ap"));
        assert_eq!(replica.way(), "postgres://u@c/d?region=ap&pooler=prepared");
        let mut refused = |entry: &str| NodeSpec::attach(&mut nodes, entry, 7).unwrap_err();
        for entry in ["ap=postgres://u@c/d", "postgres://u@c/d", ""] {
            assert!(matches!(refused(entry), SpecError::ReplicaOf(7)), "{entry}");
        }
        for entry in [
            "us=",
            "us=sqlite:x",
            "file=postgres://u@c/d",
            "us=postgres://u@c/d|",
        ] {
            assert!(
                matches!(refused(entry), SpecError::ReplicaUrl(7)),
                "{entry}"
            );
        }
        let far = refused("us=postgres://u@c/d?region=%20");
        assert!(matches!(far, SpecError::ReplicaRegion(7)));
    }
}
