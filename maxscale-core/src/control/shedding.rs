use std::time::Duration;

/// From what delay on load is shed, and how fast it comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SheddingRules {
    /// A window in which everybody waited longer than this has too much load.
    pub target: Duration,
    /// So many requests more are let through a window later, at the least.
    pub step: f64,
}

/// What was seen in one window of time of requests that may be shed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Offered {
    /// How many came of each rank; those of the first rank matter most.
    pub came: [u32; Shedding::RANKS],
    /// How many were given a place.
    pub entered: u32,
    /// What these waited at the least.
    pub least: Option<Duration>,
    /// Whether some found no place in time, or too many others that waited for one.
    pub full: bool,
}

/// Which requests are shed: those of the ranks from [`cut`](Self::cut) on.
///
/// As in CoDel (RFC 8289) there is too much load where even the least delay of a window
/// is too long: a burst that is worked off within the window is none. As in DAGOR
/// (Zhou et al., Overload Control for Scaling WeChat Microservices, 2018) requests
/// have ranks, and a histogram of them tells at once from which one on they must be
/// shed, so that as many come as can be served.
#[derive(Clone, Debug, PartialEq)]
pub struct Shedding {
    rules: SheddingRules,
    /// How many came and entered in a window, in the mean of the last few.
    came: [f64; Self::RANKS],
    entered: f64,
    /// What the means are divided by.
    weight: f64,
    /// How many a window are let through; none: all.
    wanted: Option<f64>,
    cut: usize,
}

/// The weight of a window, in that of the next.
const KEPT: f64 = 0.8;

/// What is let through of those that entered, so that the queue becomes shorter.
const DRAIN: f64 = 0.97;

/// How many more are let through a window later.
const GROWTH: f64 = 1.05;

// === impl Offered ===

impl Offered {
    /// Nobody came.
    pub const NONE: Self = Self {
        came: [0; Shedding::RANKS],
        entered: 0,
        least: None,
        full: false,
    };
}

// === impl Shedding ===

impl Shedding {
    /// Tiers that may be shed.
    pub const TIERS: usize = 5;

    /// Parts of a tier that are shed one after the other.
    pub const COHORTS: usize = 128;

    /// How many ranks there are.
    pub const RANKS: usize = Self::TIERS * Self::COHORTS;

    /// Sheds nothing.
    pub const fn new(rules: SheddingRules) -> Self {
        Self {
            rules,
            came: [0.0; Self::RANKS],
            entered: 0.0,
            weight: 0.0,
            wanted: None,
            cut: Self::RANKS,
        }
    }

    /// The first rank that is shed; [`RANKS`](Self::RANKS) if none is.
    pub const fn cut(&self) -> usize {
        self.cut
    }

    /// What follows from a window.
    pub fn on(&mut self, seen: &Offered) {
        for (mean, came) in self.came.iter_mut().zip(seen.came) {
            *mean = *mean * KEPT + f64::from(came);
        }
        self.entered = self.entered * KEPT + f64::from(seen.entered);
        self.weight = self.weight * KEPT + 1.0;

        let most = self.came.iter().sum::<f64>() / self.weight;
        let wanted = self.wanted.unwrap_or(most);
        self.wanted = if self.is_overload(seen) {
            let entered = self.entered / self.weight;
            Some((wanted.min(entered) * DRAIN).max(self.rules.step))
        } else {
            // One that is let through all is not remembered as more.
            let grown = (wanted * GROWTH).max(wanted + self.rules.step);
            self.wanted
                .map(|_| grown.min(most * GROWTH + self.rules.step))
        };
        self.cut = self.cut_for(self.wanted.map(|wanted| wanted * self.weight));
        if self.cut == Self::RANKS {
            self.wanted = None;
        }
    }

    fn is_overload(&self, seen: &Offered) -> bool {
        match seen.least {
            Some(least) => least > self.rules.target || seen.full && !least.is_zero(),
            None => seen.full,
        }
    }

