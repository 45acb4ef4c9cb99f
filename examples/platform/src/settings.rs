//! The settings of the platform: what can be set, and what was.

mod prod;
mod schema;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use maxscale_auth::session::SessionMap;
use maxscale_core::config::{
    Config, ConfigError, ConfigErrors, Parsed, Profile, SchemaError, Secret,
};
use maxscale_core::fact::Networks;

use crate::public_url::PublicUrl;

pub use prod::insecure;
pub use schema::{reference, schema};

/// Everything that the platform is told from outside.
#[derive(Clone)]
pub struct Settings {
    /// Where the process runs.
    pub profile: Profile,
    /// Where requests are taken.
    pub listen: SocketAddr,
    /// Whether somebody chose that address; an unchosen port may give way to a free one.
    pub listen_chosen: bool,
    /// Where `/health` and `/metrics` are served, if not beside the rest.
    pub admin_listen: Option<SocketAddr>,
    /// The URL that clients use, if it is set.
    pub public: Option<PublicUrl>,
    /// What the service calls itself.
    pub service: String,
    /// Whether a sign-up tells nobody that an address has an account.
    pub quiet: bool,
    /// The file of stolen passwords, if there is one.
    pub stolen_passwords: Option<PathBuf>,
    /// How mails are sent.
    pub mail: MailSettings,
    /// The longest a request may take.
    pub deadline: Duration,
    /// Connections at once.
    pub connections: u32,
    /// The largest upload, in bytes.
    pub upload_limit: u64,
    /// The folder of the embedded databases, and of objects unless set otherwise.
    pub data: PathBuf,
    /// The list of nodes as configured; `None` means embedded.
    pub nodes: Option<Vec<String>>,
    /// Replicas of the nodes, each with its node's name.
    pub replicas: Option<Vec<String>>,
    /// The regions in which every server of users has to stand.
    pub residency: Option<Vec<String>>,
    /// Where the last good map is kept.
    pub map_copy: Option<PathBuf>,
    /// The number of virtual shards.
    pub shards: u32,
    /// The catalog's URL, if it is a database of its own.
    pub catalog: Option<String>,
    /// Redis, if there is one.
    pub redis: Option<String>,
    /// The cache's Redis, if it has its own.
    pub redis_cache: Option<String>,
    /// The limits' Redis, if they have their own.
    pub redis_limits: Option<String>,
    /// The sessions' Redis, if they have their own.
    pub redis_sessions: Option<Vec<String>>,
    /// Whose sessions are on which of these.
    pub session_map: Option<SessionMap>,
    /// The URL of the folder of objects.
    pub objects: String,
    /// The key that signs sessions, if configured.
    pub secret: Option<Secret>,
    /// Keys that only read: the next one, and those before.
    pub other_secrets: Vec<Secret>,
    /// What to do about pending migrations.
    pub migrate: String,
    /// How long the start waits for databases.
    pub wait: Duration,
    /// How long the end waits for requests and jobs.
    pub grace: Duration,
    /// How much of that passes before connections are no longer accepted.
    pub stop_wait: Duration,
    /// How often somebody may ask.
    pub limits: PerMinute,
    /// Streams of one user at once.
    pub streams: u32,
    /// Jobs at once.
    pub workers: usize,
    /// Which log lines are written.
    pub log_filter: String,
    /// `auto`, `text` or `json`.
    pub log_format: String,
    /// Whether logs on a terminal have colours.
    pub log_color: bool,
    /// The collector of traces, if they are recorded.
    pub otel_endpoint: Option<String>,
    /// Headers for it, each as `name=value`.
    pub otel_headers: Vec<Secret>,
    /// What this service is called in traces.
    pub otel_service: String,
    /// What else they say of it, each as `key=value`.
    pub otel_attributes: Vec<String>,
    /// The share of traces that are recorded.
    pub otel_share: f64,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub proxies: Networks,
    /// Whose traces are gone on with.
    pub otel_trusted: Networks,
}

/// How mails are sent.
#[derive(Clone)]
pub struct MailSettings {
    /// The server's URL, or a folder's; `None` means the folder `mail` in the data folder.
    pub url: Option<String>,
    /// The sender.
    pub from: String,
    /// Whether a server on another machine is spoken to without TLS.
    pub plain: bool,
}

/// How many requests each minute admits.
#[derive(Clone, Copy, Debug)]
pub struct PerMinute {
    /// Of one address.
    pub addresses: u32,
    /// Of those, sign-ups and logins.
    pub logins: u32,
    /// Of one user.
    pub users: u32,
    /// Of those, uploads.
    pub uploads: u32,
    /// Of an address or a user that behaves badly.
    pub suspicious: u32,
}

/// Where the last good map is kept: in prod only in a folder that somebody chose.
fn map_copy(config: &Config, data: &Path) -> Result<Option<PathBuf>, ConfigError> {
    if let Some(path) = config.get::<Option<String>>("shards.map_copy")? {
        return Ok(Some(path.into()));
    }
    let chosen = config.profile() == Profile::Dev || config.is_configured("data.dir");
    Ok(chosen.then(|| data.join("shard-map")))
}

/// Balancers ask every second or so; nobody waits for them at a developer's desk.
const STOP_WAIT: Duration = Duration::from_secs(3);

fn stop_wait(config: &Config, grace: Duration) -> Result<Duration, ConfigError> {
    let chosen: Option<Duration> = config.get("shutdown.wait")?;
    Ok(match (chosen, config.profile()) {
        (Some(chosen), _) => chosen,
        (None, Profile::Prod) => STOP_WAIT.min(grace),
        (None, Profile::Dev) => Duration::ZERO,
    })
}

