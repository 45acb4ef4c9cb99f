//! The connections to one server, kept as long as they are known to be well.
//!
//! sqlx's own pool asks each connection that it gets back for a sign of life,
//! a round trip in which nobody else can have it. Here whoever gives a
//! connection back says in what state it is, and only a doubtful one is asked.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Error};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::budget::Budget;
use super::connect::Connector;
use super::{Announcements, Lookout, Pooler, check};
use crate::database::pulse::Pulse;
use crate::database::{DatabaseOptions, Lane, Usage};

/// A connection that was silent for longer is asked for a sign of life before it is used.
/// No server is started anew in less.
const SILENT_UNASKED: Duration = Duration::from_millis(100);

/// A server that hangs gives no sign of life in this time.
const LIFE_SIGN: Duration = Duration::from_secs(1);

/// No connection grows older, as what a server keeps for it grows.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// At most so many connections, made when first used. Cheap to clone.
///
/// Requests and background work have places of their own, so that neither can
/// take the other's; what idles serves both.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Inner>);

pub(super) struct Inner {
    connect: Connector,
    pooler: Pooler,
    acquire_timeout: Duration,
    idle_timeout: Duration,
    check_timeout: Duration,
    requests: Places,
    background: Places,
    idle: Mutex<Idle>,
    budget: Budget,
    pulse: Arc<Pulse>,
}

struct Places {
    size: u32,
    free: Arc<Semaphore>,
}

#[derive(Default)]
struct Idle {
    /// The one used last is the last, and used next.
    kept: Vec<Live>,
    /// Whether a task closes what idles for too long.
    watched: bool,
    /// Whether the budget knows that something may idle here.
    listed: bool,
    closed: bool,
}

struct Live {
    conn: PgConnection,
    made: Instant,
    /// When the server last gave an answer.
    heard: Instant,
    /// Its place in the budget of all pools.
    _share: OwnedSemaphorePermit,
}

/// A connection and its place in the pool. Unless told how it is left, it is closed.
pub(crate) struct Pooled {
    live: Option<Live>,
    left: Left,
    place: Option<OwnedSemaphorePermit>,
    pool: Arc<Inner>,
}

/// The state in which a connection is given back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Left {
    /// Its last statement was answered, and no transaction is open.
    Clean,
    /// Something else may wait to be read, or to be sent.
    Unsure,
    /// Nobody may use it again.
    Spent,
}

// === impl Pool ===

impl Pool {
    pub(super) fn new(
        connect: Connector,
        pooler: Pooler,
        options: &DatabaseOptions,
        budget: Budget,
        pulse: Arc<Pulse>,
    ) -> Self {
        Self(Arc::new(Inner {
            connect,
            pooler,
            acquire_timeout: options.acquire_timeout,
            idle_timeout: options.idle_timeout,
            check_timeout: options.check_timeout,
            requests: Places::new(options.connections),
            background: Places::new(options.background),
            idle: Mutex::default(),
            budget,
            pulse,
        }))
    }

    /// Another pool to the same server, with one connection for background work.
    pub(crate) fn apart(&self) -> Self {
        let Inner {
            connect,
            pooler,
            acquire_timeout,
            idle_timeout,
            budget,
            check_timeout,
            pulse,
            ..
        } = &*self.0;
        let check = check::of(connect.clone(), *check_timeout);
        Self(Arc::new(Inner {
            connect: connect.clone(),
            pooler: *pooler,
            acquire_timeout: *acquire_timeout,
            idle_timeout: *idle_timeout,
            check_timeout: *check_timeout,
            requests: Places::new(0),
            background: Places::new(1),
            idle: Mutex::default(),
            budget: budget.clone(),
            pulse: pulse.apart(check),
        }))
    }

    /// What stands before the server.
    pub(crate) fn pooler(&self) -> Pooler {
        self.0.pooler
    }

    /// Whether the server answers.
    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.0.pulse
    }

    /// A connection that has just been made, or heard of.
    pub(crate) async fn acquire(&self, lane: Lane) -> Result<Pooled, Error> {
        let end = Instant::now() + self.0.acquire_timeout;
        let places = &self.0.places(lane).free;
        let place = match places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(_) => (timeout_at(end, places.clone().acquire_owned()).await)
                .map_err(|_| Error::PoolTimedOut)?
                .map_err(|_| Error::PoolClosed)?,
        };
        let live = match self.0.take()? {
            Some(live) if live.heard.elapsed() < SILENT_UNASKED => live,
            silent => {
                (timeout_at(end, self.0.ready(silent)).await).map_err(|_| Error::PoolTimedOut)??
            }
        };
        Ok(Pooled {
            live: Some(live),
            left: Left::Spent,
            place: Some(place),
            pool: self.0.clone(),
        })
    }

    /// How the places of `lane` are used. What idles serves both, and is told of requests.
    pub(crate) fn usage(&self, lane: Lane) -> Usage {
        let places = self.0.places(lane);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let idle = || count(self.0.idle().kept.len());
        Usage {
            used: (places.size).saturating_sub(count(places.free.available_permits())),
            idle: (lane == Lane::Requests).then(idle),
            most: places.size,
        }
    }

    /// Connects once and leaves; says why it could not.
    pub(crate) async fn reach(&self) -> Result<(), Error> {
        let connected = async { self.0.connect.connect().await?.close().await };
        let done = timeout(self.0.acquire_timeout, connected).await;
        done.unwrap_or(Err(Error::PoolTimedOut))
    }

    /// Looks at the server, past this pool.
    pub(crate) fn lookout(&self, limit: Duration) -> Lookout {
        Lookout::new(self.0.connect.clone(), limit)
    }

    /// What is announced on `channel`; None where a pooler stands in between.
    pub(crate) async fn announcements(
        &self,
        channel: &str,
    ) -> Result<Option<Announcements>, Error> {
        if self.0.pooler != Pooler::None {
            return Ok(None);
        }
        let on = Announcements::on(channel, &self.0.connect);
        on.await.map(Some)
    }

    /// Refuses everybody from now on; returns once every connection is back and closed.
    pub(crate) async fn close(&self) {
        self.0.pulse.close();
        let kept = {
            let mut idle = self.0.idle();
            idle.closed = true;
            std::mem::take(&mut idle.kept)
        };
        for live in kept {
            // What cannot be told goodbye is gone all the same.
            let _ = timeout(LIFE_SIGN, live.conn.close()).await;
        }
        for places in [&self.0.requests, &self.0.background] {
            let _all = places.free.acquire_many(places.size).await;
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What it connects with has a password.
        f.debug_struct("Pool")
            .field("size", &self.0.requests.size)
            .finish_non_exhaustive()
    }
}

