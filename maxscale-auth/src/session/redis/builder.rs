use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use maxscale_core::clock::Clock;
use maxscale_core::redis::Redis;

use super::background;
use super::copies::Copies;
use super::flight::Flights;
use super::pending::Pending;
use super::room::Room;
use super::{Owner, RedisSessions, Shared};
use crate::realm::Realm;
use crate::session::durable::DurableSessions;
use crate::session::map::{SessionMap, SessionMapError, SessionRoute};

/// What [`RedisSessions`] needs; see [`RedisSessions::builder`].
#[derive(Debug)]
#[must_use]
pub struct RedisSessionsBuilder<D> {
    durable: D,
    servers: Vec<Redis>,
    route: Option<SessionRoute>,
    prefix: String,
    realm: Realm,
    clock: Clock,
    reads: usize,
    wait: Duration,
    sweep_every: Duration,
    room: Option<u64>,
}

// === impl RedisSessionsBuilder ===

impl<D: DurableSessions> RedisSessions<D> {
    /// What keys begin with, when nothing else is set.
    pub const DEFAULT_PREFIX: &str = "maxscale";

    /// How many users are read from the rows at once, when nothing else is set.
    pub const DEFAULT_READS: usize = 64;

    /// How long a load waits to read the rows, when nothing else is set.
    pub const DEFAULT_WAIT: Duration = Duration::from_secs(1);

    /// How often the rows are asked what no copy was told, when nothing else is set.
    pub const DEFAULT_SWEEP: Duration = Duration::from_secs(5);

    /// Starts copies of `durable` in `servers`, which are numbered from 0 on. Each may
    /// be a single server, a primary behind sentinels or a cluster.
    pub fn builder(
        durable: D,
        servers: impl IntoIterator<Item = Redis>,
    ) -> RedisSessionsBuilder<D> {
        RedisSessionsBuilder {
            durable,
            servers: servers.into_iter().collect(),
            route: None,
            prefix: Self::DEFAULT_PREFIX.to_owned(),
            realm: Realm::MAIN,
            clock: Clock::system(),
            reads: Self::DEFAULT_READS,
            wait: Self::DEFAULT_WAIT,
            sweep_every: Self::DEFAULT_SWEEP,
            room: None,
        }
    }
}

impl<D: DurableSessions> RedisSessionsBuilder<D> {
    /// Sets which server has whose copy. All processes must have the same.
    ///
    /// Default: [`SessionMap::even`] over the servers.
    pub fn route(mut self, route: SessionRoute) -> Self {
        self.route = Some(route);
        self
    }

    /// Sets what keys begin with.
    ///
    /// Default: [`RedisSessions::DEFAULT_PREFIX`].
    pub fn prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// Sets the realm, which is part of every key.
    ///
    /// Default: [`Realm::MAIN`].
    pub const fn realm(mut self, realm: Realm) -> Self {
        self.realm = realm;
        self
    }

    /// Sets the clock, by which it is known how long a copy may be of use.
    ///
    /// Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how many users are read from the rows at once, at least 1: those that
    /// Redis does not have, and all while it is down.
    ///
    /// Default: [`RedisSessions::DEFAULT_READS`].
    pub const fn reads(mut self, reads: usize) -> Self {
        self.reads = reads;
        self
    }

    /// Sets how long a load waits for that; then it is refused with
    /// [`RedisSessionsError::Busy`](super::RedisSessionsError::Busy).
    ///
    /// Default: [`RedisSessions::DEFAULT_WAIT`].
    pub const fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Sets how often the rows are asked what no copy was told, for processes that
    /// ended between a change and its telling. It is one statement per node.
    ///
    /// Default: [`RedisSessions::DEFAULT_SWEEP`].
    pub const fn sweep_every(mut self, every: Duration) -> Self {
        self.sweep_every = every;
        self
    }

    /// Sets how many keys a server may have, all of them counted, before
    /// [`has_room`](RedisSessions::has_room) says no. It is looked at as often as the
    /// rows are [swept](Self::sweep_every). Of a cluster one server answers for all.
    ///
    /// Default: any number, and no server is asked.
    pub const fn room(mut self, keys: u64) -> Self {
        self.room = Some(keys);
        self
    }

    /// Finishes the store, and begins to tell in the background.
    ///
    /// # Errors
    ///
    /// Returns [`SessionMapError::Server`] if there is no server, or the route names
    /// one that is not there.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn build(self) -> Result<RedisSessions<D>, SessionMapError> {
        let route = self.route.unwrap_or_else(|| {
            let servers = u16::try_from(self.servers.len()).unwrap_or(u16::MAX);
            let servers = NonZeroU16::new(servers).unwrap_or(NonZeroU16::MIN);
            SessionRoute::settled(SessionMap::even(servers))
        });
        let shared = Arc::new(Shared {
            room: Room::new(self.room, self.servers.len()),
            copies: Copies::new(self.servers, route, &self.prefix, self.realm)?,
            durable: self.durable,
            pending: Pending::default(),
            flights: Flights::new(self.reads, self.wait),
            clock: self.clock,
            sweep_every: self.sweep_every,
        });
        let task = tokio::spawn(background::run(shared.clone()));
        let owner = Arc::new(Owner { shared, task });
        Ok(RedisSessions { owner })
    }
}
