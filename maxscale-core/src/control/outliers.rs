use std::time::Duration;

use tokio::time::Instant;

use super::End;
use super::backoff::draw;

/// Which of several endpoints keep failing, and for how long each is left alone.
///
/// [`on`](Self::on) is all of it: the caller passes the time and keeps what comes
/// out. After [`OutlierRules::failures`] failures in a row an endpoint is ejected;
/// each time for longer. Never are more than [`most`](Self::most) ejected at a
/// time; where more than these fail, whatever is wrong is not theirs, and all
/// are used ([`usable`](Self::usable), Envoy's "panic mode").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outliers {
    rules: OutlierRules,
    endpoints: Vec<Endpoint>,
}

/// When an endpoint is ejected, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierRules {
    /// Failures in a row that eject it.
    pub failures: u32,
    /// How long it is ejected the first time, and how much longer each time after it.
    pub ejection: Duration,
    /// How long it is ejected at most.
    pub longest: Duration,
    /// How many of a hundred may be ejected at a time; one may always, all never.
    pub percent: u32,
}

/// What follows from the end of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle each of them")]
pub enum Ejection {
    /// The endpoint is left alone until then.
    Until(Instant),
    /// All is as before.
    None,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Endpoint {
    /// In a row.
    failures: u32,
    ejected_until: Option<Instant>,
    /// How often it was ejected; it is forgotten bit by bit while it does well.
    times: u32,
    /// Since when it has done well, as far as that is not used up.
    well_since: Option<Instant>,
}

// === impl OutlierRules ===

impl Default for OutlierRules {
    /// Three failures in a row; 30 s, 60 s and so on to 300 s; half of them.
    fn default() -> Self {
        Self {
            failures: 3,
            ejection: Duration::from_secs(30),
            longest: Duration::from_secs(300),
            percent: 50,
        }
    }
}

// === impl Outliers ===

impl Outliers {
    /// So many endpoints, none of which has failed.
    pub fn new(rules: OutlierRules, endpoints: usize) -> Self {
        Self {
            rules,
            endpoints: vec![Endpoint::default(); endpoints],
        }
    }

    /// What follows when a call of the endpoint at `at` has ended, and what is then
    /// known. `random` is a draw between 0 and 1: up to a tenth is added to the
    /// time, so that those ejected together do not come back together.
    pub fn on(mut self, now: Instant, at: usize, end: End, random: f64) -> (Ejection, Self) {
        let ejection = self.hear(now, at, end, random);
        (ejection, self)
    }

    /// As [`on`](Self::on), in place.
    pub fn hear(&mut self, now: Instant, at: usize, end: End, random: f64) -> Ejection {
        let room = self.ejected(now) < self.most();
        let rules = self.rules;
        let Some(endpoint) = self.endpoints.get_mut(at) else {
            return Ejection::None;
        };
        let free = room && !endpoint.is_ejected(now);
        match end {
            End::Nothing => {}
            End::Succeeded => endpoint.succeeded(now, rules.ejection),
            End::Failed => {
                endpoint.failures = endpoint.failures.saturating_add(1);
                endpoint.well_since = None;
                if free && endpoint.failures >= rules.failures {
                    return endpoint.eject(now, &rules, random);
                }
            }
        }
        Ejection::None
    }

    /// Whether another success of the endpoint at `at` would change nothing.
    pub fn is_clean(&self, at: usize) -> bool {
        let endpoint = self.endpoints.get(at);
        endpoint.is_none_or(|it| it.failures == 0 && it.times == 0)
    }

    /// Which endpoints are to be called at `now`, in their order.
    pub fn usable(&self, now: Instant) -> impl Iterator<Item = bool> {
        let panic = self.panics(now);
        let endpoints = self.endpoints.iter();
        endpoints.map(move |it| panic || !it.is_ejected(now))
    }

    /// Whether so many fail that all are used.
    pub fn panics(&self, now: Instant) -> bool {
        let fails = |it: &&Endpoint| it.is_ejected(now) || it.failures >= self.rules.failures;
        self.endpoints.iter().filter(fails).count() > self.most()
    }

    /// When the next endpoint is back, if one is ejected.
    pub fn next_back(&self, now: Instant) -> Option<Instant> {
        let ejected = self.endpoints.iter().filter(|it| it.is_ejected(now));
        ejected.filter_map(|it| it.ejected_until).min()
    }

    /// How many are ejected at `now`.
    pub fn ejected(&self, now: Instant) -> usize {
        let endpoints = self.endpoints.iter();
        endpoints.filter(|it| it.is_ejected(now)).count()
    }

    /// How many may be ejected at a time.
    pub fn most(&self) -> usize {
        let all = self.endpoints.len();
        let percent = usize::try_from(self.rules.percent).unwrap_or(100);
        (all * percent.min(100) / 100)
            .max(1)
            .min(all.saturating_sub(1))
    }
}

// === impl Endpoint ===

impl Endpoint {
    fn is_ejected(&self, now: Instant) -> bool {
        self.ejected_until.is_some_and(|until| now < until)
    }

