use std::future::ready;
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::types::config::{
    ConnectionConfig, Options, PerformanceConfig, TcpConfig, UnresponsiveConfig,
};
use fred::types::{ClusterHash, ConnectHandle, CustomCommand, Message, RespVersion, Value};
use tokio::sync::broadcast;
use tokio::task::AbortHandle;

use super::{Arg, RedisConfig, RedisError, Reply};

/// How many messages may wait to be read before the oldest are lost.
const MESSAGES: usize = 4_096;

const CONNECT_LIMIT: Duration = Duration::from_millis(500);
const HANDSHAKE_LIMIT: Duration = Duration::from_millis(250);

/// One connection, used until it breaks and never mended.
///
/// The driver would mend it and send again what was in flight; here whoever
/// owns the link opens another, so that a command has one attempt.
#[derive(Debug)]
pub(super) struct Link {
    client: Client,
    task: AbortHandle,
    timeout: Duration,
    options: Options,
}

/// Completes when its link is broken.
#[derive(Debug)]
pub(super) struct Broken(ConnectHandle);

// === impl Link ===

impl Link {
    /// Connects for commands (RESP2, whose replies have few forms).
    pub(super) async fn for_commands(config: &RedisConfig) -> Result<(Self, Broken), RedisError> {
        Self::open(config, RespVersion::RESP2).await
    }

    /// Connects for messages (RESP3, which allows PING beside them).
    pub(super) async fn for_messages(config: &RedisConfig) -> Result<(Self, Broken), RedisError> {
        Self::open(config, RespVersion::RESP3).await
    }

    async fn open(
        config: &RedisConfig,
        version: RespVersion,
    ) -> Result<(Self, Broken), RedisError> {
        let mut server = config.server.clone();
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
            Some(ConnectionConfig {
                connection_timeout: CONNECT_LIMIT,
                internal_command_timeout: HANDSHAKE_LIMIT,
                max_command_attempts: 1,
                // The semaphore bounds what callers wait for; this bounds what they
                // gave up waiting for.
                max_command_buffer_len: config.in_flight.saturating_mul(2),
                unresponsive: UnresponsiveConfig::default(),
                tcp: TcpConfig {
                    nodelay: Some(true),
                    ..TcpConfig::default()
                },
                ..ConnectionConfig::default()
            }),
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
        let mut broken = Broken(client.connect());
        let link = Self {
            task: broken.0.abort_handle(),
            client,
            timeout: config.timeout,
            options: Options {
                max_attempts: Some(1),
                timeout: Some(config.timeout),
                fail_fast: true,
                ..Options::default()
            },
        };
        let connected = tokio::select! {
            connected = &mut connected => connected,
            error = broken.cause() => Err(error),
        };
        match connected {
            Ok(()) => Ok((link, broken)),
            Err(error) => Err(RedisError::Io {
                source: Box::new(error),
            }),
        }
    }

    pub(super) async fn command(
        &self,
        name: &'static str,
        args: Vec<Arg>,
    ) -> Result<Reply, RedisError> {
        if self.task.is_finished() {
            return Err(RedisError::Down);
        }
        let command = CustomCommand::new_static(name, ClusterHash::FirstKey, false);
        let args: Vec<Value> = args.into_iter().map(Value::from).collect();
        self.client
            .with_options(&self.options)
            .custom::<Value, Value>(command, args)
            .await
            .map(Reply::from)
            .map_err(|error| RedisError::from_driver(error, self.timeout))
    }

    pub(super) async fn ping(&self) -> Result<(), RedisError> {
        self.command("PING", Vec::new()).await.map(drop)
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
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Broken ===

impl Broken {
    /// Waits until the link is broken, and says why.
    pub(super) async fn wait(&mut self) -> RedisError {
        RedisError::Io {
            source: Box::new(self.cause().await),
        }
    }

    async fn cause(&mut self) -> Error {
        match (&mut self.0).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => Error::new(ErrorKind::Canceled, "the connection was closed"),
        }
    }
}
