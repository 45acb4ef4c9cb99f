//! Redis for a test: shared, or one of its own.

mod cluster;
mod monitor;
mod role;
mod sentinels;
mod wire;

use std::{
    fmt, fs,
    ops::Deref,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use tokio::{runtime, sync::OnceCell, task::spawn_blocking, time::timeout};

pub use self::{cluster::RedisCluster, monitor::RedisMonitor, sentinels::RedisSentinels};

use self::{
    role::{DATA, Role},
    wire::{Client, Reply},
};
use crate::{
    certificates::Certificate,
    daemon::{Daemon, End},
    devservices,
    postgres::resume,
    source::{self, REDIS, dotted, is_new_enough},
    wait::free_port,
    watchdog,
};

/// How long a server that runs may take for one command, on a machine that is busy.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A running Redis, version 7 or newer.
///
/// It listens on 127.0.0.1, on a port that stays the same when it is
/// restarted. It is gone when it is dropped, and in any case when the test
/// process is gone.
///
/// # Panics
///
/// Every method panics, and so fails the test, when the server does not do
/// what it is told.
#[derive(Debug)]
pub struct RedisServer {
    url: String,
    tls_port: Option<u16>,
    // None: somebody else's, known by its URL.
    daemon: Option<Daemon>,
    shared: bool,
}

/// What a test's keys begin with; no other caller gets the same.
///
/// On a server known by its URL, dropping it deletes the keys that begin so.
#[derive(Debug)]
pub struct Prefix {
    text: String,
    clean: Option<String>,
}

// === impl RedisServer ===

impl RedisServer {
    /// The server that all tests of this process share, each with a
    /// [`prefix`](Self::prefix) of its own.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<RedisServer> = OnceCell::const_new();
        SHARED
            .get_or_init(|| async {
                let Some(url) = source::url(&REDIS) else {
                    return Self::launch(Role::Shared).await;
                };
                if let Err(why) = probe(&url, None).await {
                    panic!("REDIS_URL: {why}");
                }
                Self {
                    url,
                    tls_port: None,
                    daemon: None,
                    shared: true,
                }
            })
            .await
    }

    /// A server for this test alone. It writes an append-only file, so that
    /// [`kill`](Self::kill) and [`restart`](Self::restart) lose nothing that it
    /// acknowledged.
    pub async fn start() -> Self {
        Self::launch(Role::Alone).await
    }

    /// As [`start`](Self::start); it answers once what it did is on disk, so
    /// that nothing is lost with the machine either.
    pub async fn start_durable() -> Self {
        Self::launch(Role::Durable).await
    }

    /// A replica of the primary at `url`, which may be a [`Proxy`](crate::Proxy)
    /// before it. It follows as soon as it can.
    pub async fn start_replica(url: &str) -> Self {
        Self::launch(Role::Replica(port_of(url))).await
    }

    /// As [`start`](Self::start); it also listens with TLS and shows this
    /// certificate.
    pub async fn start_with_tls(certificate: &Certificate) -> Self {
        Self::launch(Role::Tls(certificate.clone())).await
    }

    /// Hears what it is asked from now on.
    pub async fn monitor(&self) -> RedisMonitor {
        let monitor = RedisMonitor::start(&self.url).await;
        monitor.unwrap_or_else(|why| panic!("MONITOR: {why}"))
    }

    /// Where it listens with TLS.
    pub fn tls_url(&self) -> String {
        let port = self.tls_port;
        let port = port.expect("RedisServer::start_with_tls() gives a server with TLS");
        format!("rediss://127.0.0.1:{port}")
    }

    /// Where it listens, without TLS.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// A beginning for keys that no other caller, test or run gets.
    pub fn prefix(&self) -> Prefix {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Prefix {
            text: format!("maxscale_test_{}_{number}:", watchdog::run_name()),
            clean: self.daemon.is_none().then(|| self.url()),
        }
    }

    /// Shuts the server down; its data stays.
    pub async fn stop(&self) {
        self.own().end(End::Gently).await;
    }

    /// Kills the server (`kill -9`).
    pub async fn kill(&self) {
        self.own().end(End::Killed).await;
    }

    /// Freezes the server (`SIGSTOP`): it accepts connections and never
    /// answers.
    pub fn pause(&self) {
        self.own().pause();
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        self.own().resume();
    }

    /// Stops the server if it runs, starts it on the same port and data, and
    /// returns once it answers.
    pub async fn restart(&self) {
        let daemon = self.own();
        daemon.end(End::Gently).await;
        self.run(daemon).await.unwrap_or_else(|why| panic!("{why}"));
    }

    /// As [`restart`](Self::restart), but all data is gone.
    pub async fn restart_empty(&self) {
        let daemon = self.own();
        daemon.end(End::Killed).await;
        match daemon {
            Daemon::Local(local) => devservices::remove(&local.folder.join(DATA))
                .and_then(|()| fs::create_dir(local.folder.join(DATA)))
                .expect("the server's data folder can be emptied"),
            Daemon::Compose(compose) => compose.wipe(),
        }
        self.run(daemon).await.unwrap_or_else(|why| panic!("{why}"));
    }

    /// The server's process; `None` while it is down, or in a container.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref()?.pid()
    }

    /// Where its files and its `log` are; `None` in a container.
    pub fn folder(&self) -> Option<&Path> {
        self.daemon.as_ref()?.folder()
    }

    fn own(&self) -> &Daemon {
        assert!(
            !self.shared,
            "other tests use this server: RedisServer::start() gives one to break"
        );
        self.daemon
            .as_ref()
            .expect("a server of its own was started")
    }

    /// Three servers of the same role, started at once.
    async fn launch_three(role: &Role) -> [Self; 3] {
        // On the heap: a test's future holds many of them.
        let launch = || Box::pin(Self::launch(role.clone()));
        let (one, two, three) = tokio::join!(launch(), launch(), launch());
        [one, two, three]
    }

    async fn launch(role: Role) -> Self {
        let source = spawn_blocking(|| source::source(&REDIS))
            .await
            .unwrap_or_else(|error| resume(error));
        let mut last = String::new();
        // Between choosing a port and listening on it somebody may take it.
        for _ in 0..5 {
            let (port, second) = (free_port(), free_port());
            let daemon = role.daemon(source.clone(), port, second);
            let server = Self {
                url: format!("redis://127.0.0.1:{port}"),
                tls_port: matches!(role, Role::Tls(_)).then_some(second),
                daemon: None,
                shared: role == Role::Shared,
            };
            match server.run(&daemon).await {
                Ok(()) => {
                    return Self {
                        daemon: Some(daemon),
                        ..server
                    };
                }
                Err(why) => last = why,
            }
        }
        panic!("Redis did not start: {last}");
    }

    async fn run(&self, daemon: &Daemon) -> Result<(), String> {
        daemon
            .start(async || probe(&self.url, daemon.pid()).await)
            .await
    }

    /// Of a server of our own.
    fn port(&self) -> u16 {
        port_of(&self.url)
    }

    /// What it answers to one command; one that is down or paused is an error.
    async fn command(&self, words: &[&str]) -> Result<Reply, String> {
        let answer = async { Client::connect(&self.url).await?.command(words).await };
        timeout(ANSWER_LIMIT, answer)
            .await
            .unwrap_or_else(|_| Err("no answer".to_owned()))
    }

    /// As [`command`](Self::command), where the answer is a text.
    async fn text(&self, words: &[&str]) -> Result<String, String> {
        match self.command(words).await? {
            Reply::Text(text) => Ok(text),
            other => Err(format!("{words:?} answered {other:?}")),
        }
    }
}

