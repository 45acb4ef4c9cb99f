use std::time::Duration;

use bytes::Bytes;
use fred::types::Message;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::RedisConfig;
use super::link::{Broken, Link};
use super::supervisor::jitter;
use crate::control::Backoff;

/// How many events may wait for a slow reader before the connection's own
/// buffer fills.
const WAITING: usize = 256;

const HEARTBEAT: Duration = Duration::from_secs(1);
const RECONNECT: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));

/// What happened on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a reader must decide what a gap means to it"
)]
pub enum Event {
    /// A message.
    Message(Bytes),
    /// Messages may have been lost: the connection broke, or the reader was
    /// too slow.
    Gap,
    /// Listening from now on: the first time, and after each broken connection.
    /// What was published before it may be lost.
    Reconnected,
}

/// Listens on one channel until it is dropped.
///
/// No message is lost without an [`Event::Gap`] after it. Before the first
/// [`Event::Reconnected`] nothing is heard.
#[derive(Debug)]
pub struct Subscription {
    events: mpsc::Receiver<Event>,
    task: JoinHandle<()>,
}

// === impl Subscription ===

impl Subscription {
    pub(super) fn start(config: RedisConfig, channel: String) -> Self {
        let (send, events) = mpsc::channel(WAITING);
        let task = tokio::spawn(listen(config, channel, send));
        Self { events, task }
    }

    /// The next event; `None` once the runtime shuts down. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Nobody reads any more.
struct Unread;

impl<T> From<mpsc::error::SendError<T>> for Unread {
    fn from(_: mpsc::error::SendError<T>) -> Self {
        Self
    }
}

async fn listen(config: RedisConfig, channel: String, events: mpsc::Sender<Event>) {
    let mut attempt = 0;
    loop {
        match listen_once(&config, &channel, &events).await {
            Ok(true) => attempt = 1,
            Ok(false) => attempt += 1,
            Err(Unread) => return,
        }
        sleep(RECONNECT.wait(attempt, jitter())).await;
    }
}

/// Listens until the connection breaks. False if it never stood.
async fn listen_once(
    config: &RedisConfig,
    channel: &str,
    events: &mpsc::Sender<Event>,
) -> Result<bool, Unread> {
    let Ok((link, broken)) = Link::for_messages(config).await else {
        return Ok(false);
    };
    let messages = link.messages();
    if link.subscribe(channel).await.is_err() {
        return Ok(false);
    }
    events.send(Event::Reconnected).await?;
    relay(&link, broken, messages, events).await?;
    events.send(Event::Gap).await?;
    Ok(true)
}

async fn relay(
    link: &Link,
    mut broken: Broken,
    mut messages: broadcast::Receiver<Message>,
    events: &mpsc::Sender<Event>,
) -> Result<(), Unread> {
    let silence = silence(link);
    tokio::pin!(silence);
    loop {
        tokio::select! {
            biased;
            message = messages.recv() => match message {
                Ok(message) => events.send(event(message)).await?,
                Err(RecvError::Lagged(_)) => events.send(Event::Gap).await?,
                Err(RecvError::Closed) => return Ok(()),
            },
            _ = broken.wait() => break,
            () = &mut silence => break,
        }
    }
    // What arrived before the connection broke is still told.
    loop {
        match messages.try_recv() {
            Ok(message) => events.send(event(message)).await?,
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return Ok(()),
        }
    }
}

fn event(message: Message) -> Event {
    Event::Message(message.value.into_bytes().unwrap_or_default())
}

/// Completes when the server did not answer twice: a connection that nobody
/// closed can be dead all the same.
async fn silence(link: &Link) {
    let mut unanswered = 0;
    while unanswered < 2 {
        sleep(HEARTBEAT).await;
        match link.ping().await {
            Ok(()) => unanswered = 0,
            Err(_) => unanswered += 1,
        }
    }
}
