//! Every setting that the platform accepts.

use std::iter;

use maxscale_core::config::{Kind, Profile, Schema, SchemaError, Setting};

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
    let settings = iter::once(Profile::setting())
        .chain(traffic())
        .chain(limits())
        .chain(storage())
        .chain(keys())
        .chain(accounts())
        .chain(work())
        .chain(otel());
    Schema::new(settings)
}

/// The page of the book that lists every setting.
///
/// # Errors
///
/// As [`schema`].
pub fn reference() -> Result<String, SchemaError> {
    Ok(format!("{HEAD}\n{}", schema()?.reference()))
}

const HEAD: &str = "\
# All settings

The platform prints this page: `cargo run -- config reference`. What the columns mean, and what \
stands behind some of these settings, is told in [Configuration](configuration.md).
";

/// What is listened to, and how much of it.
fn traffic() -> Vec<Setting> {
    vec![
        Setting::new(
            "http.listen",
            Kind::Address,
            "Where requests are taken. Only if it is not set, and 3000 is taken, a free port is used instead.",
        )
        .default("127.0.0.1:3000")
        .required_in_prod(),
        Setting::new(
            "http.public_url",
            Kind::Url,
            "The URL that clients use: links in mails begin with it, and its pages may send requests. With `https://` the session cookie is `Secure`, for a service behind a proxy that ends TLS. In `prod` it must be. Unset: the address of `http.listen`.",
        )
        .schemes(&["http", "https"])
        .required_in_prod(),
        Setting::new(
            "http.deadline",
            Kind::Duration,
            "The longest a request may take; an upload may take ten times as long.",
        )
        .default("10s"),
        Setting::new(
            "http.connections",
            Kind::Integer,
            "Connections at once, at least 1; one more waits until another ends.",
        )
        .default("10000"),
        Setting::new(
            "http.trusted_proxies",
            Kind::Text,
            "Proxies in front, whose `X-Forwarded-For` names the client: addresses, as `10.0.0.0/8,fd00::/8`. Unset: nobody's, and whoever connects is the client.",
        ),
        Setting::new("http.upload_limit", Kind::Size, "The largest upload.").default("64MiB"),
        Setting::new(
            "admin.listen",
            Kind::Address,
            "An address of its own for `/health` and `/metrics`. Unset: they are served beside the rest.",
        )
        .required_in_prod(),
    ]
}

/// How often somebody may ask.
fn limits() -> Vec<Setting> {
    let limit = |key, default: &'static str, about| {
        Setting::new(key, Kind::Integer, about).default(default)
    };
    vec![
        limit(
            "limits.addresses_per_minute",
            "3000",
            "Requests per minute of one address, whoever asks from there; of IPv6, of one /64.",
        ),
        limit(
            "limits.logins_per_minute",
            "60",
            "Sign-ups, logins, and what else takes a password or sends a mail, per minute of one address.",
        ),
        limit(
            "limits.per_minute",
            "1000",
            "Requests per minute of one user.",
        ),
        limit(
            "limits.uploads_per_minute",
            "60",
            "Uploads per minute of one user.",
        ),
        limit(
            "limits.streams",
            "20",
            "Streams of events that one user may have open at once.",
        ),
        limit(
            "limits.suspicious_per_minute",
            "10",
            "Requests per minute of a user or an address that behaves badly; see [Limits](limits.md#who-behaves-badly).",
        ),
    ]
}

/// Where things are kept.
fn storage() -> Vec<Setting> {
    vec![
        Setting::new(
            "data.dir",
            Kind::Text,
            "The folder of the embedded databases, and of objects. In `prod` it has to be set unless nothing lies in it.",
        )
        .default(".maxscale"),
        Setting::new(
            "shards.nodes",
            Kind::List,
            "The databases that hold users, each as `url`, `name=url` or `name=pooled-url|direct-url`. Unset: four SQLite files in `data.dir`. An empty list is an error.",
        ),
        Setting::new(
            "shards.replicas",
            Kind::List,
            "Streaming replicas of nodes, each as `name=url` or `name=pooled-url|direct-url`, where the name is that of an entry of `shards.nodes`. One that is promoted becomes the node's primary.",
        ),
        Setting::new(
            "shards.residency",
            Kind::List,
            "The regions in which every server of `shards.nodes` and `shards.replicas` has to stand, by the `region=` of its URL; see [Residency](residency.md). Unset: anywhere. An empty list is an error.",
        ),
        Setting::new(
            "shards.map_copy",
            Kind::Text,
            "The file that keeps the last good shard map, so that a start goes on from it while the catalog is away. Unset: `shard-map` in `data.dir`; none in `prod` where `data.dir` is unset.",
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
            "The database that holds the names of the nodes and the shard map. Unset: the node listed first at the first start; embedded: `catalog.db` in `data.dir`.",
        )
        .schemes(&["postgres", "postgresql", "sqlite"]),
        Setting::new(
            "redis.url",
            Kind::Url,
            "Redis for cache, limits and copies of sessions. Unset: cache and limits are kept in this process, and sessions are read from their rows.",
        )
        .schemes(REDIS),
        Setting::new(
            "redis.cache.url",
            Kind::Url,
            "A Redis of its own for the cache, which may evict. Unset: that of `redis.url`.",
        )
        .schemes(REDIS),
        Setting::new(
            "redis.limits.url",
            Kind::Url,
            "A Redis of its own for limits, which must not evict. Unset: that of `redis.url`.",
        )
        .schemes(REDIS),
        Setting::new(
            "redis.sessions.urls",
            Kind::List,
            "Redis for nothing but copies of sessions, over which users are spread. Unset: that of `redis.url`. An empty list: none, and sessions are read from their rows.",
        ),
        Setting::new(
            "redis.sessions.map",
            Kind::Text,
            "Whose sessions are on which of them, as `1;0@1x512,1@1x512`; see [Where sessions are kept](auth.md#many-redis). Unset: evenly spread.",
        ),
        Setting::new(
            "objects.url",
            Kind::Url,
            "The folder of uploaded files, as `file://` URL. Unset: the folder `objects` in `data.dir`.",
        )
        .schemes(&["file"]),
        Setting::new(
            "migrate",
            Kind::Enum(&["auto", "check", "off"]),
            "Pending migrations at the start: run, refuse, or ignore; see [Modes](modes.md#migrations).",
        )
        .default("auto"),
    ]
}

