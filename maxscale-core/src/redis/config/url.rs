//! Takes a URL apart. The driver's own parser reads what is left when the
//! scheme and the list of hosts are dealt with, one host at a time.

use fred::types::config::{Config, ServerConfig};

use super::{Kind, RedisConfigError};
use crate::redis::address::Address;

/// What a URL says.
pub(super) struct Place {
    pub(super) kind: Kind,
    pub(super) seeds: Vec<Address>,
    pub(super) name: String,
    pub(super) server: Config,
}

/// What a URL of one scheme looks like.
struct Form {
    kind: Kind,
    port: u16,
    expected: &'static str,
}

pub(super) fn parse(url: &str) -> Result<Place, RedisConfigError> {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let scheme = scheme.to_ascii_lowercase();
    let Some(form) = Form::of(&scheme.replacen("rediss", "redis", 1)) else {
        return Err(RedisConfigError::Scheme { scheme });
    };
    let secure = scheme.starts_with("rediss");
    if secure && cfg!(not(feature = "redis-tls")) {
        return Err(RedisConfigError::Tls { scheme });
    }
    #[cfg(feature = "redis-tls")]
    let (rest, ca) = match rest.split_once("?ca=") {
        Some((rest, ca)) if secure => (rest, Some(ca)),
        _ => (rest, None),
    };
    let malformed = |source| RedisConfigError::Malformed {
        expected: form.expected,
        source,
    };
    let place = form.parse(rest).map_err(malformed)?;
    #[cfg(feature = "redis-tls")]
    let place = if secure { place.under_tls(ca)? } else { place };
    Ok(place)
}

// === impl Place ===

#[cfg(feature = "redis-tls")]
impl Place {
    fn under_tls(mut self, ca: Option<&str>) -> Result<Self, RedisConfigError> {
        self.server.tls = Some(super::tls::trusting(ca.map(std::path::Path::new))?);
        Ok(self)
    }
}

// === impl Form ===

impl Form {
    fn of(scheme: &str) -> Option<Self> {
        let (kind, port, expected) = match scheme {
            "redis" => (
                Kind::Single,
                6379,
                "redis://[user:password@]host[:port][/database]",
            ),
            "redis-cluster" => (
                Kind::Cluster,
                6379,
                "redis-cluster://[user:password@]host[:port][,host[:port] …]",
            ),
            "redis-sentinel" => (
                Kind::Sentinel,
                26379,
                "redis-sentinel://[user:password@]host[:port][,host[:port] …]/name[/database]",
            ),
            _ => return None,
        };
        Some(Self {
            kind,
            port,
            expected,
        })
    }

    fn parse(&self, rest: &str) -> Result<Place, crate::BoxError> {
        if rest.contains(['?', '#']) {
            return Err("a Redis URL has no parameters, but for ?ca=file under TLS".into());
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (format!("{login}@"), hosts),
            None => (String::new(), authority),
        };
        let (name, database) = match self.kind {
            Kind::Single => ("", path),
            Kind::Sentinel => path.split_once('/').unwrap_or((path, "")),
            Kind::Cluster if path.is_empty() => ("", ""),
            Kind::Cluster => return Err("a cluster has no databases".into()),
        };
        if self.kind == Kind::Sentinel && name.is_empty() {
            return Err("the name of the primary is missing".into());
        }
        let mut seeds = Vec::new();
        let mut server = None;
        for host in hosts.split(',') {
            let one = format!("redis://{login}{}/{database}", self.with_port(host));
            let config = Config::from_url_centralized(&one)?;
            if let ServerConfig::Centralized { server } = &config.server {
                seeds.push(Address::new(&server.host, server.port));
            }
            server = Some(config);
        }
        if self.kind == Kind::Single && seeds.len() != 1 {
            return Err("several hosts are a cluster (redis-cluster://) or sentinels".into());
        }
        Ok(Place {
            kind: self.kind,
            seeds,
            name: name.to_owned(),
            server: server.ok_or("the host is missing")?,
        })
    }

