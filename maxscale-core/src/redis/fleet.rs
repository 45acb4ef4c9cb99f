//! All servers behind one handle, and which of them has a key.
//!
//! A single server is a fleet of one that never changes. Of a cluster and of
//! sentinels the fleet asks again and again who serves what, and follows.

mod cluster;
mod layout;
mod sentinel;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::address::Address;
use super::board::Board;
use super::command::Command;
use super::config::{Kind, RedisConfig};
use super::node::Running;
use super::{Lineage, RedisError, Reply, Unfit};
use crate::Chain;
use cluster::Redirect;
use layout::{Layout, Map};
use sentinel::Sentinels;

/// How often one asks who serves what while all is well.
const LOOK: Duration = Duration::from_secs(1);

/// And while something is missing. However much happens, not more often.
const LOOK_HARDER: Duration = Duration::from_millis(100);

/// How often a command follows a server that names another one.
const REDIRECTS: u32 = 8;

/// How long a command waits while the slot of its keys is being moved.
const MOVING: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) config: Arc<RedisConfig>,
    pub(super) board: Arc<Board>,
    map: ArcSwap<Map>,
    /// Servers that others named, and that the map did not know then.
    guests: Mutex<HashMap<Address, Arc<Running>>>,
    up: watch::Sender<bool>,
}

// === impl Fleet ===

impl Fleet {
    pub(super) fn new(config: RedisConfig) -> Self {
        let config = Arc::new(config);
        let fleet = Self {
            board: Arc::new(Board::new(config.kind == Kind::Cluster)),
            map: ArcSwap::default(),
            guests: Mutex::default(),
            up: watch::Sender::new(false),
            config,
        };
        if fleet.config.kind == Kind::Single {
            fleet.install(&Layout::one(fleet.config.seeds[0].clone()));
        }
        fleet
    }

    pub(super) fn is_up(&self) -> bool {
        self.map.load().is_up()
    }

    #[cfg(feature = "limit")]
    pub(super) fn is_down(&self) -> bool {
        self.map.load().is_down()
    }

