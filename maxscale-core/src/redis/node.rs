//! One server: its connection, its breaker, and the task that keeps both.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::address::Address;
use super::board::Board;
use super::command::Command;
use super::config::{Kind, RedisConfig};
use super::connected::Connected;
use super::fitness::{self, Info};
use super::link::Link;
use super::metronome::Metronome;
use super::pace::{self, HEARTBEAT};
use super::{Arg, Lineage, RedisError, Reply, Unfit};
use crate::Chain;
use crate::control::Breaker;

/// A connection that was silent for so long is given up. Until then a server
/// that only paused keeps its connection.
const GIVE_UP: Duration = Duration::from_secs(2);

/// What callers and the background task of a server share.
#[derive(Debug)]
pub(super) struct Node {
    config: Arc<RedisConfig>,
    pub(super) address: Address,
    board: Arc<Board>,
    connected: ArcSwapOption<Connected>,
    in_flight: Semaphore,
    metronome: Metronome,
    health: Mutex<Health>,
    up: watch::Sender<bool>,
    /// Probe now.
    probe: Notify,
    /// Whether the log told that the server may evict what it should keep.
    warned: AtomicBool,
}

#[derive(Debug)]
struct Health {
    breaker: Breaker,
    unfit: Option<Unfit>,
    /// What the log said last.
    said: Option<Said>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Up,
    Down,
}

/// A node whose background task ends with it.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) node: Arc<Node>,
    task: JoinHandle<()>,
}

/// One command on its way. Dropped without an answer, its permit is kept back
/// until the server has answered all the same, or the connection is gone.
struct Flight<'a> {
    node: &'a Node,
    connected: &'a Connected,
    permit: Option<SemaphorePermit<'a>>,
}

// === impl Running ===

impl Running {
    pub(super) fn start(config: Arc<RedisConfig>, address: Address, board: Arc<Board>) -> Self {
        let node = Arc::new(Node::new(config, address, board));
        let kept = node.clone();
        let task = tokio::spawn(async move {
            tokio::join!(kept.keep_up(), kept.metronome.beat(kept.config.timeout));
        });
        Self { node, task }
    }

