//! What simulations draw: all of it follows from a seed.

/// How long calls take around their mean.
#[derive(Clone, Copy, Debug)]
pub(super) enum Times {
    Constant,
    Exponential,
    /// Of a sigma of 1: one of a hundred takes six times the mean.
    LogNormal,
}

/// SplitMix64.
pub(super) struct Random(pub(super) u64);

// === impl Times ===

impl Times {
    pub(super) const ALL: [Self; 3] = [Self::Constant, Self::Exponential, Self::LogNormal];

    /// How many times the mean a call takes.
    pub(super) fn draw(self, random: &mut Random) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Exponential => random.exponential(),
            Self::LogNormal => (random.normal() - 0.5).exp(),
        }
    }
}

// === impl Random ===

impl Random {
    /// From 0 to 1, without either.
    pub(super) fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let drawn = u32::try_from((mixed ^ mixed >> 31) >> 32).unwrap();
        (f64::from(drawn) + 0.5) / (f64::from(u32::MAX) + 1.0)
    }

    pub(super) fn exponential(&mut self) -> f64 {
        -self.draw().ln()
    }

    fn normal(&mut self) -> f64 {
        let angle = std::f64::consts::TAU * self.draw();
        (2.0 * self.exponential()).sqrt() * angle.cos()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "spans of a simulation are short"
)]
pub(super) fn micros_of(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}
