//! What can be set, by `one-budget.toml` or the environment.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use maxscale_core::config::{Config, Kind, Schema, Secret, Setting};
use maxscale_core::limit::Rate;

/// What was set.
pub(crate) struct Settings {
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) rate: Rate,
    /// A Redis, and the secret that hides addresses there.
    pub(crate) shared: Option<(String, Secret)>,
}

const HOUR: Duration = Duration::from_secs(3_600);

// === impl Settings ===

impl Settings {
    pub(crate) fn load() -> Result<Self, Box<dyn Error>> {
        let schema = Schema::new([
            Setting::new("http.listen", Kind::Address, "Where HTTP is taken.")
                .default("127.0.0.1:3001"),
            Setting::new("grpc.listen", Kind::Address, "Where gRPC is taken.")
                .default("127.0.0.1:3002"),
            Setting::new(
                "limits.per_hour",
                Kind::Integer,
                "Requests per hour of one address, however they come; a tenth at once.",
            )
            .default("600"),
            Setting::new(
                "redis.url",
                Kind::Url,
                "Where processes count together. Unset: this one counts alone.",
            )
            .schemes(&["redis", "redis-cluster", "redis-sentinel"]),
            Setting::new(
                "keys.secret",
                Kind::Secret,
                "Hides addresses in Redis; 32 characters or more, the same in all processes.",
            ),
        ])?;
        let config = Config::builder(schema)
            .optional_file("one-budget.toml")
            .process_environment()
            .load()?;
        let secret = config.get::<Option<Secret>>("keys.secret")?;
        let shared = match (config.get::<Option<String>>("redis.url")?, secret) {
            (Some(url), Some(secret)) => Some((url, secret)),
            (Some(_), None) => return Err("redis.url needs keys.secret".into()),
            (None, _) => None,
        };
        Ok(Self {
            http: config.get("http.listen")?,
            grpc: config.get("grpc.listen")?,
            rate: Rate::new(config.get("limits.per_hour")?, HOUR)?,
            shared,
        })
    }
}
