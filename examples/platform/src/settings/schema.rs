//! Every setting that the platform accepts.

use maxscale_core::config::{Kind, Schema, SchemaError, Setting};

/// How the URL of a Redis may begin.
const REDIS: &[&str] = &[
    "redis",
    "redis-cluster",
    "redis-sentinel",
    "rediss",
    "rediss-cluster",
    "rediss-sentinel",
];

/// All settings that the platform accepts.
///
/// # Errors
///
/// Returns [`SchemaError`] if this list contradicts itself, which a test rules out.
pub fn schema() -> Result<Schema, SchemaError> {
    let settings = traffic().into_iter().chain(storage()).chain(work());
    Schema::new(settings)
}

/// What is listened to, and how much of it.
fn traffic() -> Vec<Setting> {
    vec![
        Setting::new(
            "http.listen",
            Kind::Text,
            "Address and port for requests. Unset, a taken port 3000 gives way to a free one.",
        )
        .default("127.0.0.1:3000"),
        Setting::new(
            "http.public_url",
            Kind::Url,
            "The URL that clients use. With https, cookies are Secure.",
        )
        .schemes(&["http", "https"]),
        Setting::new(
            "http.deadline",
            Kind::Duration,
            "The longest a request may take; an upload may take ten times as long.",
        )
        .default("10s"),
        Setting::new("http.upload_limit", Kind::Size, "The largest upload.").default("64MiB"),
        Setting::new(
            "admin.listen",
            Kind::Text,
            "An address of its own for /health and /metrics.",
        ),
        Setting::new(
            "limits.per_minute",
            Kind::Integer,
            "Requests per minute of one user, or of one address that is not logged in.",
        )
        .default("1000"),
        Setting::new(
            "limits.logins_per_minute",
            Kind::Integer,
            "Sign-ups and logins per minute of one address.",
        )
        .default("60"),
    ]
}

/// Where things are kept.
fn storage() -> Vec<Setting> {
    vec![
        Setting::new(
            "data.dir",
            Kind::Text,
            "The folder of the embedded databases and objects.",
        )
        .default(".maxscale"),
        Setting::new(
            "shards.nodes",
            Kind::List,
            "The nodes: url, name=url, or name=pooled-url|direct-url. Unset: four SQLite files.",
        ),
        Setting::new(
            "shards.count",
            Kind::Integer,
            "Virtual shards, fixed for ever by the first start.",
        )
        .default("1024"),
        Setting::new(
            "catalog.url",
            Kind::Url,
            "The catalog's database. Unset: the first node; embedded: catalog.db.",
        )
        .schemes(&["postgres", "postgresql", "sqlite"]),
        Setting::new(
            "redis.url",
            Kind::Url,
            "Redis for cache and limits. Unset: in this process.",
        )
        .schemes(REDIS),
        Setting::new(
            "redis.cache.url",
            Kind::Url,
            "A Redis of its own for the cache. Unset: redis.url.",
        )
        .schemes(REDIS),
        Setting::new(
            "redis.limits.url",
            Kind::Url,
            "A Redis of its own for limits. Unset: redis.url.",
        )
        .schemes(REDIS),
        Setting::new(
            "objects.url",
            Kind::Url,
            "The folder of uploaded files. Unset: objects in data.dir.",
        )
        .schemes(&["file"]),
        Setting::new(
            "keys.secret",
            Kind::Secret,
            "Signs sessions; 32 characters or more. Unset: drawn once and kept in the catalog.",
        ),
        Setting::new(
            "migrate",
            Kind::Enum(&["auto", "check", "off"]),
            "Pending migrations at the start: run, refuse, or ignore.",
        )
        .default("auto"),
    ]
}

/// How the process runs, and what it tells.
fn work() -> Vec<Setting> {
    vec![
        Setting::new(
            "startup.wait",
            Kind::Duration,
            "How long the start waits for databases.",
        )
        .default("30s"),
        Setting::new(
            "shutdown.grace",
            Kind::Duration,
            "How long the end waits for requests and jobs.",
        )
        .default("25s"),
        Setting::new(
            "worker.concurrency",
            Kind::Integer,
            "Jobs at once; 0 leaves them to other processes.",
        )
        .default("2"),
        Setting::new(
            "log.filter",
            Kind::Text,
            "Which log lines are written; RUST_LOG sets it too.",
        )
        .default("info"),
        Setting::new(
            "log.format",
            Kind::Enum(&["auto", "text", "json"]),
            "auto is text on a terminal, JSON elsewhere.",
        )
        .default("auto"),
        Setting::new(
            "log.color",
            Kind::Bool,
            "Colours on a terminal; NO_COLOR clears it.",
        )
        .default("true"),
    ]
}