    pub(super) fn watch_up(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    pub(super) fn unfit(&self) -> Option<Unfit> {
        self.map.load().nodes.iter().find_map(|it| it.node.unfit())
    }

    /// Where one may listen. In a cluster one server is as good as another.
    pub(super) fn listener(&self) -> Option<Address> {
        let map = self.map.load();
        map.any().map(|it| it.node.address.clone())
    }

    pub(super) fn serves(&self, address: &Address) -> bool {
        self.map.load().at(address).is_some()
    }

    /// Sends a command until there is a reply or its attempts are used up.
    pub(super) async fn command(&self, command: Command) -> Result<Reply, RedisError> {
        let limit = command.effort.timeout.unwrap_or(self.config.timeout);
        let mut lost = false;
        for _ in 1..command.effort.attempts {
            let end = Instant::now() + limit;
            match self.attempt(command.clone(), end).await {
                Err(error) if error.is_silence() => lost = true,
                // What followed the lost connection is lost as well.
                Err(RedisError::Down) if lost => {}
                reply => return reply,
            }
            self.wait_up(&command, end).await;
        }
        self.attempt(command, Instant::now() + limit).await
    }

    /// Sends reads to the one server, by a connection of their own; `None` if there is
    /// none to be had, or the keys are in several places.
    pub(super) async fn talk(
        &self,
        commands: &[Command],
    ) -> Option<Vec<Result<(Reply, Lineage), RedisError>>> {
        if self.config.kind == Kind::Cluster {
            return None;
        }
        let target = self.map.load().any()?.clone();
        target.node.talk(commands).await
    }

    /// Asks each server for a sign of life.
    pub(super) async fn ping(&self) -> Result<(), RedisError> {
        let map = self.map.load_full();
        if map.nodes.is_empty() {
            return Err(RedisError::Down);
        }
        let end = Instant::now() + self.config.timeout;
        let ping = |it: &Arc<Running>| {
            let node = it.node.clone();
            async move { node.attempt(Command::new("PING"), end).await }
        };
        let replies = join_all(map.nodes.iter().map(ping)).await;
        replies.into_iter().try_for_each(|reply| reply.map(drop))
    }

    pub(super) async fn close(&self) {
        self.board.close();
        let map = self.map.swap(Arc::default());
        self.guests().clear();
        join_all(map.nodes.iter().map(|it| it.close())).await;
        self.up.send_replace(false);
    }

    /// Keeps up with who serves what, until it is aborted.
    pub(super) async fn follow(self: Arc<Self>) {
        // Asking may take long while servers hang, telling does not.
        tokio::join!(self.ask(), self.tell());
    }

    /// Tells whether all is up.
    async fn tell(&self) {
        let mut changes = self.board.changes();
        loop {
            let up = self.is_up();
            self.up
                .send_if_modified(|old| std::mem::replace(old, up) != up);
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn ask(&self) {
        let mut changes = self.board.changes();
        let mut sentinels = Sentinels::new(self.config.clone());
        let mut known = false;
        loop {
            let found = match self.config.kind {
                // There is nobody to ask.
                Kind::Single => return,
                Kind::Cluster => cluster::layout(&self.config, &self.map.load_full()).await,
                Kind::Sentinel => sentinels.layout().await,
            };
            match found {
                Ok(layout) => self.install(&layout),
                Err(cause) if !std::mem::replace(&mut known, true) => {
                    let cause = Chain(&cause).to_string();
                    tracing::warn!(address = self.config.address(), cause, "redis is down");
                }
                // Of servers that were known each tells itself that it is down.
                Err(_) => {}
            }
            known |= !self.map.load().nodes.is_empty();
            sleep(LOOK_HARDER).await;
            if self.is_up() {
                let _ = timeout(LOOK, changes.changed()).await;
            }
        }
    }

    fn install(&self, layout: &Layout) {
        let old = self.map.load_full();
        if *layout != old.layout {
            let map = Map::new(layout, |address| match old.at(address) {
                Some(known) => known.clone(),
                None => self.guest(&mut self.guests(), address),
            });
            self.map.store(Arc::new(map));
            self.board.new_layout();
        }
        // Those that somebody waits for, or that the map has, stay.
        self.guests()
            .retain(|_, guest| Arc::strong_count(guest) > 1);
    }

    fn start(&self, address: &Address) -> Arc<Running> {
        Arc::new(Running::start(
            self.config.clone(),
            address.clone(),
            self.board.clone(),
        ))
    }

    async fn attempt(&self, mut command: Command, end: Instant) -> Result<Reply, RedisError> {
        let mut target = self.target(&command)?;
        if self.config.kind != Kind::Cluster {
            return target.node.attempt(command, end).await;
        }
        let mut redirects = 0;
        loop {
            let reply = target.node.attempt(command.clone(), end).await;
            let Some(redirect) = Redirect::of(&reply, &target.node.address) else {
                return reply;
            };
            let left = end.saturating_duration_since(Instant::now());
            let address = match redirect {
                // The same server, and if it is being given the slot, as one
                // who was sent to it.
                Redirect::Again if left > MOVING => {
                    sleep(MOVING).await;
                    continue;
                }
                _ if left.is_zero() || redirects == REDIRECTS => return reply,
                Redirect::Again => return reply,
                Redirect::Moved(address) => {
                    self.board.change();
                    command.asking = false;
                    address
                }
                // Only of this key: who serves what has not changed yet.
                Redirect::Ask(address) => {
                    command.asking = true;
                    address
                }
            };
            redirects += 1;
            target = self.at(&address).ok_or(RedisError::Down)?;
            let mut up = target.node.watch_up();
            let _ = timeout_at(end, up.wait_for(|up| *up)).await;
        }
    }

    /// The server that has the command's key.
    fn target(&self, command: &Command) -> Result<Arc<Running>, RedisError> {
        let map = self.map.load();
        let found = match command.first_key() {
            Some(key) if map.nodes.len() > 1 => map.of_key(&key),
            _ => map.any(),
        };
        found.cloned().ok_or(RedisError::Down)
    }

    /// The server at an address that another server named; `None` once the
    /// fleet is closed.
    fn at(&self, address: &Address) -> Option<Arc<Running>> {
        if let Some(known) = self.map.load().at(address) {
            return Some(known.clone());
        }
        let mut guests = self.guests();
        // Asked while they are held: to close clears them after it said so.
        let open = !self.board.is_closed();
        open.then(|| self.guest(&mut guests, address))
    }

    fn guest(
        &self,
        guests: &mut HashMap<Address, Arc<Running>>,
        address: &Address,
    ) -> Arc<Running> {
        let guest = guests.entry(address.clone());
        guest.or_insert_with(|| self.start(address)).clone()
    }

    async fn wait_up(&self, command: &Command, end: Instant) {
        if let Ok(target) = self.target(command) {
            let mut up = target.node.watch_up();
            let _ = timeout_at(end, up.wait_for(|up| *up)).await;
        }
    }

    fn guests(&self) -> MutexGuard<'_, HashMap<Address, Arc<Running>>> {
        // Nothing panics while holding it.
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn closed_fleet_connects_to_nobody_that_is_named_late() {
        let config = RedisConfig::new("redis-cluster://127.0.0.1:1").unwrap();
        let fleet = Fleet::new(config);
        let named = Address::new("127.0.0.1", 2);
        assert!(fleet.at(&named).is_some());
        fleet.close().await;
        assert!(fleet.at(&named).is_none());
        assert!(fleet.guests().is_empty());
    }
}
