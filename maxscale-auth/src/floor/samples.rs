use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// What the last answers of each kind took, and the floor that follows.
#[derive(Debug)]
pub(super) struct Samples<K> {
    kinds: Vec<(K, VecDeque<Sample>)>,
    least: Duration,
    most: Duration,
    floor: Duration,
    /// Samples since the floor was counted.
    fresh: usize,
    counted: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    took: Duration,
}

/// How many samples of a kind count.
const KEPT: usize = 256;
/// How long one counts: a flood does not leave a high floor behind for a kind that is rare.
const AGE: Duration = Duration::from_secs(600);
/// The floor is counted anew after so many samples, or with the first one after a second.
const FRESH: usize = 16;
const SECOND: Duration = Duration::from_secs(1);

// === impl Samples ===

impl<K: Copy + Eq> Samples<K> {
    pub(super) const fn new(least: Duration, most: Duration) -> Self {
        Self {
            kinds: Vec::new(),
            least,
            most,
            floor: least,
            fresh: 0,
            counted: None,
        }
    }

    pub(super) fn set_least(&mut self, least: Duration) {
        self.least = least;
        self.floor = self.floor.max(least);
    }

    pub(super) fn set_most(&mut self, most: Duration) {
        self.most = most;
        self.floor = self.floor.min(most);
    }

    pub(super) const fn floor(&self) -> Duration {
        self.floor
    }

    pub(super) fn add(&mut self, kind: K, took: Duration, at: Instant) {
        let known = self.kinds.iter().position(|(known, _)| *known == kind);
        let known = known.unwrap_or_else(|| {
            self.kinds.push((kind, VecDeque::with_capacity(KEPT)));
            self.kinds.len() - 1
        });
        let samples = &mut self.kinds[known].1;
        if samples.len() == KEPT {
            samples.pop_front();
        }
        samples.push_back(Sample { at, took });
        self.fresh += 1;
        let since = self.counted.map(|counted| at.duration_since(counted));
        if self.fresh >= FRESH || since.is_none_or(|since| since >= SECOND) {
            self.count(at);
        }
    }

    fn count(&mut self, now: Instant) {
        (self.fresh, self.counted) = (0, Some(now));
        let old = |sample: &Sample| now.duration_since(sample.at) > AGE;
        for (_, samples) in &mut self.kinds {
            while samples.front().is_some_and(old) {
                samples.pop_front();
            }
        }
        let slowest = self.kinds.iter().filter_map(|(_, samples)| high(samples));
        let slowest = slowest.max().unwrap_or_default();
        self.floor = slowest.max(self.least).min(self.most);
    }
}

/// What 99 of 100 take at most; of fewer than 100, all.
fn high(samples: &VecDeque<Sample>) -> Option<Duration> {
    let mut times: Vec<Duration> = samples.iter().map(|sample| sample.took).collect();
    let above = times.len() / 100;
    let at = times.len().checked_sub(above + 1)?;
    Some(*times.select_nth_unstable(at).1)
}
