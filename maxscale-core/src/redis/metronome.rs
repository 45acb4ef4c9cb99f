//! A timer that is due before the deadline of every command.
//!
//! The runtime wakes the thread that waits for sockets when a timer is set that is due
//! before all others, so that it does not sleep past it. The deadline of a command is
//! such a timer whenever no other command is under way, and it is taken back a moment
//! later: a system call and a thread's wake-up per command, for nothing. While commands
//! are sent, and for a beat after, a timer that is due sooner is always set.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

#[derive(Debug, Default)]
pub(super) struct Metronome {
    /// Whether a command was sent since the last beat.
    used: AtomicBool,
    start: Notify,
}

// === impl Metronome ===

impl Metronome {
    /// Notes that a command is sent.
    pub(super) fn note(&self) {
        // Read first, so that who sends much writes nothing that others read.
        if !self.used.load(Ordering::Relaxed) && !self.used.swap(true, Ordering::Relaxed) {
            self.start.notify_one();
        }
    }

    /// Beats while commands are sent whose deadline is `limit` away, until it is dropped.
    pub(super) async fn beat(&self, limit: Duration) {
        loop {
            self.start.notified().await;
            while self.used.swap(false, Ordering::Relaxed) {
                sleep(limit / 2).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn beat_comes_before_the_deadline_of_whatever_is_sent() {
        let limit = Duration::from_millis(100);
        let metronome = Arc::new(Metronome::default());
        let kept = metronome.clone();
        let beats = tokio::spawn(async move { kept.beat(limit).await });
        for pause in [0, 10, 49, 51, 99, 1_000] {
            sleep(Duration::from_millis(pause)).await;
            metronome.note();
            sleep(limit * 3 / 4).await;
            assert!(!metronome.used.load(Ordering::Relaxed), "{pause}");
        }
        beats.abort();
    }
}