    fn succeeded(&mut self, now: Instant, enough: Duration) {
        self.failures = 0;
        let since = *self.well_since.get_or_insert(now);
        if self.times > 0 && now.saturating_duration_since(since) >= enough {
            self.times -= 1;
            self.well_since = Some(now);
        }
    }

    fn eject(&mut self, now: Instant, rules: &OutlierRules, random: f64) -> Ejection {
        self.times = self.times.saturating_add(1);
        // When it comes back it has as many failures again.
        self.failures = 0;
        let time = rules.ejection.saturating_mul(self.times);
        let time = time.min(rules.longest);
        let jitter = (time / 10).mul_f64(draw(random));
        match now.checked_add(time.saturating_add(jitter)) {
            Some(until) => {
                self.ejected_until = Some(until);
                Ejection::Until(until)
            }
            None => Ejection::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fails(outliers: Outliers, now: Instant, at: usize) -> (Ejection, Outliers) {
        (0..3).fold((Ejection::None, outliers), |(_, outliers), _| {
            outliers.on(now, at, End::Failed, 0.0)
        })
    }

    fn usable(outliers: &Outliers, now: Instant) -> Vec<bool> {
        outliers.usable(now).collect()
    }

    #[test]
    fn endpoint_that_fails_again_and_again_is_ejected_for_longer_until_it_does_well() {
        let (mut outliers, mut now) = (Outliers::new(OutlierRules::default(), 4), Instant::now());
        for seconds in [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300] {
            let (ejection, next) = fails(outliers, now, 1);
            let back = now + seconds * SECOND;
            assert_eq!(ejection, Ejection::Until(back));
            assert_eq!(usable(&next, now), [true, false, true, true]);
            assert_eq!(next.next_back(now), Some(back));
            assert_eq!(usable(&next, back), [true; 4]);
            (outliers, now) = (next, back);
        }
        // Eleven times; it does well for as many times half a minute, and a little more.
        for _ in 0..12 {
            outliers = outliers.on(now, 1, End::Succeeded, 0.0).1;
            now += 30 * SECOND;
        }
        let (ejection, _) = fails(outliers, now, 1);
        assert_eq!(ejection, Ejection::Until(now + 30 * SECOND));
    }

    #[test]
    fn success_in_between_is_no_row_and_a_call_given_up_says_nothing() {
        let (outliers, now) = (Outliers::new(OutlierRules::default(), 2), Instant::now());
        let ends = [
            End::Failed,
            End::Failed,
            End::Succeeded,
            End::Failed,
            End::Nothing,
            End::Failed,
        ];
        let outliers = ends
            .into_iter()
            .fold(outliers, |it, end| it.on(now, 0, end, 0.0).1);
        assert_eq!(usable(&outliers, now), [true; 2]);
        let (ejection, _) = outliers.on(now, 0, End::Failed, 1.0);
        assert_eq!(ejection, Ejection::Until(now + 33 * SECOND));
    }

    #[test]
    fn of_two_that_both_fail_both_are_used() {
        let (outliers, now) = (Outliers::new(OutlierRules::default(), 2), Instant::now());
        let (_, outliers) = fails(outliers, now, 0);
        assert_eq!(usable(&outliers, now), [false, true]);
        let (ejection, outliers) = fails(outliers, now, 1);
        assert_eq!(ejection, Ejection::None);
        assert_eq!(usable(&outliers, now), [true; 2]);
        let (_, outliers) = outliers.on(now, 1, End::Succeeded, 0.0);
        assert_eq!(usable(&outliers, now), [false, true]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn never_more_are_ejected_than_may_be_and_traffic_flows(
            count in 1..9_usize,
            percent in 0..150_u32,
            calls in proptest::collection::vec((0..9_usize, 0..4_u8, 0..40_u64), 1..300),
        ) {
            let rules = OutlierRules { percent, ..OutlierRules::default() };
            let (mut outliers, mut now) = (Outliers::new(rules, count), Instant::now());
            let most = count * usize::try_from(percent.min(100)).unwrap() / 100;
            let most = most.max(1);
            for (at, end, pause) in calls {
                now += Duration::from_secs(pause);
                let end = match end {
                    0 => End::Succeeded,
                    1 => End::Nothing,
                    _ => End::Failed,
                };
                let before = outliers.ejected(now);
                let (ejection, next) = outliers.on(now, at, end, 0.5);
                prop_assert_eq!(next.ejected(now) > before, ejection != Ejection::None);
                prop_assert!(next.ejected(now) <= most);
                prop_assert!(next.ejected(now) < count);
                prop_assert!(next.usable(now).any(|usable| usable));
                prop_assert_eq!(next.ejected(now + 330 * SECOND), 0);
                outliers = next;
            }
        }
    }
}
