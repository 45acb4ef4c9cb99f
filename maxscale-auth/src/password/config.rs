use std::num::NonZeroUsize;
use std::thread;
use std::time::Duration;

use maxscale_core::meter::{self, Meter};

use super::cost::HashCost;

/// How many passwords are hashed at once, at what cost, and how long others wait.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PasswordPoolConfig {
    /// Hashes at once, each on a thread of its own. Default: half of the processors,
    /// so that requests which check no password go on.
    pub threads: usize,
    /// The longest wait for a thread. Default: 2 s.
    pub wait: Duration,
    /// How many wait at most. Default: 256, about what two threads do in 3 s.
    pub queue: usize,
    /// What a new hash costs. Default: [`HashCost::OWASP`].
    pub cost: HashCost,
    /// Where it is counted. Default: [nowhere](meter::nowhere).
    pub meter: Meter,
}

// === impl PasswordPoolConfig ===

impl Default for PasswordPoolConfig {
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            threads: processors.div_ceil(2),
            wait: Duration::from_secs(2),
            queue: 256,
            cost: HashCost::OWASP,
            meter: meter::nowhere(),
        }
    }
}