// === impl Places ===

impl Places {
    fn new(size: u32) -> Self {
        let free = Arc::new(Semaphore::new(size as usize));
        Self { size, free }
    }
}

// === impl Inner ===

impl Inner {
    const fn places(&self, lane: Lane) -> &Places {
        match lane {
            Lane::Requests => &self.requests,
            Lane::Background => &self.background,
        }
    }

    /// Since when the connection has idled that is used last of all.
    pub(super) fn idles_since(&self) -> Option<Instant> {
        self.idle().kept.first().map(|live| live.heard)
    }

    /// Closes the connection that is used last of all; another pool needs its share.
    pub(super) fn close_one(&self) {
        let mut idle = self.idle();
        if !idle.kept.is_empty() {
            idle.kept.remove(0);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        // Nothing panics while it is held.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection used last of those that idle.
    fn take(&self) -> Result<Option<Live>, Error> {
        let mut idle = self.idle();
        if idle.closed {
            return Err(Error::PoolClosed);
        }
        Ok(idle.kept.pop())
    }

    /// A silent connection that gives a sign of life, or a new one.
    async fn ready(self: &Arc<Self>, silent: Option<Live>) -> Result<Live, Error> {
        if let Some(mut live) = silent {
            // Half the time is left for a new one.
            let asked = timeout(self.acquire_timeout / 2, live.conn.ping());
            if matches!(asked.await, Ok(Ok(()))) {
                live.heard = Instant::now();
                return Ok(live);
            }
            // The others led to the same place, so nobody needs to find out for each.
            let all = std::mem::take(&mut self.idle().kept);
            drop(all);
        }
        if !std::mem::replace(&mut self.idle().listed, true) {
            self.budget.list(Arc::downgrade(self));
        }
        let share = self.budget.share().await?;
        let mut pause = Duration::from_millis(10);
        loop {
            match self.connect.connect().await {
                Ok(conn) => return Ok(Live::new(conn, share)),
                // It starts up, or has no place just now.
                Err(Error::Database(error)) if error.is_transient_in_connect_phase() => {
                    sleep(pause).await;
                    pause = (pause * 2).min(self.acquire_timeout / 5);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn keep(self: &Arc<Self>, live: Live) {
        let mut idle = self.idle();
        if idle.closed || live.made.elapsed() > LIFETIME || self.budget.is_wanted() {
            return;
        }
        if !idle.watched {
            // Outside a runtime nobody could close it in time.
            let Ok(runtime) = Handle::try_current() else {
                return;
            };
            idle.watched = true;
            runtime.spawn(watch(Arc::downgrade(self), self.idle_timeout));
        }
        idle.kept.push(live);
    }
}

/// Closes what idles for too long; ends when nothing idles.
async fn watch(pool: Weak<Inner>, idle_timeout: Duration) {
    let every = (idle_timeout / 2).max(Duration::from_millis(10));
    loop {
        sleep(every).await;
        let Some(pool) = pool.upgrade() else {
            return;
        };
        let mut idle = pool.idle();
        idle.kept.retain(|live| live.heard.elapsed() < idle_timeout);
        if idle.kept.is_empty() {
            idle.watched = false;
            return;
        }
    }
}

// === impl Live ===

impl Live {
    fn new(conn: PgConnection, share: OwnedSemaphorePermit) -> Self {
        let now = Instant::now();
        Self {
            conn,
            made: now,
            heard: now,
            _share: share,
        }
    }
}

// === impl Pooled ===

const THERE: &str = "a connection is taken out only when its place is given back";

impl Pooled {
    /// What stands before the server.
    pub(super) fn pooler(&self) -> Pooler {
        self.pool.pooler
    }

    /// An answer has just come.
    pub(crate) fn hear(&mut self) {
        self.live.as_mut().expect(THERE).heard = Instant::now();
    }

    /// Says how the connection is left when this is dropped.
    pub(crate) const fn leave(&mut self, left: Left) {
        self.left = left;
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl Deref for Pooled {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.live.as_ref().expect(THERE).conn
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.live.as_mut().expect(THERE).conn
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let Some(mut live) = self.live.take() else {
            return;
        };
        if let Left::Clean = self.left {
            // Its place is given up after this, so who takes that finds it.
            self.pool.keep(live);
            return;
        }
        // Outside a runtime nobody can ask, and it is closed.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let (left, place, pool) = (self.left, self.place.take(), self.pool.clone());
        runtime.spawn(async move {
            if let Left::Unsure = left {
                let asked = timeout(LIFE_SIGN, live.conn.ping()).await;
                if matches!(asked, Ok(Ok(()))) {
                    live.heard = Instant::now();
                    pool.keep(live);
                }
            } else {
                let _ = timeout(LIFE_SIGN, live.conn.close()).await;
            }
            drop(place);
        });
    }
}
