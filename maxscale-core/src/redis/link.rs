use std::future::ready;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{
    ClientLike, EventInterface, HashesInterface, KeysInterface, PubsubInterface,
};
use fred::types::config::{
    Config, ConnectionConfig, Options, PerformanceConfig, ServerConfig, TcpConfig,
    UnresponsiveConfig,
};
use fred::types::{ClusterHash, ConnectHandle, CustomCommand, Key, Message, RespVersion, Value};
use futures_util::future::BoxFuture;
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::address::Address;
use super::command::Command;
use super::config::RedisConfig;
use super::server_time::ServerTime;
use super::{Arg, RedisError, Reply};

/// How many messages may wait to be read before the oldest are lost.
const MESSAGES: usize = 4_096;

/// One connection, used until it breaks and never mended.
///
/// The driver would mend it and send again what was in flight; here whoever
/// owns the link opens another, so that a command has one attempt.
#[derive(Debug)]
pub(super) struct Link {
    client: Client,
    task: AbortHandle,
    /// Why it is broken, once it is.
    broken: watch::Receiver<Option<Error>>,
    timeout: Duration,
    /// Commands whose callers gave up before the server answered. `None` once
    /// the connection is gone and none can be in flight.
    abandoned: Mutex<Option<usize>>,
}

/// What the server said. The driver's own errors are kept apart from it: only
/// those tell nothing of whether the command has run.
type Answer = Result<Value, Error>;

// === impl Link ===

impl Link {
    /// Connects for commands (RESP2, whose replies have few forms).
    pub(super) async fn for_commands(
        config: &RedisConfig,
        address: &Address,
    ) -> Result<Self, RedisError> {
        let server = config.server.clone();
        Self::open(config, address, server, RespVersion::RESP2).await
    }

    /// Connects for messages (RESP3, which allows PING beside them).
    pub(super) async fn for_messages(
        config: &RedisConfig,
        address: &Address,
    ) -> Result<Self, RedisError> {
        let server = config.server.clone();
        Self::open(config, address, server, RespVersion::RESP3).await
    }

    /// Connects to a sentinel, which has no databases and its own passwords.
    pub(super) async fn for_sentinel(
        config: &RedisConfig,
        address: &Address,
    ) -> Result<Self, RedisError> {
        let mut server = config.server.clone();
        server.database = None;
        let (user, password) = config.sentinel_login.clone().unzip();
        (server.username, server.password) = (user, password);
        Self::open(config, address, server, RespVersion::RESP2).await
    }

    async fn open(
        config: &RedisConfig,
        address: &Address,
        mut server: Config,
        version: RespVersion,
    ) -> Result<Self, RedisError> {
        server.server = ServerConfig::new_centralized(&*address.host, address.port);
        server.version = version;
        // The first failure to connect ends the driver's task.
        server.fail_fast = true;
        let client = Client::new(
            server,
            Some(PerformanceConfig {
                default_command_timeout: config.timeout,
                broadcast_channel_capacity: MESSAGES,
                ..PerformanceConfig::default()
            }),
            Some(connection(config)),
            None,
        );
        // Polled once before connecting, so that it misses no news.
        let waiting = client.clone();
        let mut connected = Box::pin(async move { waiting.wait_for_connect().await });
        tokio::select! {
            biased;
            _ = &mut connected => {}
            () = ready(()) => {}
        }
        let running = client.connect();
        let link = Self {
            task: running.abort_handle(),
            client,
            broken: watch_over(running),
            timeout: config.timeout,
            abandoned: Mutex::new(Some(0)),
        };
        tokio::select! {
            connected = &mut connected => connected.map_err(RedisError::io)?,
            error = link.broken() => return Err(error),
        }
        Ok(link)
    }