    fn with_port(&self, host: &str) -> String {
        // An IPv6 address stands in brackets.
        if host.ends_with(']') || !host.contains(':') {
            format!("{host}:{}", self.port)
        } else {
            host.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Chain;
    use crate::redis::RedisConfig;

    #[test]
    fn url_names_its_servers() {
        for (url, address) in [
            ("redis://h", "h:6379"),
            ("redis://u:p@h:1/3", "h:1"),
            ("redis-cluster://a,b:1", "a:6379,b:1"),
            ("redis-sentinel://:p@a,b:1/main/2", "a:26379,b:1"),
        ] {
            let config = RedisConfig::new(url).unwrap();
            assert_eq!(config.address(), address, "{url}");
        }
        let config = RedisConfig::new("redis-sentinel://u:p%40@a/main/2").unwrap();
        assert_eq!(&*config.name, "main");
        assert_eq!(config.server.database, Some(2));
        assert_eq!(config.server.username.as_deref(), Some("u"));
        assert_eq!(config.server.password.as_deref(), Some("p@"));
    }

    #[test]
    fn url_of_another_kind_is_refused_without_showing_it() {
        for (url, says) in [
            ("postgres://u:hunter2@host/db", "`postgres://` is not"),
            ("hunter2", "`://` is not"),
            ("redis://:hunter2@host:notaport", "malformed"),
            ("redis://:hunter2@host/notanumber", "malformed"),
            ("redis://:hunter2@", "malformed"),
            ("redis://:hunter2@a,b", "redis-cluster://"),
            ("redis-cluster://:hunter2@a,,b", "malformed"),
            ("redis-cluster://:hunter2@a/1", "no databases"),
            ("redis-sentinel://:hunter2@a", "the name of the primary"),
            ("redis://:hunter2@host?timeout=1", "no parameters"),
        ] {
            let error = RedisConfig::new(url).unwrap_err();
            let text = format!("{} {error:?}", Chain(&error));
            assert!(text.contains(says), "{url}: {text}");
            assert!(!text.contains("hunter2"), "{url}: {text}");
        }
    }

    #[cfg(not(feature = "redis-tls"))]
    #[test]
    fn tls_without_the_feature_is_an_error_and_never_plaintext() {
        for scheme in ["rediss", "rediss-cluster", "rediss-sentinel", "REDISS"] {
            let error = RedisConfig::new(&format!("{scheme}://:p@h/main")).unwrap_err();
            assert!(
                error.to_string().contains("feature `redis-tls`"),
                "{error:?}"
            );
        }
    }

    #[cfg(feature = "redis-tls")]
    #[test]
    fn cas_are_read_from_a_file_and_only_for_tls() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        let (empty, absent) = (empty.display(), folder.path().join("absent"));
        for (url, says) in [
            (format!("rediss://:hunter2@h?ca={empty}"), "no certificate"),
            (
                format!("rediss://:hunter2@h?ca={}", absent.display()),
                "absent",
            ),
            (format!("redis://:hunter2@h?ca={empty}"), "no parameters"),
            ("rediss://:hunter2@h?cert=file".to_owned(), "no parameters"),
        ] {
            let error = RedisConfig::new(&url).unwrap_err();
            let text = format!("{} {error:?}", Chain(&error));
            assert!(text.contains(says), "{url}: {text}");
            assert!(!text.contains("hunter2"), "{url}: {text}");
        }
        let config = RedisConfig::new("rediss-cluster://a,b").unwrap();
        assert!(config.server.tls.is_some());
    }

    #[test]
    fn debug_shows_the_address_and_no_password() {
        let config = RedisConfig::new("redis://me:hunter2@example.org:6380/3").unwrap();
        let text = format!("{config:?}");
        assert!(text.contains("example.org:6380"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