fn port_of(url: &str) -> u16 {
    let port = url.rsplit(':').next().and_then(|it| it.parse().ok());
    port.expect("the URL of a server of ours ends with its port")
}

/// Whether a server that is new enough, and the one we mean, answers.
async fn probe(url: &str, pid: Option<u32>) -> Result<(), String> {
    let mut client = Client::connect(url).await?;
    let info = client.command(&["INFO", "server"]).await?;
    let Reply::Text(info) = info else {
        return Err(format!("INFO answered {info:?}"));
    };
    let value = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or_default()
            .trim()
    };
    let version = value("redis_version");
    if !is_new_enough(&REDIS, version) {
        let least = dotted(REDIS.least);
        return Err(format!("version {version:?} is older than {least}"));
    }
    if pid.is_some_and(|pid| value("process_id") != pid.to_string()) {
        return Err("another server listens on this port".to_owned());
    }
    // While it loads its data, INFO answers and other commands do not.
    match client.command(&["PING"]).await? {
        Reply::Text(pong) if pong == "PONG" => Ok(()),
        other => Err(format!("PING answered {other:?}")),
    }
}

// === impl Prefix ===

impl Deref for Prefix {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        let Some(url) = self.clean.take() else { return };
        let pattern = format!("{}*", self.text);
        // The test's runtime may be ending; this one is not.
        let deleting = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                let limit = Duration::from_secs(10);
                let _ = runtime.block_on(async { timeout(limit, delete(&url, &pattern)).await });
            }
        });
        let _ = deleting.join();
    }
}

/// Deletes the keys of one pattern.
async fn delete(url: &str, pattern: &str) -> Result<(), String> {
    let mut client = Client::connect(url).await?;
    let mut cursor = "0".to_owned();
    loop {
        let scan = ["SCAN", &cursor, "MATCH", pattern, "COUNT", "1000"];
        let Reply::Many(mut parts) = client.command(&scan).await? else {
            return Err("SCAN answered no list".to_owned());
        };
        let (Some(Reply::Many(keys)), Some(Reply::Text(next))) = (parts.pop(), parts.pop()) else {
            return Err("SCAN answered no cursor".to_owned());
        };
        for key in keys {
            if let Reply::Text(key) = key {
                client.command(&["UNLINK", &key]).await?;
            }
        }
        if next == "0" {
            return Ok(());
        }
        cursor = next;
    }
}
