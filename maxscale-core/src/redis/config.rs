#[cfg(feature = "redis-tls")]
mod tls;
mod url;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fred::types::config::Config;
use tokio::sync::Semaphore;

use super::address::Address;
use super::fitness::{Demand, Role};
use crate::BoxError;
use crate::control::BreakerConfig;

/// Where Redis is, what it is used for, and how long a command may take.
///
/// | URL | meaning |
/// | --- | --- |
/// | `redis://[user:password@]host[:port][/database]` | one server |
/// | `redis-cluster://[user:password@]host[:port][,host[:port] …]` | a cluster; some of its nodes are enough |
/// | `redis-sentinel://[user:password@]host[:port][,host[:port] …]/name[/database]` | the primary that these sentinels call `name` |
///
/// With `rediss` in place of `redis` each of them is under TLS, which is the
/// feature `redis-tls`, and may end with `?ca=file`: the PEM file, named as it
/// is, of the CAs that are trusted instead of the system's (which on some
/// systems `SSL_CERT_FILE` and `SSL_CERT_DIR` name). A certificate must
/// be valid for the host in the URL; those of a cluster, and of a primary
/// behind sentinels, for the addresses that its servers name.
#[derive(Clone)]
#[must_use]
pub struct RedisConfig {
    /// Tells handles to the same place from others; holds the password.
    pub(super) url: Arc<str>,
    pub(super) kind: Kind,
    /// Servers of the cluster, the sentinels, or the one server.
    pub(super) seeds: Arc<[Address]>,
    /// What the sentinels call the primary.
    pub(super) name: Arc<str>,
    // Parsed once by `new`; holds the password, so `Debug` leaves it out.
    pub(super) server: Config,
    pub(super) sentinel_login: Option<(String, String)>,
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) in_flight: usize,
    pub(super) breaker: BreakerConfig,
    pub(super) demand: Demand,
}

/// How servers are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Single,
    Cluster,
    Sentinel,
}

/// A URL does not name a Redis server. Its text never contains the URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedisConfigError {
    /// The URL's scheme is not one of Redis.
    #[error("`{scheme}://` is not a Redis URL; use redis://host:port")]
    Scheme {
        /// The scheme found; empty if there is none.
        scheme: String,
    },

    /// The URL asks for TLS, which must never become plaintext.
    #[error("`{scheme}://` asks for TLS, which is the feature `redis-tls` of maxscale-core")]
    Tls {
        /// The scheme found.
        scheme: String,
    },

    /// The file behind `?ca=`, or else the system, has no CA to be trusted.
    #[error("cannot read CAs from {}", file.display())]
    Ca {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: BoxError,
    },

    /// The rest of the URL cannot be read.
    #[error("the Redis URL is malformed; use {expected}")]
    Malformed {
        /// What it should look like.
        expected: &'static str,
        /// What is wrong with it.
        #[source]
        source: BoxError,
    },
}

/// Longer than anybody waits, and short enough to be added to any time.
pub(super) const fn at_most_a_day(span: Duration) -> Duration {
    const DAY: Duration = Duration::from_secs(86_400);
    if span.as_secs() < DAY.as_secs() {
        span
    } else {
        DAY
    }
}

// === impl RedisConfig ===

impl RedisConfig {
    /// How long a command may take, when nothing else is set.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(100);

    /// How long connecting may take, when nothing else is set.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

    /// How many commands may be in flight, when nothing else is set.
    pub const DEFAULT_IN_FLIGHT: usize = 4_096;

    /// Names the servers by one of the URLs above. With TLS it reads the CAs.
    ///
    /// # Errors
    ///
    /// [`RedisConfigError`] says what the URL should look like.
    pub fn new(url: &str) -> Result<Self, RedisConfigError> {
        let place = url::parse(url)?;
        Ok(Self {
            url: url.into(),
            kind: place.kind,
            seeds: place.seeds.into(),
            name: place.name.into(),
            server: place.server,
            sentinel_login: None,
            timeout: Self::DEFAULT_TIMEOUT,
            connect_timeout: Self::DEFAULT_CONNECT_TIMEOUT,
            in_flight: Self::DEFAULT_IN_FLIGHT,
            breaker: BreakerConfig::default(),
            demand: Demand {
                roles: Vec::new(),
                strict: true,
                durable: false,
            },
        })
    }

    /// How long an attempt of a command may take, from the call to its reply.
    /// This and all times here are a day at most.
    ///
    /// Default: [`RedisConfig::DEFAULT_TIMEOUT`].
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = at_most_a_day(timeout);
        self
    }

    /// How long the connection may take to stand, and then how long the
    /// exchange of names and passwords. Raise it for servers that are far away.
    ///
    /// Default: [`RedisConfig::DEFAULT_CONNECT_TIMEOUT`].
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = at_most_a_day(timeout);
        self
    }

    /// How many commands may be in flight to a server at once, at least 1.
    ///
    /// One whose caller has given up counts until the server has answered it.
    ///
    /// Default: [`RedisConfig::DEFAULT_IN_FLIGHT`].
    pub fn in_flight(mut self, commands: usize) -> Self {
        // More than a semaphore, or the driver's queue of twice as many, can
        // hold would make them panic.
        self.in_flight = commands.clamp(1, Semaphore::MAX_PERMITS / 2);
        self
    }

    /// When to stop sending and how often to probe.
    ///
    /// Default: [`BreakerConfig::default`].
    pub const fn breaker(mut self, breaker: BreakerConfig) -> Self {
        self.breaker = breaker;
        self.breaker.probe_every = at_most_a_day(breaker.probe_every);
        self
    }

    /// Adds something that the servers are used for. One that may evict what
    /// the role needs is not used; see [`Unfit::Evicts`](super::Unfit::Evicts).
    ///
    /// Default: nothing, so that any eviction policy will do.
    pub fn serves(mut self, role: Role) -> Self {
        self.demand.roles.push(role);
        self
    }

    /// Only warns of a server that may evict what its roles need, as befits a
    /// developer's machine.
    ///
    /// Default: such a server is refused.
    pub const fn tolerates_eviction(mut self) -> Self {
        self.demand.strict = false;
        self
    }

    /// Uses only servers that have on disk what they confirm: with an
    /// append-only file that is synced before the answer, and without eviction.
    /// It is looked at whenever one is connected to, so also after a failover;
    /// see [`Unfit::Loses`](super::Unfit::Loses).
    ///
    /// Default: any server will do that its roles can bear.
    pub const fn durable(mut self) -> Self {
        self.demand.durable = true;
        self
    }

    /// How long an attempt of a command may take.
    pub const fn patience(&self) -> Duration {
        self.timeout
    }

    /// Name and password for the sentinels, which have others than the servers.
    ///
    /// Default: none.
    pub fn sentinel_login(mut self, user: &str, password: &str) -> Self {
        self.sentinel_login = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// The addresses in the URL without credentials, for logs.
    pub fn address(&self) -> String {
        let addresses: Vec<_> = self.seeds.iter().map(ToString::to_string).collect();
        addresses.join(",")
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("kind", &self.kind)
            .field("address", &self.address())
            .field("timeout", &self.timeout)
            .field("in_flight", &self.in_flight)
            .field("breaker", &self.breaker)
            .field("demand", &self.demand)
            .finish_non_exhaustive()
    }
}
