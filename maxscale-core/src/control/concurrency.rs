use std::time::Duration;

/// Bounds of a [`Concurrency`], and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcurrencyRules {
    /// The limit while nothing is known.
    pub initial: u32,
    /// The least limit, at least 2: less leaves nothing to compare.
    pub min: u32,
    /// The highest limit.
    pub max: u32,
}

/// What was seen of the requests that came in one window of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether the limit was lowered, to see what calls take without a queue.
    pub probe: bool,
    /// Requests that came.
    pub came: u64,
    /// Of these, those that found the limit reached, or reached it.
    pub pressed: u64,
    /// Calls that are measured: they began when the window's limit was in force.
    pub begun: u64,
    /// Measured calls that have ended, however they did.
    pub ended: u64,
    /// Measured calls whose time counts.
    pub timed: u64,
    /// What these took together.
    pub took: Duration,
    /// Calls that ended in the window by a timeout, or were sent back.
    pub dropped: u64,
}

/// How many calls an upstream works on at a time, learned from what they take.
///
/// Little's law: of what works on `n` calls at a time, `limit` of them take
/// `base * max(1, limit / n)` in the mean, however times are distributed. `base` is
/// what calls take without a queue. It is measured by windows in which the limit
/// is three quarters of what it is otherwise: if there was a queue, the mean falls
/// by as much, and the next probe begins lower, until it falls no more.
///
/// Windows are numbered by the time of day, so that several processes in front of one
/// upstream probe together: a queue that they share would not become shorter by
/// the probe of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Concurrency {
    rules: ConcurrencyRules,
    limit: f64,
    /// What a call takes without a queue, in seconds.
    base: Option<f64>,
    window: Duration,
    /// One window of so many is a probe.
    every: u64,
    /// Probes since the last that changed how often there are any.
    calm: u32,
    /// Windows with one thing to say: positive, that there is no queue.
    streak: i32,
    /// So many windows with a queue end the time in which it grows fast.
    opening: u32,
    probes: Mean,
    others: Mean,
    pressed: u64,
    came: u64,
}

/// Calls that were timed, until there are enough.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Mean {
    count: u64,
    seconds: f64,
}

/// A mean of fewer calls says too little.
const ENOUGH: u64 = 120;

/// The part of the limit that is in force in a probe.
const PROBE: f64 = 0.75;

/// So much more than it takes is let through, as a queue that has work at hand.
const HEADROOM: f64 = 0.08;

/// The standard deviation of times, in means: what is usual of services.
const SPREAD: f64 = 1.2;

const OFTEN: u64 = 2;
const SELDOM: u64 = 8;

const SHORTEST: Duration = Duration::from_millis(125);
const LONGEST: Duration = Duration::from_secs(8);

// === impl Concurrency ===

impl Concurrency {
    /// Nothing is known yet.
    pub fn new(rules: ConcurrencyRules) -> Self {
        Self {
            rules,
            limit: f64::from(rules.initial),
            base: None,
            window: SHORTEST,
            every: OFTEN,
            calm: 0,
            streak: 0,
            opening: 2,
            probes: Mean::default(),
            others: Mean::default(),
            pressed: 0,
            came: 0,
        }
    }

    /// How many calls may be under way, outside probes.
    pub fn limit(&self) -> u32 {
        whole(self.limit).clamp(self.rules.min, self.rules.max)
    }

    /// How many calls may be under way in a window, at least one.
    pub fn limit_in(&self, probe: bool) -> u32 {
        let limit = self.limit();
        if probe {
            whole(f64::from(limit) * PROBE).min(limit - 1).max(1)
        } else {
            limit
        }
    }

    /// What a call takes without a queue, once that is known.
    pub fn base(&self) -> Option<Duration> {
        self.base.map(Duration::from_secs_f64)
    }

    /// How long a window is: some eight times what calls take.
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// Whether the window of this number, counted in windows since the epoch, is a
    /// probe.
    pub const fn is_probe(&self, number: u64) -> bool {
        number.is_multiple_of(self.every)
    }

    /// What is known after a window, whose calls have had another to end.
    #[must_use]
    pub fn on(mut self, seen: Seen) -> Self {
        if seen.dropped * 10 > seen.timed + seen.dropped {
            return self.fall();
        }
        if seen.ended * 20 < seen.begun * 19 {
            // The slowest are missing: the mean would be too low. Of a stall, in which
            // none ends, nothing follows.
            if seen.ended > 0 {
                self.window = (self.window * 2).min(LONGEST);
            }
            return self;
        }
        if seen.probe {
            self.probes.add(seen);
            if let Some((mean, count)) = self.probes.take() {
                self.probed(mean, count);
            }
            return self;
        }
        self.others.add(seen);
        self.pressed += seen.pressed;
        self.came += seen.came;
        if let (Some(base), Some((mean, count))) = (self.base, self.others.take()) {
            self.measured(mean, mean / base, chance(count));
        }
        self
    }