/// Unless somebody chose: as the first steps want it, and as users do.
fn quiet(config: &Config) -> Result<bool, ConfigError> {
    let chosen: Option<String> = config.get("accounts.sign_ups")?;
    Ok(match chosen {
        Some(chosen) => chosen == "quiet",
        None => config.profile() == Profile::Prod,
    })
}

impl fmt::Debug for MailSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailSettings").finish_non_exhaustive()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // URLs may hold passwords.
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}

/// An upload may take this many times as long as another request.
const UPLOAD_FACTOR: u32 = 10;

/// The number of nodes of the embedded mode.
pub const EMBEDDED_NODES: usize = 4;

// === impl Settings ===

impl Settings {
    /// Reads the settings from a configuration by [`schema`].
    ///
    /// # Errors
    ///
    /// Returns the first [`ConfigError`].
    pub fn read(config: &Config) -> Result<Self, ConfigError> {
        let data = config.get::<Parsed<Folder>>("data.dir")?.0.0;
        let objects = config.get::<Option<String>>("objects.url")?;
        let public = config.get::<Option<Parsed<PublicUrl>>>("http.public_url")?;
        let map = config.get::<Option<Parsed<SessionMap>>>("redis.sessions.map")?;
        let stolen = config.get::<Option<String>>("accounts.stolen_passwords")?;
        let others = config.get::<Option<Vec<Secret>>>("keys.others")?;
        let grace = config.get("shutdown.grace")?;
        let otel_headers = config.get::<Option<Vec<Secret>>>("otel.headers")?;
        let otel_attributes = config.get::<Option<Vec<String>>>("otel.attributes")?;
        let networks = |key| -> Result<Networks, ConfigError> {
            let networks = config.get::<Option<Parsed<Networks>>>(key)?;
            Ok(networks.map_or_else(Networks::default, |Parsed(networks)| networks))
        };
        Ok(Self {
            profile: config.profile(),
            listen: config.get("http.listen")?,
            listen_chosen: config.is_configured("http.listen"),
            admin_listen: config.get("admin.listen")?,
            public: public.map(|Parsed(url)| url),
            service: config.get("service.name")?,
            quiet: quiet(config)?,
            stolen_passwords: stolen.map(PathBuf::from),
            mail: MailSettings {
                url: config.get("mail.url")?,
                from: config.get("mail.from")?,
                plain: config.get("mail.plain")?,
            },
            deadline: config.get("http.deadline")?,
            connections: config.get("http.connections")?,
            upload_limit: config.get("http.upload_limit")?,
            objects: objects.unwrap_or_else(|| format!("file://{}/objects", data.display())),
            map_copy: map_copy(config, &data)?,
            data,
            nodes: config.get("shards.nodes")?,
            replicas: config.get("shards.replicas")?,
            residency: config.get("shards.residency")?,
            shards: config.get("shards.count")?,
            catalog: config.get("catalog.url")?,
            redis: config.get("redis.url")?,
            redis_cache: config.get("redis.cache.url")?,
            redis_limits: config.get("redis.limits.url")?,
            redis_sessions: config.get("redis.sessions.urls")?,
            session_map: map.map(|Parsed(map)| map),
            secret: config.get("keys.secret")?,
            other_secrets: others.unwrap_or_default(),
            migrate: config.get("migrate")?,
            wait: config.get("startup.wait")?,
            stop_wait: stop_wait(config, grace)?,
            grace,
            limits: PerMinute {
                addresses: config.get("limits.addresses_per_minute")?,
                logins: config.get("limits.logins_per_minute")?,
                users: config.get("limits.per_minute")?,
                uploads: config.get("limits.uploads_per_minute")?,
                suspicious: config.get("limits.suspicious_per_minute")?,
            },
            streams: config.get("limits.streams")?,
            workers: config.get("worker.concurrency")?,
            log_filter: config.get("log.filter")?,
            log_format: config.get("log.format")?,
            log_color: config.get("log.color")?,
            otel_endpoint: config.get("otel.endpoint")?,
            otel_headers: otel_headers.unwrap_or_default(),
            otel_service: config.get("otel.service")?,
            otel_attributes: otel_attributes.unwrap_or_default(),
            otel_share: config.get::<Parsed<f64>>("otel.share")?.0,
            proxies: networks("http.trusted_proxies")?,
            otel_trusted: networks("otel.trusted")?,
        })
    }

    /// Whether clients reach the service under TLS.
    pub fn tls(&self) -> bool {
        self.public.as_ref().is_some_and(PublicUrl::tls)
    }

    /// The longest an upload may take.
    pub const fn upload_deadline(&self) -> Duration {
        self.deadline.saturating_mul(UPLOAD_FACTOR)
    }

    /// Whether everything lies in this process and its folder.
    pub const fn embedded(&self) -> bool {
        self.nodes.is_none()
    }
}

/// The path of a folder. An empty one would put `objects` into the root.
struct Folder(PathBuf);

impl FromStr for Folder {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let there = !text.trim().is_empty();
        there
            .then(|| Self(text.into()))
            .ok_or("it is empty; write . for the working directory")
    }
}

/// What [`load`] could not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The list of settings contradicts itself.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// Some values are wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
}

/// Loads the configuration: defaults, file, environment, command line.
///
/// # Errors
///
/// Returns [`SettingsError`] with everything that is wrong.
pub fn load(file: Option<PathBuf>, set: Vec<(String, String)>) -> Result<Config, SettingsError> {
    let mut builder = Config::builder(schema()?);
    builder = match file {
        Some(path) => builder.file(path),
        None => builder.optional_file("maxscale.toml"),
    };
    builder = builder.process_environment();
    for (key, value) in set {
        builder = builder.set(key, value);
    }
    Ok(builder.load()?)
}