/// What is signed with.
fn keys() -> Vec<Setting> {
    vec![
        Setting::new(
            "keys.secret",
            Kind::Secret,
            "Signs sessions and hides the directory of addresses; 32 characters or more. Unset: drawn by the first start and kept in the catalog. See [The secret](configuration.md#the-secret) before you set or change it.",
        )
        .required_in_prod(),
        Setting::new(
            "keys.others",
            Kind::Secrets,
            "Secrets that are read and not written: the next one, and those before. See [The secret](configuration.md#the-secret).",
        ),
    ]
}

/// Who may sign up and how, and what is sent to them.
fn accounts() -> Vec<Setting> {
    vec![
        Setting::new(
            "service.name",
            Kind::Text,
            "What the service calls itself in mails. No password may be made of it.",
        )
        .default("maxscale platform"),
        Setting::new(
            "accounts.sign_ups",
            Kind::Enum(&["open", "quiet"]),
            "`open`: a new account is logged in at once, and a taken address is told. `quiet`: nobody is told whether an address has an account, and a sign-up ends by the link of a mail. Unset: `quiet` in `prod`, and `open` in `dev`.",
        ),
        Setting::new(
            "accounts.stolen_passwords",
            Kind::Text,
            "A file of stolen passwords, which are not taken; see [Which are taken](auth.md#which-are-taken). Unset: none.",
        ),
        Setting::new(
            "mail.url",
            Kind::Url,
            "What mails are sent by: `smtps://user:password@host`, `smtp://user:password@host?tls=required`, or a folder as `file://` URL. Unset: the folder `mail` in `data.dir`.",
        )
        .schemes(&["file", "smtp", "smtps"])
        .required_in_prod(),
        Setting::new("mail.from", Kind::Text, "The sender of mails.")
            .default("maxscale platform <no-reply@localhost>")
            .required_in_prod(),
        Setting::new(
            "mail.plain",
            Kind::Bool,
            "Whether an SMTP server on another machine may be spoken to without TLS. Whoever reads along has the links.",
        )
        .default("false"),
    ]
}

/// How the process runs, and what it tells.
fn work() -> Vec<Setting> {
    vec![
        Setting::new(
            "startup.wait",
            Kind::Duration,
            "How long the start waits for the catalog and for one node; the first start of all, for every node.",
        )
        .default("30s"),
        Setting::new(
            "shutdown.grace",
            Kind::Duration,
            "How long the end waits for requests and jobs. Three more seconds are for handing back and closing.",
        )
        .default("25s"),
        Setting::new(
            "shutdown.wait",
            Kind::Duration,
            "How long connections are still accepted after SIGTERM while `/readyz` already says no; a part of `shutdown.grace`. Unset: 3s in `prod`, and 0s in `dev`.",
        ),
        Setting::new(
            "worker.concurrency",
            Kind::Integer,
            "Jobs at once in this process, at most 1,024; 0 leaves them to other processes.",
        )
        .default("2"),
        Setting::new("log.filter", Kind::Text, "Which log lines are written.").default("info"),
        Setting::new(
            "log.format",
            Kind::Enum(&["auto", "text", "json"]),
            "`auto` is text on a terminal and JSON elsewhere.",
        )
        .default("auto"),
        Setting::new(
            "log.color",
            Kind::Bool,
            "Colours on a terminal; `NO_COLOR` turns them off.",
        )
        .default("true"),
    ]
}

/// Traces, and whose are gone on with.
fn otel() -> Vec<Setting> {
    vec![
        Setting::new(
            "otel.endpoint",
            Kind::Url,
            "The OpenTelemetry collector that traces are sent to by OTLP over HTTP, as `http://localhost:4318`. Unset: none are recorded.",
        )
        .schemes(&["http"]),
        Setting::new(
            "otel.headers",
            Kind::Secrets,
            "Headers for the collector, each as `name=value`.",
        ),
        Setting::new(
            "otel.service",
            Kind::Text,
            "What this service is called in traces.",
        )
        .default("maxscale-platform"),
        Setting::new(
            "otel.attributes",
            Kind::List,
            "What else traces say of this process, each as `key=value`: `deployment.environment.name=prod`.",
        ),
        Setting::new(
            "otel.share",
            Kind::Text,
            "The share of the traces that begin here and are recorded, from 0 to 1.",
        )
        .default("1"),
        Setting::new(
            "otel.trusted",
            Kind::Text,
            "Whose traces are gone on with: addresses of callers, as `10.0.0.0/8,fd00::/8`. Others' begin anew, with a link to what they sent. Unset: nobody's.",
        ),
    ]
}
