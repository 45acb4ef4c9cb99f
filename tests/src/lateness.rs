//! How long a machine that is busy keeps a thread waiting.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::time::Instant;

const TICK: Duration = Duration::from_millis(2);

/// What a timer is late on an idle machine too.
const USUAL: Duration = Duration::from_millis(1);

/// A thread that wakes up all the time and adds up how much too late it did.
///
/// A test that says how long something of ours may take adds this to its bound: then a
/// machine that had no time for anybody does not fail it, and the bound can stay what it
/// is for us. It is a thread of its own, so what blocks a test's runtime does not count.
#[derive(Debug)]
pub struct Lateness {
    stop: Arc<AtomicBool>,
    micros: Arc<AtomicU64>,
}

// === impl Lateness ===

impl Lateness {
    /// Watches from now on, until it is dropped.
    #[expect(clippy::disallowed_methods, reason = "no runtime's thread")]
    pub fn watch() -> Self {
        let (stop, micros) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
        let (stopped, total) = (stop.clone(), micros.clone());
        thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let due = Instant::now() + TICK;
                thread::sleep(TICK);
                let late = due.elapsed();
                if late > USUAL {
                    let late = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
                    total.fetch_add(late, Ordering::Relaxed);
                }
            }
        });
        Self { stop, micros }
    }

    /// How much too late the thread was by now, all in all.
    pub fn total(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}

impl Drop for Lateness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
