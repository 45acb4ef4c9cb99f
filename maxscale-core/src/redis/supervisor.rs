use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

use super::link::{Broken, Link};
use super::{Arg, RedisConfig, RedisError, Reply};
use crate::Chain;
use crate::control::{Backoff, Breaker};

/// How often an idle connection is asked for a sign of life.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A connection that was silent for so long is given up. Until then a server
/// that only paused keeps its connection.
const GIVE_UP: Duration = Duration::from_secs(2);

const RECONNECT: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));

/// What a handle and its background task share.
#[derive(Debug)]
pub(super) struct Shared {
    config: RedisConfig,
    link: ArcSwapOption<Link>,
    in_flight: Semaphore,
    health: Mutex<Health>,
    up: watch::Sender<bool>,
    /// The breaker has opened: probe now.
    opened: Notify,
}

#[derive(Debug)]
struct Health {
    breaker: Breaker,
    /// What the log said last.
    said: Option<Said>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Up,
    Down,
}

/// Connects, probes, and connects again, until it is aborted.
pub(super) async fn keep_up(shared: Arc<Shared>) {
    let mut attempt = 0;
    loop {
        let cause = match Link::for_commands(&shared.config).await {
            Ok((link, broken)) => {
                let link = Arc::new(link);
                shared.link.store(Some(link.clone()));
                let cause = shared.watch(&link, broken, &mut attempt).await;
                shared.link.store(None);
                cause
            }
            Err(error) => error,
        };
        shared.goes_down(&cause);
        attempt += 1;
        sleep(RECONNECT.wait(attempt, jitter())).await;
    }
}

/// A draw between 0 and 1 that spreads the reconnects of many processes.
pub(super) fn jitter() -> f64 {
    // Every `RandomState` differs from the one before and between processes.
    let draw = RandomState::new().hash_one(0_u8) >> 32;
    f64::from(u32::try_from(draw).unwrap_or(0)) / f64::from(u32::MAX)
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(config: RedisConfig) -> Self {
        Self {
            link: ArcSwapOption::empty(),
            in_flight: Semaphore::new(config.in_flight),
            health: Mutex::new(Health {
                breaker: Breaker::new(config.breaker),
                said: None,
            }),
            up: watch::Sender::new(false),
            opened: Notify::new(),
            config,
        }
    }

    pub(super) const fn config(&self) -> &RedisConfig {
        &self.config
    }

    pub(super) fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    pub(super) fn watch_up(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    pub(super) async fn command(
        &self,
        name: &'static str,
        args: Vec<Arg>,
    ) -> Result<Reply, RedisError> {
        self.live_link()?;
        let _permit = timeout(self.config.timeout, self.in_flight.acquire())
            .await
            .map_err(|_| RedisError::Busy)?
            .map_err(|_| RedisError::Down)?;
        // It may have gone down while this command waited.
        let link = self.live_link()?;
        let reply = link.command(name, args).await;
        match &reply {
            Err(error) if error.is_silence() => self.failed(error),
            Ok(_) | Err(RedisError::Server { .. }) => self.succeeded(),
            Err(_) => {}
        }
        reply
    }

    pub(super) async fn close(&self) {
        self.in_flight.close();
        self.up.send_replace(false);
        if let Some(link) = self.link.swap(None) {
            link.quit().await;
        }
    }

    fn live_link(&self) -> Result<Arc<Link>, RedisError> {
        if !self.is_up() {
            return Err(RedisError::Down);
        }
        self.link.load_full().ok_or(RedisError::Down)
    }

    /// Probes `link` until it is broken or silent for too long.
    async fn watch(&self, link: &Link, mut broken: Broken, attempt: &mut u32) -> RedisError {
        let mut answered = Instant::now();
        loop {
            let pause = match link.ping().await {
                Ok(()) => {
                    answered = Instant::now();
                    *attempt = 0;
                    self.comes_up();
                    HEARTBEAT
                }
                Err(error) => {
                    self.failed(&error);
                    if answered.elapsed() > GIVE_UP {
                        return error;
                    }
                    self.config.breaker.probe_every
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.opened.notified() => {}
                cause = broken.wait() => return cause,
            }
        }
    }

    /// Notes that the server answered a command. An open breaker stays open:
    /// the probe alone closes it.
    fn succeeded(&self) {
        let mut health = self.health();
        if !health.breaker.is_open() {
            health.breaker.succeeded();
        }
    }

    fn failed(&self, error: &RedisError) {
        let opened = self.health().breaker.failed(Instant::now());
        if opened {
            self.goes_down(error);
            self.opened.notify_one();
        }
    }

    fn comes_up(&self) {
        let mut health = self.health();
        health.breaker.succeeded();
        self.up.send_if_modified(|up| !std::mem::replace(up, true));
        if health.said.replace(Said::Up) != Some(Said::Up) {
            tracing::info!(address = self.config.address(), "redis is up");
        }
    }

    fn goes_down(&self, cause: &RedisError) {
        let mut health = self.health();
        self.up.send_if_modified(|up| std::mem::replace(up, false));
        if health.said.replace(Said::Down) != Some(Said::Down) {
            let cause = Chain(cause).to_string();
            tracing::warn!(address = self.config.address(), cause, "redis is down");
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        // Nothing panics while holding it, and its state is valid at each step.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
