use bytes::Bytes;
use fred::types::Message;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::Redis;
use super::address::Address;
use super::board::News;
use super::fleet::Fleet;
use super::link::Link;
use super::pace::{self, HEARTBEAT};

/// How many events may wait for a slow reader before the connection's own
/// buffer fills.
const WAITING: usize = 256;

/// What happened on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a reader must decide what a gap means to it"
)]
pub enum Event {
    /// A message.
    Message(Bytes),
    /// Messages may have been lost: the connection broke, the reader was too
    /// slow, or a server of the cluster, which passes them on, is gone.
    Gap,
    /// Listening from now on: the first time, and after each broken connection.
    /// What was published before it may be lost.
    Reconnected,
}

/// Listens on one channel until it is dropped, or its handle is closed.
///
/// No message is lost without an [`Event::Gap`] after it. Before the first
/// [`Event::Reconnected`] nothing is heard.
///
/// In a cluster the servers pass messages on to each other. If that alone
/// fails, while each of them still answers this process, nobody can tell.
#[derive(Debug)]
pub struct Subscription {
    events: mpsc::Receiver<Event>,
    task: JoinHandle<()>,
}

// === impl Subscription ===

impl Subscription {
    pub(super) fn start(redis: Redis, channel: String) -> Self {
        let (send, events) = mpsc::channel(WAITING);
        let task = tokio::spawn(async move {
            // `Err`: nobody reads any more.
            let _ = listen(redis.fleet(), &channel, &send).await;
        });
        Self { events, task }
    }

    /// The next event; `None` once the handle is closed, or the runtime shuts
    /// down. Cancel-safe.
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

/// Where one listens, and what has to be known of the other servers.
struct Post {
    address: Address,
    news: watch::Receiver<News>,
}

async fn listen(fleet: &Fleet, channel: &str, events: &mpsc::Sender<Event>) -> Result<(), Unread> {
    let mut news = fleet.board.news();
    let mut attempt = 0;
    while !news.borrow().closed {
        attempt = match listen_once(fleet, channel, events).await? {
            true => 1,
            false => attempt + 1,
        };
        tokio::select! {
            () = sleep(pace::reconnect(attempt)) => {}
            // There may be another server to listen at.
            _ = news.changed() => {}
        }
    }
    Ok(())
}

/// Listens until the connection breaks. False if it never stood.
async fn listen_once(
    fleet: &Fleet,
    channel: &str,
    events: &mpsc::Sender<Event>,
) -> Result<bool, Unread> {
    // Read before connecting, so that nothing is missed from then on.
    let mut news = fleet.board.news();
    news.mark_unchanged();
    let Some(address) = fleet.listener() else {
        return Ok(false);
    };
    let Ok(link) = Link::for_messages(&fleet.config, &address).await else {
        return Ok(false);
    };
    let messages = link.messages();
    if link.subscribe(channel).await.is_err() {
        return Ok(false);
    }
    events.send(Event::Reconnected).await?;
    let post = Post { address, news };
    relay(fleet, post, &link, messages, events).await?;
    events.send(Event::Gap).await?;
    Ok(true)
}

async fn relay(
    fleet: &Fleet,
    mut post: Post,
    link: &Link,
    mut messages: broadcast::Receiver<Message>,
    events: &mpsc::Sender<Event>,
) -> Result<(), Unread> {
    let silence = silence(link);
    tokio::pin!(silence);
    let mut losses = post.news.borrow().losses;
    loop {
        tokio::select! {
            biased;
            message = messages.recv() => match message {
                Ok(message) => events.send(event(message)).await?,
                Err(RecvError::Lagged(_)) => events.send(Event::Gap).await?,
                Err(RecvError::Closed) => return Ok(()),
            },
            changed = post.news.changed() => {
                let news = *post.news.borrow_and_update();
                if changed.is_err() || news.closed || !fleet.serves(&post.address) {
                    break;
                }
                if std::mem::replace(&mut losses, news.losses) != news.losses {
                    events.send(Event::Gap).await?;
                }
            }
            _ = link.broken() => break,
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
