//! What is wrong at the moment, and waiting accordingly.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::Way;

/// What happens to the bytes of every connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) latency: Duration,
    /// Bytes per second.
    pub(super) rate: Option<u32>,
    pub(super) to_server_held: bool,
    pub(super) to_client_held: bool,
}

/// The faults as one direction of a connection sees them come and go.
#[derive(Debug)]
pub(super) struct Weather {
    faults: watch::Receiver<Faults>,
    way: Way,
}

/// The largest piece read or written at once.
pub(super) const PIECE: usize = 16 * 1024;

/// A throttled direction writes so many times a second.
const BEATS: usize = 50;

// === impl Faults ===

impl Faults {
    fn held(&self, way: Way) -> bool {
        match way {
            Way::ToServer => self.to_server_held,
            Way::ToClient => self.to_client_held,
        }
    }
}

// === impl Weather ===

impl Weather {
    pub(super) fn new(faults: watch::Receiver<Faults>, way: Way) -> Self {
        Self { faults, way }
    }

    /// Waits until nothing is held back.
    pub(super) async fn open(&mut self) {
        let way = self.way;
        // The sender lives as long as the connection that asks.
        let _ = self.faults.wait_for(|faults| !faults.held(way)).await;
    }

    /// Waits until what was read at `read` may be delivered.
    pub(super) async fn due(&mut self, read: Instant) {
        loop {
            self.open().await;
            let due = read + self.faults.borrow_and_update().latency;
            if due <= Instant::now() {
                return;
            }
            // A change is judged anew, a longer delay as well as a healed one.
            tokio::select! {
                () = sleep_until(due) => {}
                _ = self.faults.changed() => {}
            }
        }
    }

    /// How much may be written at once.
    pub(super) fn piece(&self) -> usize {
        let rate = self.faults.borrow().rate;
        rate.map_or(PIECE, |rate| (rate as usize / BEATS).clamp(1, PIECE))
    }

    /// Waits as long as `bytes` take.
    pub(super) async fn pace(&mut self, bytes: usize) {
        let start = Instant::now();
        loop {
            let Some(rate) = self.faults.borrow_and_update().rate else {
                return;
            };
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            let end = start + Duration::from_secs(1) * bytes / rate;
            if end <= Instant::now() {
                return;
            }
            tokio::select! {
                () = sleep_until(end) => {}
                _ = self.faults.changed() => {}
            }
        }
    }
}
