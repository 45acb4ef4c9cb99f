//! The settings of a program, from layers that win over each other.
//!
//! A [`Schema`] says what can be set. A [`Config`] is read from, in rising
//! strength: the schema's defaults, a TOML file, the environment
//! (`MAXSCALE__SECTION__KEY`), and code or the command line. Whatever is wrong
//! is reported at once, each error with the place, the reason and a way out;
//! a name that the schema does not have is an error, never ignored.
//!
//! With [`Profile::setting`] among its settings a schema has two profiles. In
//! `prod` no address and no secret has a default; whether the values that are
//! set are safe together is the program's to say.
//!
//! Each value knows its [`Origin`] and is shown masked. Only this module reads
//! the environment. It gives texts, numbers and durations; what they mean, and
//! whether they agree with each other, is the program's to say, in the same
//! format, through [`Config::explain`].
//!
//! | in the environment | meaning |
//! | --- | --- |
//! | `MAXSCALE__HTTP__PORT=80` | the setting `http.port` |
//! | `MAXSCALE__REDIS__URL_FILE=/run/secrets/redis` | `redis.url` is the file's text without the newline at its end; for URLs, secrets and lists |
//! | `RUST_LOG=debug` | `log.filter`, if the schema has such a text |
//! | `NO_COLOR=1` | `log.color = false`, if the schema has such a Bool |
//! | `OTEL_EXPORTER_OTLP_ENDPOINT` | `otel.endpoint`, if the schema has such a URL |
//! | `OTEL_EXPORTER_OTLP_HEADERS` | `otel.headers`, if the schema has such secrets |
//! | `OTEL_RESOURCE_ATTRIBUTES` | `otel.attributes`, if the schema has such a list |
//! | `OTEL_SERVICE_NAME` | `otel.service`, if the schema has such a text |
//! | `OTEL_TRACES_SAMPLER_ARG` | `otel.share`, if the schema has such a text |
//!
//! ```
//! use std::time::Duration;
//!
//! use maxscale_core::config::{Config, Kind, Origin, Schema, Setting};
//!
//! let schema = Schema::new([
//!     Setting::new("http.port", Kind::Integer, "The port to listen on.").default("3000"),
//!     Setting::new("startup.wait", Kind::Duration, "How long to wait.").default("30s"),
//!     Setting::new("redis.url", Kind::Url, "Where Redis is.").schemes(&["redis", "rediss"]),
//! ])?;
//! let config = Config::builder(schema)
//!     .optional_file("no-such-maxscale.toml")
//!     .environment([("MAXSCALE__STARTUP__WAIT".to_owned(), "5m".to_owned())])
//!     .set("redis.url", "redis://app:hunter2@cache:6379")
//!     .load()?;
//!
//! assert_eq!(config.get::<u16>("http.port")?, 3000);
//! assert_eq!(config.origin("http.port"), Some(&Origin::Default));
//! assert_eq!(config.get::<Duration>("startup.wait")?, Duration::from_secs(300));
//! assert_eq!(
//!     config.to_string(),
//!     "http.port = 3000 (default)\n\
//!      startup.wait = 5m (environment variable MAXSCALE__STARTUP__WAIT)\n\
//!      redis.url = redis://app:***@cache:6379 (set by code or command line)\n",
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::any::type_name;
use std::collections::BTreeMap;
use std::fmt;

mod environment;
mod error;
mod explanation;
mod file;
mod layer;
mod mask;
mod nearest;
mod profile;
mod reference;
mod schema;
mod secret;
mod units;
mod value;

#[cfg(test)]
mod tests;

pub use error::{ConfigError, ConfigErrors};
pub use explanation::{Explanation, Origin};
pub use layer::ConfigBuilder;
pub use mask::mask_url;
pub use profile::Profile;
pub use reference::Reference;
pub use schema::{Kind, Schema, SchemaError, Setting};
pub use secret::Secret;
pub use value::{FromValue, Parsed, Problem};

use layer::Effective;
use value::Value;

/// The values that hold, each with its origin. It prints all of them, masked.
#[derive(Clone)]
pub struct Config {
    schema: Schema,
    values: BTreeMap<&'static str, Effective>,
}

// === impl Config ===

impl Config {
    /// Starts a configuration that has no layer but the schema's defaults.
    pub fn builder(schema: Schema) -> ConfigBuilder {
        ConfigBuilder::new(schema)
    }

    fn new(schema: Schema, values: BTreeMap<&'static str, Effective>) -> Self {
        Self { schema, values }
    }

    /// Reads a setting as the type that the program needs; see [`FromValue`].
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::Missing`] when it is unset and `T` is no
    /// `Option`, [`ConfigError::Invalid`] when the value does not fit into
    /// `T`, and [`ConfigError::Undeclared`] or [`ConfigError::Misread`] when
    /// the program asks for what its schema does not have.
    pub fn get<T: FromValue>(&self, key: &str) -> Result<T, ConfigError> {
        let Some(setting) = self.schema.find(key) else {
            let key = key.to_owned();
            return Err(ConfigError::Undeclared { key });
        };
        let Some(effective) = self.values.get(key) else {
            return T::when_unset().ok_or_else(|| ConfigError::Missing {
                key: setting.key(),
                kind: setting.kind(),
                variable: setting.variable(),
            });
        };
        match T::from_value(&effective.value) {
            Some(Ok(value)) => Ok(value),
            Some(Err(problem)) => Err(ConfigError::invalid(
                setting,
                Some(&effective.shown),
                effective.origin.clone(),
                problem,
            )),
            None => Err(ConfigError::Misread {
                key: setting.key(),
                kind: setting.kind(),
                wanted: type_name::<T>(),
            }),
        }
    }

    /// Where the value of a setting came from; `None` when it has none.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.values.get(key).map(|effective| &effective.origin)
    }

    /// Whether somebody set it, be it to the value of its default.
    #[must_use]
    pub fn is_configured(&self, key: &str) -> bool {
        self.origin(key)
            .is_some_and(|origin| *origin != Origin::Default)
    }

    /// The profile that was chosen; `dev` if the schema has none.
    #[must_use]
    pub fn profile(&self) -> Profile {
        profile::chosen(&self.values)
    }

    /// The value of a setting as it may be shown to anyone.
    #[must_use]
    pub fn shown(&self, key: &str) -> Option<&str> {
        self.values
            .get(key)
            .map(|effective| effective.shown.as_str())
    }

    /// Explains a failure that a setting led to, whenever it shows: what
    /// failed, why, and what to do; the setting and its origin are filled in.
    #[must_use]
    pub fn explain(&self, key: &str, what: &str, why: &str, action: &str) -> Explanation {
        let origin = self.origin(key).cloned();
        let shown = self.shown(key).unwrap_or_default();
        Explanation::new(what, why, action).setting(key, shown, origin)
    }

    /// The schema that it was read by.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for key in self.schema.keys() {
            if let Some(Effective { shown, origin, .. }) = self.values.get(key) {
                writeln!(f, "{key} = {shown} ({origin})")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.values.iter().map(|(key, held)| (key, &held.shown));
        f.debug_map().entries(shown).finish()
    }
}
