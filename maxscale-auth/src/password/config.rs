use std::num::NonZeroUsize;
use std::thread;
use std::time::Duration;

use maxscale_core::meter::{self, Meter};

use super::cost::HashCost;
use super::policy::PasswordPolicy;

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
    /// Which new passwords are taken. Default: [`PasswordPolicy::new`].
    pub policy: PasswordPolicy,
    /// What older hashes there are, as the cost of most of them. With it the answer
    /// about nobody takes as long as the slowest hash that is stored. Default: none.
    #[cfg(feature = "bcrypt")]
    pub older: Option<OlderHashes>,
    /// Where it is counted. Default: [nowhere](meter::nowhere).
    pub meter: Meter,
}

/// The hashes by bcrypt that an older system left.
#[cfg(feature = "bcrypt")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OlderHashes {
    /// The cost of the dearest kind of them, as a power of two: 4 to 14.
    pub cost: u32,
    /// Whether some are [wrapped](super::PasswordPool::wrap).
    pub wrapped: bool,
}

// === impl OlderHashes ===

#[cfg(feature = "bcrypt")]
impl OlderHashes {
    /// Hashes by bcrypt of this cost, none of them wrapped.
    pub const fn bcrypt(cost: u32) -> Self {
        Self {
            cost,
            wrapped: false,
        }
    }

    /// Some or all of them are wrapped.
    #[must_use]
    pub const fn wrapped(self) -> Self {
        Self {
            wrapped: true,
            ..self
        }
    }
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
            policy: PasswordPolicy::new(),
            #[cfg(feature = "bcrypt")]
            older: None,
            meter: meter::nowhere(),
        }
    }
}
