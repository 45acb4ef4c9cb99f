use std::fmt;
use std::time::Duration;

use fred::types::config::Config;

use crate::BoxError;
use crate::control::BreakerConfig;

/// Where Redis is, and how long a command may take.
#[derive(Clone)]
#[must_use]
pub struct RedisConfig {
    // Parsed once by `new`; holds the password, so `Debug` leaves it out.
    pub(super) server: Config,
    pub(super) timeout: Duration,
    pub(super) in_flight: usize,
    pub(super) breaker: BreakerConfig,
}

/// A URL does not name a Redis server. Its text never contains the URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedisConfigError {
    /// The URL's scheme is not `redis`.
    #[error("`{scheme}://` is not a Redis URL; use redis://host:port")]
    Scheme {
        /// The scheme found; empty if there is none.
        scheme: String,
    },

    /// The URL asks for TLS, which must never become plaintext.
    #[error("`rediss://` needs the TLS feature, which is not built yet; use redis://")]
    Tls,

    /// The rest of the URL cannot be read.
    #[error("the Redis URL is malformed; use redis://[user:password@]host:port[/database]")]
    Malformed {
        /// What is wrong with it.
        #[source]
        source: BoxError,
    },
}

// === impl RedisConfig ===

impl RedisConfig {
    /// How long a command may take, when nothing else is set.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(100);

    /// How many commands may be in flight, when nothing else is set.
    pub const DEFAULT_IN_FLIGHT: usize = 4_096;

    /// Names the server: `redis://[user:password@]host:port[/database]`.
    ///
    /// # Errors
    ///
    /// [`RedisConfigError`] says what the URL should look like.
    pub fn new(url: &str) -> Result<Self, RedisConfigError> {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        match scheme.to_ascii_lowercase().as_str() {
            "redis" => {}
            "rediss" => return Err(RedisConfigError::Tls),
            other => {
                return Err(RedisConfigError::Scheme {
                    scheme: other.to_owned(),
                });
            }
        }
        let server =
            Config::from_url_centralized(url).map_err(|error| RedisConfigError::Malformed {
                source: Box::new(error),
            })?;
        Ok(Self {
            server,
            timeout: Self::DEFAULT_TIMEOUT,
            in_flight: Self::DEFAULT_IN_FLIGHT,
            breaker: BreakerConfig::default(),
        })
    }

    /// How long a command may take; waiting for a permit may take as long again.
    ///
    /// Default: [`RedisConfig::DEFAULT_TIMEOUT`].
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many commands may be in flight at once, at least 1.
    ///
    /// Default: [`RedisConfig::DEFAULT_IN_FLIGHT`].
    pub fn in_flight(mut self, commands: usize) -> Self {
        // More permits than a semaphore can hold would make it panic.
        self.in_flight = commands.clamp(1, tokio::sync::Semaphore::MAX_PERMITS);
        self
    }

    /// When to stop sending and how often to probe.
    ///
    /// Default: [`BreakerConfig::default`].
    pub const fn breaker(mut self, breaker: BreakerConfig) -> Self {
        self.breaker = breaker;
        self
    }

    /// The server's address without credentials, for logs.
    pub fn address(&self) -> String {
        self.server
            .server
            .hosts()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("address", &self.address())
            .field("timeout", &self.timeout)
            .field("in_flight", &self.in_flight)
            .field("breaker", &self.breaker)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Chain;

    #[test]
    fn url_of_another_kind_is_refused_without_showing_it() {
        for (url, says) in [
            ("rediss://:hunter2@host", "TLS feature"),
            ("postgres://u:hunter2@host/db", "`postgres://` is not"),
            ("hunter2", "`://` is not"),
            ("redis://:hunter2@host:notaport", "malformed"),
            ("redis://:hunter2@host/notanumber", "malformed"),
        ] {
            let error = RedisConfig::new(url).unwrap_err();
            let text = format!("{} {error:?}", Chain(&error));
            assert!(text.contains(says), "{url}: {text}");
            assert!(!text.contains("hunter2"), "{url}: {text}");
        }
    }

    #[test]
    fn debug_shows_the_address_and_no_password() {
        let config = RedisConfig::new("redis://me:hunter2@example.org:6380/3").unwrap();
        let text = format!("{config:?}");
        assert!(text.contains("example.org:6380"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
