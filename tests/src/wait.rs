//! Waiting for a condition instead of for time.

use std::{
    fmt::Debug,
    future::Future,
    net::TcpListener,
    panic::Location,
    process,
    sync::OnceLock,
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::{Instant, sleep, timeout_at};

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

// Below the ports that systems hand to outgoing connections: while a server is
// down, a client that reconnects could otherwise be given the server's port,
// and even connect to itself.
const FIRST_PORT: u16 = 10_240;
const PORTS: u16 = 20_000;

/// What [`eventually`] asks for again until it holds.
pub trait Condition {
    /// What the condition yields once it holds.
    type Value;

    /// The value, or what is still missing.
    ///
    /// # Errors
    ///
    /// Returns a text for the panic of [`eventually`] while it does not hold.
    fn outcome(self) -> Result<Self::Value, String>;
}

impl Condition for bool {
    type Value = ();

    fn outcome(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(|| "still false".to_owned())
    }
}

impl<T> Condition for Option<T> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.ok_or_else(|| "still none".to_owned())
    }
}

impl<T, E: Debug> Condition for Result<T, E> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.map_err(|error| format!("still an error: {error:?}"))
    }
}

/// Asks `condition` until it is true, some, or ok, and returns what it yields.
///
/// # Panics
///
/// Panics when that takes longer than `limit`, naming the caller's line and
/// what the condition said last. One that hangs counts as not holding.
#[track_caller]
pub fn eventually<C: Condition>(
    limit: Duration,
    mut condition: impl AsyncFnMut() -> C,
) -> impl Future<Output = C::Value> {
    let caller = Location::caller();
    async move {
        match within(limit, async || condition().await.outcome()).await {
            Ok(value) => value,
            Err(missing) => panic!("not within {limit:?} at {caller}: {missing}"),
        }
    }
}

/// The condition's value, or after `limit` what was still missing.
pub(crate) async fn within<T>(
    limit: Duration,
    mut condition: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, String> {
    let end = Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    let mut missing = "no answer".to_owned();
    loop {
        match timeout_at(end, condition()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(reason)) => missing = reason,
            // What was said before tells more than that time was up.
            Err(_) => return Err(missing),
        }
        if Instant::now() >= end {
            return Err(missing);
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A TCP port of 127.0.0.1 that nobody listens on, given out only once by
/// this process.
///
/// # Panics
///
/// Panics when no port is free.
pub fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| {
        #[expect(
            clippy::disallowed_methods,
            reason = "a number that differs from run to run"
        )]
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let start = (since.subsec_nanos() ^ process::id()) % u32::from(PORTS);
        AtomicU16::new(u16::try_from(start).unwrap_or_default())
    });
    (0..PORTS)
        .map(|_| FIRST_PORT + next.fetch_add(1, Ordering::Relaxed) % PORTS)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a port between 10240 and 30239 is free")
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use super::within;

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn the_last_reason_is_told_though_a_later_attempt_hangs() {
        let mut attempt = 0;
        let told = within(LIMIT, async || {
            attempt += 1;
            if attempt > 2 {
                pending::<()>().await;
            }
            Err::<(), _>(format!("reason {attempt}"))
        });

        assert_eq!(told.await.unwrap_err(), "reason 2");
    }

    #[tokio::test(start_paused = true)]
    async fn a_condition_that_never_answers_is_told_as_such() {
        let told = within(LIMIT, async || pending::<Result<(), String>>().await);

        assert_eq!(told.await.unwrap_err(), "no answer");
    }
}