    /// A tenth fewer, and what was begun is not comparable any more.
    fn fall(mut self) -> Self {
        self.set(self.limit * 0.9);
        (self.probes, self.others) = Default::default();
        (self.pressed, self.came) = (0, 0);
        self
    }

    fn probed(&mut self, mean: f64, count: f64) {
        let Some(base) = self.base else {
            self.base = Some(mean);
            return;
        };
        let ratio = mean / base;
        let part = if (ratio - 1.0).abs() > chance(count).max(0.15) {
            self.every = OFTEN;
            (self.calm, self.streak) = (0, 0);
            if ratio < 1.0 { 0.8 } else { 0.5 }
        } else {
            let part = if self.every == OFTEN { 0.5 } else { 0.1 };
            self.calm += 1;
            if self.calm >= 4 {
                self.calm = 0;
                self.every = (self.every * 2).min(SELDOM);
            }
            part
        };
        self.base = Some(base + (mean - base) * part);
    }

    /// What calls took, in seconds and as a multiple of the base, which may be more by
    /// `chance`.
    fn measured(&mut self, mean: f64, ratio: f64, chance: f64) {
        let (pressed, came) = (self.pressed, self.came);
        (self.pressed, self.came) = (0, 0);
        self.fit_window(mean);
        let wanted = ((1.0 + HEADROOM) / ratio).clamp(0.7, 1.25);
        // Whoever does not ask for more says nothing of what would be too many; a
        // limit that is seldom reached is not what calls wait for.
        let says = match wanted > 1.0 {
            true => pressed > 0,
            false => pressed * 10 > came || ratio > 3.0,
        };
        if !says {
            return;
        }
        let none = ratio < 1.0 + HEADROOM / 2.0;
        self.streak = match ratio {
            _ if none => self.streak.max(0) + 1,
            _ if ratio > 1.0 + HEADROOM * 3.0 => self.streak.min(0) - 1,
            _ => 0,
        };
        if self.streak.abs() >= 4 {
            self.every = OFTEN;
            self.calm = 0;
        }
        // To grow tenfold takes sixteen of these steps, and two that are but chance would
        // end them: then a step is some two in a hundred.
        let queue = ratio > 1.0 + chance.max(0.25);
        if self.streak >= 4 || self.opening > 0 && none {
            self.opening = 2;
        }
        if self.opening > 0 && !queue {
            self.set(self.limit * 1.15);
            return;
        }
        self.opening = self.opening.saturating_sub(1);
        let part = if self.every == OFTEN { 0.6 } else { 0.25 };
        self.set(self.limit * wanted.powf(part));
    }

    /// By steps of two, and not to and fro.
    fn fit_window(&mut self, mean: f64) {
        let window = self.window.as_secs_f64();
        if window < mean * 5.0 {
            self.window = (self.window * 2).min(LONGEST);
        } else if window > mean * 16.0 {
            self.window = (self.window / 2).max(SHORTEST);
        }
    }

    fn set(&mut self, limit: f64) {
        let (min, max) = (self.rules.min.into(), self.rules.max.into());
        self.limit = limit.clamp(min, max);
    }
}

// === impl Mean ===

impl Mean {
    fn add(&mut self, seen: Seen) {
        self.count += seen.timed;
        self.seconds += seen.took.as_secs_f64();
    }

    /// The mean in seconds and of how many calls, if these are enough; it begins anew then.
    fn take(&mut self) -> Option<(f64, f64)> {
        let count = u32::try_from(self.count).unwrap_or(u32::MAX);
        if self.count < ENOUGH {
            return None;
        }
        let (mean, count) = (self.seconds / f64::from(count), f64::from(count));
        *self = Self::default();
        // No clock is so fine, and nothing is divided by zero.
        Some((mean.max(1e-6), count))
    }
}

/// The part by which the mean of so many calls may be off.
fn chance(count: f64) -> f64 {
    2.5 * SPREAD / count.sqrt()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "limits are within the bounds of a u32, and `as` keeps within them"
)]
const fn whole(limit: f64) -> u32 {
    limit.round() as u32
}

#[cfg(test)]
mod tests;