    pub(super) async fn close(&self) {
        self.task.abort();
        self.node.close().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Node ===

impl Node {
    fn new(config: Arc<RedisConfig>, address: Address, board: Arc<Board>) -> Self {
        Self {
            address,
            board,
            connected: ArcSwapOption::empty(),
            in_flight: Semaphore::new(config.in_flight),
            metronome: Metronome::default(),
            health: Mutex::new(Health {
                breaker: Breaker::new(config.breaker),
                unfit: None,
                said: None,
            }),
            up: watch::Sender::new(false),
            probe: Notify::new(),
            warned: AtomicBool::new(false),
            config,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    pub(super) fn watch_up(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    pub(super) fn unfit(&self) -> Option<Unfit> {
        self.health().unfit.clone()
    }

    /// Sends a command once and waits for its reply until `end`.
    pub(super) async fn attempt(
        &self,
        mut command: Command,
        end: Instant,
    ) -> Result<Reply, RedisError> {
        let permit = match self.in_flight.try_acquire() {
            Ok(permit) => permit,
            Err(_) => self.wait_for_permit(end).await?,
        };
        // It may have gone down while this command waited.
        let connected = self.connected()?;
        self.metronome.note();
        if command.tells_lineage {
            let lineage = connected.lineage.get().to_be_bytes();
            command = command.arg(lineage.to_vec());
        }
        if command.by_deadline {
            command = command.arg(Arg::Int(connected.time.at(end)));
        }
        let mut flight = Flight {
            node: self,
            connected: &connected,
            permit: Some(permit),
        };
        if let Some(witness) = &command.witness {
            witness.note(connected.lineage);
        }
        let next = command.next.take();
        let mut reply = connected.link.send(command, end).await;
        let mut silence = None;
        if let (Ok(first), Some(next)) = (&mut reply, next) {
            let second = connected.link.send(*next, end).await;
            let second = second.unwrap_or_else(|error| {
                silence = Some(error).filter(RedisError::is_silence);
                Reply::Nil
            });
            *first = Reply::Array(vec![std::mem::replace(first, Reply::Nil), second]);
        }
        if silence.is_none() && !matches!(&reply, Err(error) if error.is_silence()) {
            flight.lands();
        }
        drop(flight);
        match silence {
            Some(error) => self.note(&connected, Err(&error)),
            None => self.note(&connected, reply.as_ref()),
        }
        reply
    }

    /// Sends reads by a connection of their own. `None` if it failed: what that says of
    /// the server is for the common connection to find out.
    pub(super) async fn talk(
        &self,
        commands: &[Command],
    ) -> Option<Vec<Result<(Reply, Lineage), RedisError>>> {
        let limit = self.config.timeout;
        let end = Instant::now() + limit;
        let connected = self.connected().ok()?;
        let _permit = self.wait_for_permit(end).await.ok()?;
        self.metronome.note();
        let replies = timeout_at(end, connected.talk(&self.config, &self.address, commands)).await;
        let replies = match replies {
            Ok(Ok(replies)) => replies,
            Ok(Err(error)) => {
                tracing::debug!(error = %Chain(&error), "a connection to redis failed");
                return None;
            }
            Err(_) => {
                self.note(&connected, Err(&RedisError::Timeout { limit }));
                let late = |_| Err(RedisError::Timeout { limit });
                return Some(commands.iter().map(late).collect());
            }
        };
        let telling = replies.iter().find(|it| it.is_err());
        if let Some(reply) = telling.or(replies.first()) {
            self.note(&connected, reply.as_ref());
        }
        let lineage = connected.lineage;
        let replies = replies.into_iter().map(|it| it.map(|it| (it, lineage)));
        Some(replies.collect())
    }

    async fn wait_for_permit(&self, end: Instant) -> Result<SemaphorePermit<'_>, RedisError> {
        self.connected()?;
        timeout_at(end, self.in_flight.acquire())
            .await
            .map_err(|_| RedisError::Busy)?
            .map_err(|_| RedisError::Down)
    }

    async fn close(&self) {
        self.in_flight.close();
        self.up.send_replace(false);
        if let Some(connected) = self.connected.swap(None) {
            connected.link.quit().await;
        }
    }

    fn connected(&self) -> Result<Arc<Connected>, RedisError> {
        if self.is_up()
            && let Some(connected) = self.connected.load_full()
        {
            return Ok(connected);
        }
        Err(self.unfit().map_or(RedisError::Down, RedisError::Unfit))
    }

    /// Connects, probes, and connects again, until it is aborted.
    async fn keep_up(&self) {
        let mut attempt = 0;
        loop {
            match self.connect().await {
                Ok(connected) => {
                    let connected = Arc::new(connected);
                    self.connected.store(Some(connected.clone()));
                    let cause = self.watch(&connected, &mut attempt).await;
                    // Down before it is gone: who waits for the next connection
                    // must not take this one for it.
                    self.goes_down(&mut self.health(), &cause);
                    self.connected.store(None);
                    self.in_flight.add_permits(connected.link.end());
                }
                Err(error) => self.goes_down(&mut self.health(), &error),
            }
            attempt += 1;
            sleep(pace::reconnect(attempt)).await;
        }
    }

    async fn connect(&self) -> Result<Connected, RedisError> {
        let link = Link::for_commands(&self.config, &self.address).await?;
        let mut info = Info::read(link.ask(Command::new("INFO")).await?)?;
        if self.config.demand.durable {
            match link.ask(fitness::settings()).await {
                Ok(settings) => info.learn(settings),
                // It may not be asked, and so nothing is known.
                Err(RedisError::Server { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        info.check(self.config.kind, &self.config.demand)?;
        if info.loading {
            return Err(RedisError::Server {
                message: "LOADING it is not done with reading its data".into(),
            });
        }
        if let Some(unfit) = info.evicts(&self.config.demand)
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            let address = self.address.to_string();
            tracing::warn!(address, "{unfit}. In production it would be refused");
        }
        if self.config.kind == Kind::Cluster {
            cluster_is_whole(&link).await?;
        }
        let time = link.server_time().await?;
        Ok(Connected::new(link, time, info.lineage()))
    }

    /// Probes until the connection is broken, or silent for too long.
    async fn watch(&self, connected: &Connected, attempt: &mut u32) -> RedisError {
        let mut answered = Instant::now();
        loop {
            // Replies come in order: with this one all of these have come.
            let before = connected.link.in_flight();
            let pause = match connected.link.time().await {
                Ok((asked, now, micros)) => {
                    connected.time.learn(asked, now, micros);
                    connected.link.settle(before);
                    self.in_flight.add_permits(before);
                    answered = now;
                    *attempt = 0;
                    self.comes_up(&mut self.health());
                    HEARTBEAT
                }
                Err(error) => {
                    self.failed(&mut self.health(), &error);
                    if answered.elapsed() > GIVE_UP {
                        return error;
                    }
                    self.config.breaker.probe_every
                }
            };
            tokio::select! {
                _ = timeout(pause, self.probe.notified()) => {}
                () = connected.renew.notified() => return RedisError::Unfit(Unfit::Replica),
                cause = connected.link.broken() => return cause,
            }
        }
    }

    /// Draws what a reply says of the server, not of the command.
    fn note(&self, connected: &Connected, reply: Result<&Reply, &RedisError>) {
        // Held throughout, so that a connection that follows comes up after
        // the last words of this one, not before.
        let mut health = self.health();
        let current = self.connected.load();
        if !current
            .as_ref()
            .is_some_and(|now| std::ptr::eq(&**now, connected))
        {
            return;
        }
        match reply {
            // Too short a time to blame the server: the probe gives it more.
            Err(RedisError::Timeout { limit }) if *limit < self.config.timeout / 2 => {
                self.probe.notify_one();
            }
            // The driver says it first to those who wait. The next attempt must
            // not be made on what is left.
            Err(error @ (RedisError::Io { .. } | RedisError::Down)) => {
                connected.link.cut();
                self.goes_down(&mut health, error);
            }
            Err(error @ RedisError::Timeout { .. }) => self.failed(&mut health, error),
            Err(error) if error.is_demoted() => connected.renew.notify_one(),
            // An open breaker stays open: the probe alone closes it.
            Ok(_) | Err(RedisError::Server { .. } | RedisError::Late)
                if !health.breaker.is_open() =>
            {
                health.breaker.succeeded();
            }
            _ => {}
        }
    }

    fn failed(&self, health: &mut Health, error: &RedisError) {
        if health.breaker.failed(Instant::now()) {
            self.goes_down(health, error);
            self.probe.notify_one();
        }
    }

    fn comes_up(&self, health: &mut Health) {
        health.breaker.succeeded();
        health.unfit = None;
        if self.up.send_if_modified(|up| !std::mem::replace(up, true)) {
            self.board.change();
            // What was lost after one was told that it went.
            if health.said == Some(Said::Down) {
                self.board.lost_a_server();
            }
        }
        if health.said.replace(Said::Up) != Some(Said::Up) {
            tracing::info!(address = %self.address, "redis is up");
        }
    }

    fn goes_down(&self, health: &mut Health, cause: &RedisError) {
        health.unfit = match cause {
            RedisError::Unfit(unfit) => Some(unfit.clone()),
            _ => None,
        };
        if self.up.send_if_modified(|up| std::mem::replace(up, false)) {
            self.board.change();
            self.board.lost_a_server();
        }
        if health.said.replace(Said::Down) != Some(Said::Down) {
            let cause = Chain(cause).to_string();
            tracing::warn!(address = %self.address, cause, "redis is down");
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        // Nothing panics while holding it, and its state is valid at each step.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server refuses all keys while its cluster lacks others, and the driver
/// closes the connection over each refusal.
async fn cluster_is_whole(link: &Link) -> Result<(), RedisError> {
    let reply = link.ask(Command::new("CLUSTER").arg("INFO")).await?;
    let info = reply.into_bytes().unwrap_or_default();
    if info.starts_with(b"cluster_state:ok") {
        return Ok(());
    }
    Err(RedisError::Server {
        message: "the cluster's state is not ok".into(),
    })
}

// === impl Flight ===

impl Flight<'_> {
    fn lands(&mut self) {
        self.permit = None;
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else {
            return;
        };
        if self.connected.link.abandon() {
            permit.forget();
            if self.node.in_flight.available_permits() == 0 {
                self.node.probe.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_of_a_cluster_takes_messages_with_it_until_it_is_back() {
        let config = RedisConfig::new("redis-cluster://127.0.0.1:1").unwrap();
        let board = Arc::new(Board::new(true));
        let address = Address::new("127.0.0.1", 1);
        let node = Node::new(Arc::new(config), address, board.clone());
        let losses = || board.news().borrow().losses;

        node.comes_up(&mut node.health());
        assert_eq!(losses(), 0, "it was never gone");
        node.goes_down(&mut node.health(), &RedisError::Down);
        assert_eq!(losses(), 1, "what was on its way");
        node.comes_up(&mut node.health());
        assert_eq!(losses(), 2, "what came after that was told");
    }
}
