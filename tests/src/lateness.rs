//! How long a machine that is busy keeps a thread waiting.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    watch: Arc<Mutex<Watch>>,
}

#[derive(Debug)]
struct Watch {
    late: Duration,
    /// When the thread is to wake up next.
    due: Instant,
    ended: bool,
}

// === impl Lateness ===

impl Lateness {
    /// Watches from now on, until it is dropped.
    #[expect(clippy::disallowed_methods, reason = "no runtime's thread")]
    pub fn watch() -> Self {
        let watching = Self::due(Instant::now() + TICK);
        let watch = watching.watch.clone();
        thread::spawn(move || {
            while locked(&watch).goes_on() {
                thread::sleep(TICK);
            }
        });
        watching
    }

    fn due(due: Instant) -> Self {
        let watch = Watch {
            late: Duration::ZERO,
            due,
            ended: false,
        };
        Self {
            watch: Arc::new(Mutex::new(watch)),
        }
    }

    /// How much too late the thread was by now, all in all; if it should be awake and
    /// is not, that counts too.
    pub fn total(&self) -> Duration {
        let watch = locked(&self.watch);
        watch.late + watch.overdue()
    }
}

impl Drop for Lateness {
    fn drop(&mut self) {
        locked(&self.watch).ended = true;
    }
}

// === impl Watch ===

impl Watch {
    fn overdue(&self) -> Duration {
        let late = self.due.elapsed();
        if late > USUAL { late } else { Duration::ZERO }
    }

    fn goes_on(&mut self) -> bool {
        self.late += self.overdue();
        self.due = Instant::now() + TICK;
        !self.ended
    }
}

fn locked(watch: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{Duration, Instant, Lateness};

    /// Whoever wakes up before it must not take the machine for idle.
    #[test]
    fn thread_that_has_not_woken_up_yet_is_late_already() {
        let before = Instant::now().checked_sub(Duration::from_secs(1));
        let asleep = Lateness::due(before.unwrap());
        assert!(asleep.total() >= Duration::from_secs(1));
    }
}
