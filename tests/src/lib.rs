//! Real servers for tests, gone when the test process is gone.
//!
//! [`PostgresServer`] and [`RedisServer`] give a test a real server: a shared
//! one per test process, or one of its own where the test breaks it.
//! [`PostgresServer::replica`], [`RedisCluster`] and [`RedisSentinels`] give
//! servers that belong together. [`RedisMonitor`] hears what a server is asked.
//! [`MemcachedServer`] and [`Prometheus`] are always a test's own. [`SmtpServer`] keeps the
//! mail that it gets, with TLS and without.
//! [`PgBouncer`] stands in front of a PostgreSQL. [`Certificates`] are for servers that speak TLS.
//! [`Chromium`] is a browser that WebDriver drives.
//! [`Process`] runs a program of ours and collects its output. [`eventually`]
//! waits for a condition, so that no test sleeps. [`Proxy`] breaks what is
//! between a client and its server.
//!
//! Where a server comes from, in this order, and what is printed once:
//!
//! | way | from |
//! | --- | --- |
//! | `url` | `DATABASE_URL`, `REDIS_URL` (shared servers only) |
//! | `path` | programs on `PATH`, in `/usr/lib/postgresql/*/bin`, in Homebrew's folders |
//! | `packages` | the distribution's packages, unpacked into `target/devservices/`; nothing is installed |
//! | `docker` | `docker compose` with `tests/compose.yaml` |
//!
//! `MAXSCALE_TEST_SERVERS` set to one of the four names takes that way only
//! (`url`: a server of a test's own, which a URL cannot give, still takes the
//! other ways). Without any server the test fails and says what was tried.
//!
//! Where Debian's packages of the machine's release are too old, those of its
//! current release are unpacked with all their libraries.
//!
//! `target/devservices/`, or the folder in `MAXSCALE_TEST_CACHE`, keeps unpacked
//! packages and an empty data folder for the next run.
//!
//! A watchdog outlives the test process by a moment: it stops the servers and
//! removes their folders even after `kill -9`.

#![expect(
    clippy::missing_panics_doc,
    reason = "a test harness fails the test by a panic; the types say so once"
)]

mod certificates;
mod chromium;
mod daemon;
mod devservices;
mod env;
mod lateness;
mod memcached;
mod postgres;
mod process;
mod processes;
mod prometheus;
mod proxy;
mod redis;
mod smtp;
mod source;
mod wait;
mod watchdog;

pub use certificates::{Certificate, Certificates};
pub use chromium::Chromium;
pub use lateness::Lateness;
pub use memcached::MemcachedServer;
pub use postgres::{Database, PgBouncer, PostgresServer};
pub use process::{Process, ProcessBuilder};
pub use processes::{Running, processes};
pub use prometheus::Prometheus;
pub use proxy::{Cut, Proxy, Way};
pub use redis::{Prefix, RedisCluster, RedisMonitor, RedisSentinels, RedisServer};
pub use smtp::{SmtpServer, TakenMail};
pub use wait::{Condition, eventually, free_port};
