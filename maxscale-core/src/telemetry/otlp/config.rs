use std::time::Duration;

use http::Uri;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::KeyValue;

use crate::meter::span::Sampler;

/// Where spans go, and what they say of this process.
#[derive(Clone, Debug)]
#[must_use]
pub struct OtlpConfig {
    pub(super) url: Uri,
    pub(super) headers: HeaderMap,
    pub(super) timeout: Duration,
    pub(super) interval: Duration,
    service: String,
    attributes: Vec<(String, String)>,
    share: f64,
}

/// An [`OtlpConfig`] that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OtlpConfigError {
    /// The endpoint is not `http://host[:port][/path]`.
    #[error("the endpoint {endpoint:?} is not of the form http://host:port")]
    Endpoint {
        /// What was given.
        endpoint: String,
    },
    /// `https` needs TLS, which is left to a collector nearby.
    #[error("spans are sent without TLS: name a collector nearby, which can send them on")]
    Tls,
    /// A header's name or value cannot be sent.
    #[error("the header {name:?} cannot be sent")]
    Header {
        /// The header's name.
        name: String,
    },
    /// The share is not between 0 and 1.
    #[error("{share} is no share from 0 to 1")]
    Share {
        /// What was given.
        share: String,
    },
}

// === impl OtlpConfig ===

impl OtlpConfig {
    /// The most spans that wait to be sent.
    pub const QUEUE: usize = 16_384;
    /// The most spans in one message.
    pub const BATCH: usize = 512;
    /// How long a message may take, its attempts together, unless set otherwise.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
    /// How long spans are gathered unless set otherwise.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);

    /// Sends to the collector at `endpoint`, as `http://localhost:4318`; to its
    /// path `/v1/traces` is added, as OpenTelemetry says of
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`. `service` is this program's name.
    ///
    /// # Errors
    ///
    /// Returns [`OtlpConfigError`] for an address that is none, or needs TLS.
    pub fn new(endpoint: &str, service: impl Into<String>) -> Result<Self, OtlpConfigError> {
        let wrong = || OtlpConfigError::Endpoint {
            endpoint: endpoint.to_owned(),
        };
        let base: Uri = endpoint.parse().map_err(|_| wrong())?;
        match base.scheme_str() {
            Some("http") if base.query().is_none() => {}
            Some("https") => return Err(OtlpConfigError::Tls),
            _ => return Err(wrong()),
        }
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        Ok(Self {
            url: url.parse().map_err(|_| wrong())?,
            headers: HeaderMap::new(),
            timeout: Self::DEFAULT_TIMEOUT,
            interval: Self::DEFAULT_INTERVAL,
            service: service.into(),
            attributes: Vec::new(),
            share: 1.0,
        })
    }

    /// Records this share of the traces that begin here. Default: all.
    ///
    /// # Errors
    ///
    /// Returns [`OtlpConfigError::Share`] unless it is from 0 to 1.
    pub fn share(mut self, share: f64) -> Result<Self, OtlpConfigError> {
        if !(0.0..=1.0).contains(&share) {
            let share = share.to_string();
            return Err(OtlpConfigError::Share { share });
        }
        self.share = share;
        Ok(self)
    }

    /// Adds a header to each message, such as a token. Its value is never shown.
    ///
    /// # Errors
    ///
    /// Returns [`OtlpConfigError::Header`] for what is no header.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, OtlpConfigError> {
        let wrong = || OtlpConfigError::Header {
            name: name.to_owned(),
        };
        let key: HeaderName = name.parse().map_err(|_| wrong())?;
        let mut value: HeaderValue = value.parse().map_err(|_| wrong())?;
        value.set_sensitive(true);
        self.headers.insert(key, value);
        Ok(self)
    }

    /// Adds an attribute of this process, as `deployment.environment.name`.
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((key.into(), value.into()));
        self
    }

    /// Sets how long a message may take, its attempts together. Default:
    /// [`OtlpConfig::DEFAULT_TIMEOUT`].
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how long spans are gathered before they are sent. Default:
    /// [`OtlpConfig::DEFAULT_INTERVAL`].
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// What decides which traces that begin here are recorded.
    pub const fn sampler(&self) -> Sampler {
        Sampler::share(self.share)
    }

    pub(super) fn resource(&self) -> Vec<KeyValue> {
        let service = KeyValue::new("service.name", self.service.clone());
        let language = KeyValue::new("telemetry.sdk.language", "rust");
        let name = KeyValue::new("telemetry.sdk.name", "opentelemetry");
        let attributes = self.attributes.iter().cloned();
        let attributes = attributes.map(|(key, value)| KeyValue::new(key, value));
        [service, language, name]
            .into_iter()
            .chain(attributes)
            .collect()
    }
}
