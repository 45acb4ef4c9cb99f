use std::fmt;
use std::sync::Arc;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Address {
    pub(super) host: Arc<str>,
    pub(super) port: u16,
}

// === impl Address ===

impl Address {
    pub(super) fn new(host: &str, port: u16) -> Self {
        Self {
            // In a URL an IPv6 address stands in brackets, elsewhere it does not.
            host: host.trim_matches(['[', ']']).into(),
            port,
        }
    }

    /// Reads `host:port`, as servers write it; a host left out is `here`'s.
    pub(super) fn parse(text: &str, here: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok()?;
        Some(Self::named(host, port, here))
    }

    /// A host that does not know its own name calls itself nothing or `?`.
    pub(super) fn named(host: &str, port: u16, here: &Self) -> Self {
        if host.is_empty() || host == "?" {
            return Self {
                host: here.host.clone(),
                port,
            };
        }
        Self::new(host, port)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