    /// The ranks that are no more together than `wanted`.
    fn cut_for(&self, wanted: Option<f64>) -> usize {
        let Some(wanted) = wanted else {
            return Self::RANKS;
        };
        let mut sum = 0.0;
        let over = self.came.iter().position(|came| {
            sum += came;
            sum > wanted
        });
        over.unwrap_or(Self::RANKS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TARGET: Duration = Duration::from_millis(5);

    const RULES: SheddingRules = SheddingRules {
        target: TARGET,
        step: 2.0,
    };

    /// One of each rank came, and so many entered.
    fn offered(entered: u32, least_millis: u64) -> Offered {
        Offered {
            came: [1; Shedding::RANKS],
            entered,
            least: Some(Duration::from_millis(least_millis)),
            full: false,
        }
    }

    fn after(windows: &[Offered]) -> Shedding {
        let mut shedding = Shedding::new(RULES);
        windows.iter().for_each(|seen| shedding.on(seen));
        shedding
    }

    #[test]
    fn one_window_tells_how_many_ranks_may_come() {
        assert_eq!(after(&[offered(200, 5)]).cut(), Shedding::RANKS);
        assert_eq!(after(&[offered(200, 6)]).cut(), 194);
    }

    #[test]
    fn what_waits_for_a_short_time_is_overload_only_where_others_find_no_place() {
        let mut seen = offered(200, 1);
        seen.full = true;
        assert_eq!(after(&[seen.clone()]).cut(), 194);
        seen.least = Some(Duration::ZERO);
        assert_eq!(after(&[seen.clone()]).cut(), Shedding::RANKS);
        seen.least = None;
        assert_eq!(after(&[seen]).cut(), 194);
    }

    #[test]
    fn load_comes_back_by_steps_and_all_of_it() {
        let mut shedding = after(&[offered(200, 6)]);
        let mut before = shedding.cut();
        for window in 0.. {
            shedding.on(&offered(200, 0));
            let cut = shedding.cut();
            assert!(cut >= before && cut <= before + before / 20 + 3, "{cut}");
            before = cut;
            if cut == Shedding::RANKS {
                assert!((20..40).contains(&window), "{window}");
                break;
            }
        }
    }

    #[test]
    fn stall_lets_through_a_little_and_all_is_well_again_after_it() {
        let stalled = Offered {
            least: None,
            full: true,
            ..offered(0, 0)
        };
        let mut shedding = after(&vec![stalled; 100]);
        assert_eq!(shedding.cut(), 2);
        (0..120).for_each(|_| shedding.on(&offered(640, 0)));
        assert_eq!(shedding.cut(), Shedding::RANKS);
    }

    #[test]
    fn rank_that_is_more_than_is_wanted_is_tried_again_and_again() {
        let mut seen = offered(100, 6);
        seen.came[50] = 500;
        let mut shedding = after(&[seen.clone()]);
        assert_eq!(shedding.cut(), 50);
        seen.least = Some(Duration::ZERO);
        let back = (0..200).any(|_| {
            shedding.on(&seen);
            shedding.cut() > 50
        });
        assert!(back);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is seen, what comes below the cut is no more than what is wanted,
        /// and a window with too much load never lets through more than before.
        #[test]
        fn cut_falls_with_overload_and_rises_without(
            windows in proptest::collection::vec(
                (0..40_u32, 0..30_000_u32, 0..20_u64, any::<bool>()),
                1..60,
            ),
        ) {
            let mut shedding = Shedding::new(RULES);
            for (each, entered, millis, full) in windows {
                let before = shedding.clone();
                let seen = Offered { came: [each; Shedding::RANKS], full, ..offered(entered, millis) };
                let overload = before.is_overload(&seen);
                shedding.on(&seen);
                prop_assert!(shedding.cut() <= Shedding::RANKS);
                match (before.wanted, shedding.wanted) {
                    (Some(before), Some(after)) if overload => prop_assert!(after <= before.max(RULES.step)),
                    (None, Some(_)) => prop_assert!(overload),
                    _ => {}
                }
            }
        }
    }
}
