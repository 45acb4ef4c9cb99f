//! A circuit's state as one word, for those who take no lock.

use crate::control::Phase;

/// What is done with a call, and in which era it then ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gate {
    pub(super) era: u32,
    pub(super) position: Position,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// Closed, and no call has failed since the last success.
    Clean,
    /// Closed.
    Soiled,
    Open,
    HalfOpen,
    /// By somebody, whatever happens.
    HeldOpen,
    HeldClosed,
}

// === impl Gate ===

impl Gate {
    pub(super) const fn to_word(self) -> u64 {
        (self.era as u64) << 8 | self.position as u64
    }

    #[expect(clippy::cast_possible_truncation, reason = "an era has 32 bits")]
    pub(super) const fn from_word(word: u64) -> Self {
        let position = match word & 0xff {
            0 => Position::Clean,
            1 => Position::Soiled,
            2 => Position::Open,
            3 => Position::HalfOpen,
            4 => Position::HeldOpen,
            _ => Position::HeldClosed,
        };
        Self {
            era: (word >> 8) as u32,
            position,
        }
    }
}

// === impl Position ===

impl Position {
    pub(super) const fn phase(self) -> Phase {
        match self {
            Self::Clean | Self::Soiled | Self::HeldClosed => Phase::Closed,
            Self::Open | Self::HeldOpen => Phase::Open,
            Self::HalfOpen => Phase::HalfOpen,
        }
    }

    pub(super) const fn is_closed(self) -> bool {
        matches!(self.phase(), Phase::Closed)
    }

    pub(super) const fn is_held(self) -> bool {
        matches!(self, Self::HeldOpen | Self::HeldClosed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gate_is_read_as_it_was_written() {
        let positions = [
            Position::Clean,
            Position::Soiled,
            Position::Open,
            Position::HalfOpen,
            Position::HeldOpen,
            Position::HeldClosed,
        ];
        for (era, position) in [0, 1, u32::MAX]
            .into_iter()
            .flat_map(|era| positions.map(|it| (era, it)))
        {
            let gate = Gate { era, position };
            assert_eq!(Gate::from_word(gate.to_word()), gate);
        }
    }
}