    /// Sends a command, and waits for its reply until `end`.
    pub(super) async fn send(&self, command: Command, end: Instant) -> Result<Reply, RedisError> {
        let limit = end.saturating_duration_since(Instant::now());
        if self.broken.borrow().is_some() {
            return Err(RedisError::Down);
        }
        // The driver takes no time for any time.
        if limit.is_zero() {
            return Err(RedisError::Busy);
        }
        let options = Options {
            max_attempts: Some(1),
            timeout: Some(limit),
            fail_fast: true,
            ..Options::default()
        };
        let client = self.client.with_options(&options);
        let mut args = command.args;
        // Erased, as the driver's futures are large and nest deep.
        let answer: BoxFuture<'_, Result<Answer, Error>> = if command.asking {
            Box::pin(self.send_asking(command.name, values(args), &options))
        } else if command.name == "GET"
            && args.len() == 1
            && let Some(key) = args.pop()
        {
            // By its name, since the driver writes what it has no name for at
            // once: a system call per read is most of what a read costs.
            Box::pin(async move { answered(client.get(key.bytes()).await) })
        } else if command.name == "HMGET" && args.len() > 1 {
            // For the same reason.
            let key = args.remove(0).bytes();
            let fields: Vec<Key> = args.iter().map(|it| it.bytes().into()).collect();
            Box::pin(async move { answered(client.hmget(key, fields).await) })
        } else {
            let frame = client.custom_raw(word(command.name), values(args));
            Box::pin(async { Ok(Value::try_from(frame.await?)) })
        };
        tokio::select! {
            biased;
            answer = answer => answer
                .map_err(|error| RedisError::from_driver(error, limit))?
                .map(Reply::from)
                .map_err(|error| RedisError::from_server(&error)),
            // The driver forgets commands that come just when it stops.
            error = self.broken() => Err(error),
        }
    }

    /// Waits until the connection is broken, and says why.
    pub(super) async fn broken(&self) -> RedisError {
        let mut broken = self.broken.clone();
        let cause = broken.wait_for(Option::is_some).await;
        let cause = cause.ok().and_then(|cause| cause.clone());
        RedisError::io(cause.unwrap_or_else(closed))
    }

    /// ASKING holds for the next command only, so nothing may come between.
    async fn send_asking(
        &self,
        name: &'static str,
        args: Vec<Value>,
        options: &Options,
    ) -> Result<Answer, Error> {
        let pipeline = self.client.pipeline().with_options(options);
        let _: Value = pipeline.custom(word("ASKING"), Vec::<Value>::new()).await?;
        let _: Value = pipeline.custom(word(name), args).await?;
        let mut answers = pipeline.try_all::<Value>().await.into_iter();
        // Of a connection that broke there is one error for both.
        match (answers.next(), answers.next()) {
            (Some(_), Some(answer)) => Ok(answer),
            (Some(Err(lost)), None) => Err(lost),
            _ => Err(Error::new(ErrorKind::Canceled, "no reply")),
        }
    }

    /// Sends a command of the handle's own, with the handle's timeout.
    pub(super) async fn ask(&self, command: Command) -> Result<Reply, RedisError> {
        self.send(command, Instant::now() + self.timeout).await
    }

    pub(super) async fn ping(&self) -> Result<(), RedisError> {
        self.ask(Command::new("PING")).await.map(drop)
    }

    /// The server's clock, with the moments of question and answer.
    pub(super) async fn time(&self) -> Result<(Instant, Instant, i64), RedisError> {
        let asked = Instant::now();
        let reply = self.ask(Command::new("TIME")).await?;
        let micros = micros(reply).ok_or(RedisError::Reply { command: "TIME" })?;
        Ok((asked, Instant::now(), micros))
    }

    pub(super) async fn server_time(&self) -> Result<ServerTime, RedisError> {
        let (asked, answered, micros) = self.time().await?;
        Ok(ServerTime::new(asked, answered, micros))
    }

    pub(super) fn messages(&self) -> broadcast::Receiver<Message> {
        self.client.message_rx()
    }

    /// Subscribes, and waits until the server has done so.
    pub(super) async fn subscribe(&self, channel: &str) -> Result<(), RedisError> {
        self.client
            .subscribe(channel)
            .await
            .map_err(|error| RedisError::from_driver(error, self.timeout))?;
        // The driver returns once SUBSCRIBE is written. Replies come in order,
        // so the one to PING says that the subscription stands.
        self.ping().await
    }

    pub(super) async fn quit(&self) {
        if let Err(error) = self.client.quit().await {
            tracing::debug!(%error, "closing the connection to redis");
        }
    }

    /// Notes a command without a reply that is still in flight. False if the
    /// connection is gone, and the command with it.
    pub(super) fn abandon(&self) -> bool {
        match &mut *self.abandoned() {
            Some(count) => {
                *count += 1;
                true
            }
            None => false,
        }
    }

    /// How many commands without a reply are in flight, or were until now.
    pub(super) fn in_flight(&self) -> usize {
        self.abandoned().unwrap_or(0)
    }

    /// Notes that `answered` of them are not any more.
    pub(super) fn settle(&self, answered: usize) {
        if let Some(count) = &mut *self.abandoned() {
            *count = count.saturating_sub(answered);
        }
    }

    /// Notes that the connection is gone; tells how many were in flight.
    pub(super) fn end(&self) -> usize {
        self.cut();
        self.abandoned().take().unwrap_or(0)
    }

    /// Breaks the connection.
    pub(super) fn cut(&self) {
        self.task.abort();
    }

    fn abandoned(&self) -> MutexGuard<'_, Option<usize>> {
        // Nothing panics while holding it.
        self.abandoned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.cut();
    }
}

fn connection(config: &RedisConfig) -> ConnectionConfig {
    ConnectionConfig {
        connection_timeout: config.connect_timeout,
        internal_command_timeout: config.connect_timeout,
        max_command_attempts: 1,
        // The semaphore bounds what is in flight; this must not bound it further.
        max_command_buffer_len: config.in_flight.saturating_mul(2),
        unresponsive: UnresponsiveConfig::default(),
        tcp: TcpConfig {
            nodelay: Some(true),
            ..TcpConfig::default()
        },
        ..ConnectionConfig::default()
    }
}

fn values(args: Vec<Arg>) -> Vec<Value> {
    args.into_iter().map(Value::from).collect()
}

/// Tells the server's errors from the driver's own, which come alike.
fn answered(answer: Result<Value, Error>) -> Result<Answer, Error> {
    match answer {
        Err(error) if RedisError::is_of_server(&error) => Ok(Err(error)),
        answer => answer.map(Ok),
    }
}

fn word(name: &'static str) -> CustomCommand {
    // Where it goes is decided already; the driver need not hash the key.
    CustomCommand::new_static(name, ClusterHash::Custom(0), false)
}

fn micros(time: Reply) -> Option<i64> {
    let [seconds, micros] = <[Reply; 2]>::try_from(time.into_array()?).ok()?;
    let number = |reply: Reply| -> Option<i64> {
        std::str::from_utf8(&reply.into_bytes()?).ok()?.parse().ok()
    };
    number(seconds)?
        .checked_mul(1_000_000)?
        .checked_add(number(micros)?)
}

/// Tells all who wait when the driver's task has ended, and why.
fn watch_over(running: ConnectHandle) -> watch::Receiver<Option<Error>> {
    let (tell, broken) = watch::channel(None);
    tokio::spawn(async move {
        let cause = match running.await {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => closed(),
        };
        tell.send_replace(Some(cause));
    });
    broken
}

fn closed() -> Error {
    Error::new(ErrorKind::Canceled, "the connection was closed")
}
