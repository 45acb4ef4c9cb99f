use argon2::Params;

/// What a hash of argon2id costs: memory, and passes over it, in one lane.
///
/// The default is OWASP's: 19 MiB and two passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashCost {
    memory_kib: u32,
    passes: u32,
}

/// A cost of hashes cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CostError {
    /// The hashes would be cheaper to guess than with any of OWASP's parameters.
    #[error(
        "hashes of {memory_kib} KiB and {passes} passes are too weak; take 19456 KiB and 2 passes"
    )]
    Weak {
        /// Kibibytes of memory.
        memory_kib: u32,
        /// Passes.
        passes: u32,
    },
    /// A hash of this cost would not be checked, because it is beyond the caps.
    #[error("hashes of {memory_kib} KiB and {passes} passes cost more than is ever checked")]
    Beyond {
        /// Kibibytes of memory.
        memory_kib: u32,
        /// Passes.
        passes: u32,
    },
}

/// The most that a stored hash may cost. Whoever can write one hash into the
/// database could stop the service with it otherwise: the format allows 4 TiB.
pub(super) const MOST_MEMORY_KIB: u32 = 256 * 1_024;
pub(super) const MOST_PASSES: u32 = 10;
pub(super) const MOST_LANES: u32 = 16;
/// As a power of two. 1.1 s where argon2id takes 25 ms.
#[cfg(feature = "bcrypt")]
pub(super) const MOST_BCRYPT: u32 = 14;

/// The least memory among OWASP's parameters for argon2id, and the least work.
const LEAST_MEMORY_KIB: u32 = 7_168;
const LEAST_WORK: u64 = 7_168 * 5;

// === impl HashCost ===

impl HashCost {
    /// OWASP's first choice: 19 MiB, two passes.
    pub const OWASP: Self = Self {
        memory_kib: 19_456,
        passes: 2,
    };

    /// `memory_kib` kibibytes, passed over `passes` times.
    ///
    /// # Errors
    ///
    /// Returns [`CostError`] for less than the weakest of OWASP's parameters, and
    /// for more than a stored hash may cost: 256 MiB, 10 passes.
    pub const fn new(memory_kib: u32, passes: u32) -> Result<Self, CostError> {
        let cost = Self { memory_kib, passes };
        if memory_kib < LEAST_MEMORY_KIB || cost.work() < LEAST_WORK {
            return Err(CostError::Weak { memory_kib, passes });
        }
        if memory_kib > MOST_MEMORY_KIB || passes > MOST_PASSES {
            return Err(CostError::Beyond { memory_kib, passes });
        }
        Ok(cost)
    }

    /// Kibibytes of memory that one hash takes.
    pub const fn memory_kib(self) -> u32 {
        self.memory_kib
    }

    /// How often the memory is passed over.
    pub const fn passes(self) -> u32 {
        self.passes
    }

    pub(super) fn params(self) -> Params {
        Params::new(self.memory_kib, self.passes, 1, None).expect("within the caps")
    }

    /// Whether a hash of these parameters took less work. OWASP's parameters trade
    /// memory for passes at about the same product of both.
    pub(super) const fn exceeds(self, stored: &Params) -> bool {
        work(stored.m_cost(), stored.t_cost()) < self.work()
    }

    const fn work(self) -> u64 {
        work(self.memory_kib, self.passes)
    }
}

impl Default for HashCost {
    fn default() -> Self {
        Self::OWASP
    }
}

const fn work(memory_kib: u32, passes: u32) -> u64 {
    memory_kib as u64 * passes as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_owasp_are_taken_and_weaker_ones_are_not() {
        for (memory, passes) in [
            (19_456, 2),
            (47_104, 1),
            (12_288, 3),
            (9_216, 4),
            (7_168, 5),
        ] {
            assert!(HashCost::new(memory, passes).is_ok(), "{memory} {passes}");
        }
        for (memory, passes) in [(19_456, 1), (7_167, 10), (7_168, 4), (0, 0), (8, 10)] {
            let weak = Err(CostError::Weak {
                memory_kib: memory,
                passes,
            });
            assert_eq!(HashCost::new(memory, passes), weak);
        }
        for (memory, passes) in [(MOST_MEMORY_KIB + 1, 1), (19_456, 11), (u32::MAX, u32::MAX)] {
            let beyond = Err(CostError::Beyond {
                memory_kib: memory,
                passes,
            });
            assert_eq!(HashCost::new(memory, passes), beyond);
        }
    }

    #[test]
    fn memory_for_passes_is_no_weakness() {
        let params = |memory, passes| Params::new(memory, passes, 1, None).unwrap();
        assert!(!HashCost::OWASP.exceeds(&params(19_456, 2)));
        assert!(!HashCost::OWASP.exceeds(&params(47_104, 1)));
        assert!(!HashCost::OWASP.exceeds(&params(65_536, 3)));
        assert!(HashCost::OWASP.exceeds(&params(19_456, 1)));
        assert!(HashCost::OWASP.exceeds(&params(8_192, 4)));
    }
}
