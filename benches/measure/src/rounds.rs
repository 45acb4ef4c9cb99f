//! Two sides measured in turns, A/B, B/A, A/B, and what their rounds say.
//!
//! A turn is short, so that what else the machine does falls on both sides. A
//! round is some turns of each on fresh connections: two pools alike in all
//! but their luck were seen to differ by 3 % for as long as they lived, which no
//! number of turns takes away. Each round gives one ratio. Their median has a
//! 95 % interval, and rounds go on until it is narrow.

use std::fmt;
use std::future::Future;
use std::hint::black_box;
use std::time::Duration;

use maxscale_core::BoxError;
use tokio::time::Instant;

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The least time that one side runs at a time.
    turn: Duration,
    /// How often each side runs in a round.
    turns: usize,
    /// The fewest rounds.
    rounds: usize,
    /// When to stop although the interval is still wide.
    limit: Duration,
}

/// The rounds of one comparison: the time of ours, that of theirs being 1.
#[derive(Debug)]
pub struct Rounds {
    plan: Plan,
    start: Instant,
    costs: Vec<f64>,
}

/// A median and the interval that holds it with 95 % confidence.
#[derive(Clone, Copy, Debug)]
pub struct Median {
    /// The median.
    pub value: f64,
    low: f64,
    high: f64,
    rounds: usize,
}

/// An interval within ±1 % is narrow.
const NARROW: f64 = 0.01;

// === impl Plan ===

impl Plan {
    /// Figures to judge by.
    pub const FULL: Self = Self {
        turn: Duration::from_millis(20),
        turns: 4,
        rounds: 25,
        limit: Duration::from_secs(300),
    };

    /// Shows that a bench runs.
    pub const QUICK: Self = Self {
        turn: Duration::from_millis(5),
        turns: 1,
        rounds: 5,
        limit: Duration::ZERO,
    };

    /// Whether nothing will be judged.
    pub const fn is_quick(&self) -> bool {
        self.limit.is_zero()
    }

    /// The size of a run that has no rounds.
    pub const fn pick(&self, full: u32, quick: u32) -> u32 {
        if self.is_quick() { quick } else { full }
    }

    /// How many calls take a turn. Making them warms the side up: connections, prepared
    /// statements, caches.
    async fn count<F>(&self, side: &impl Fn(u32) -> F) -> Result<u32, BoxError>
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let mut count = 1_u32;
        while timed(side(count)).await? < self.turn {
            // What takes no time at all is not worth more.
            let Some(more) = count.checked_mul(2) else {
                break;
            };
            count = more;
        }
        Ok(count)
    }

    /// Starts a comparison.
    pub fn compare(&self) -> Rounds {
        Rounds {
            plan: *self,
            start: Instant::now(),
            costs: Vec::new(),
        }
    }

    /// The best nanoseconds per call of `ours` and of `bare`, in turns.
    pub fn best_of<A, B>(
        &self,
        mut ours: impl FnMut(usize) -> A,
        mut bare: impl FnMut(usize) -> B,
    ) -> (f64, f64) {
        let mut count = 1;
        while clocked(count, &mut ours).min(clocked(count, &mut bare)) < self.turn {
            count *= 2;
        }
        let mut best = (Duration::MAX, Duration::MAX);
        for _ in 0..self.rounds {
            best.0 = best.0.min(clocked(count, &mut ours));
            best.1 = best.1.min(clocked(count, &mut bare));
        }
        let each = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(count);
        (each(best.0), each(best.1))
    }
}

fn clocked<T>(count: u32, call: &mut impl FnMut(usize) -> T) -> Duration {
    let start = Instant::now();
    for n in 0..count as usize {
        black_box(call(n));
    }
    start.elapsed()
}

// === impl Rounds ===

impl Rounds {
    /// Whether the interval is narrow, or the time is up.
    pub fn are_enough(&self) -> bool {
        self.costs.len() >= self.plan.rounds
            && (self.start.elapsed() >= self.plan.limit || self.cost().is_narrow())
    }

    /// Runs `ours` and `theirs` in turns. Each is given how often to repeat.
    ///
    /// # Errors
    ///
    /// That of the first side that fails.
    pub async fn round<A, B>(
        &mut self,
        ours: impl Fn(u32) -> A,
        theirs: impl Fn(u32) -> B,
    ) -> Result<(), BoxError>
    where
        A: Future<Output = Result<(), BoxError>> + Send + 'static,
        B: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        // Where one side is a hundred times as fast, as many calls of the other would
        // take minutes.
        let our_count = self.plan.count(&ours).await?;
        let their_count = self.plan.count(&theirs).await?;
        let mut costs = Vec::new();
        for turn in 0..self.plan.turns {
            // Going first was seen to be worth 2 % for writes: each side does in turn.
            let (a, b) = if turn % 2 == 0 {
                let a = each(&ours, our_count).await?;
                (a, each(&theirs, their_count).await?)
            } else {
                let b = each(&theirs, their_count).await?;
                (each(&ours, our_count).await?, b)
            };
            costs.push(a / b);
        }
        self.costs.push(Median::of(costs).value);
        Ok(())
    }

    /// Adds a round that was timed elsewhere: the seconds that each side took for
    /// the same work.
    pub fn add(&mut self, ours: f64, theirs: f64) {
        self.costs.push(ours / theirs);
    }

    /// How long ours takes, theirs being 1.
    ///
    /// # Panics
    ///
    /// Before the first round.
    pub fn cost(&self) -> Median {
        Median::of(self.costs.clone())
    }

    /// How fast ours is, theirs being 1.
    ///
    /// # Panics
    ///
    /// Before the first round.
    pub fn speed(&self) -> Median {
        Median::of(self.costs.iter().map(|cost| 1.0 / cost).collect())
    }
}

/// The seconds that one of so many calls takes.
async fn each<F>(side: &impl Fn(u32) -> F, count: u32) -> Result<f64, BoxError>
where
    F: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    Ok(timed(side(count)).await?.as_secs_f64() / f64::from(count))
}

/// Runs in a task, as work in a service does.
async fn timed<F>(turn: F) -> Result<Duration, BoxError>
where
    F: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let task = async move {
        let start = Instant::now();
        turn.await.map(|()| start.elapsed())
    };
    tokio::spawn(task).await?
}

// === impl Median ===

impl Median {
    /// The median of at least one value.
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let (low, high) = ranks(values.len());
        let middle = values.len() / 2;
        let value = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Self {
            value,
            low: values[low],
            high: values[high],
            rounds: values.len(),
        }
    }

    fn is_narrow(&self) -> bool {
        self.high - self.value <= NARROW * self.value
            && self.value - self.low <= NARROW * self.value
    }
}

impl fmt::Display for Median {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            low, high, rounds, ..
        } = self;
        if *rounds < 6 {
            return write!(f, "median of {rounds} rounds, {low:.3} to {high:.3}");
        }
        write!(
            f,
            "median of {rounds} rounds, 95 % interval {low:.3} to {high:.3}"
        )
    }
}

/// The places, from 0, of the values that enclose the median with 95 % confidence.
///
/// How many values lie below the true median is a coin toss each, whatever
/// their distribution. Fewer than six values enclose it with less.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a number of rounds is small, and the rank is held to 0 and above"
)]
fn ranks(count: usize) -> (usize, usize) {
    let count_f = count as f64;
    let rank = ((count_f - 1.96 * count_f.sqrt()) / 2.0).floor().max(1.0) as usize;
    (rank - 1, count - rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_its_interval_follow_the_order_statistics() {
        let median = Median::of((1..=100).map(f64::from).rev().collect());
        // The 40th and the 61st of 100: the textbook's ranks.
        assert_eq!((median.low, median.value, median.high), (40.0, 50.5, 61.0));
        let median = Median::of(vec![3.0, 1.0, 2.0]);
        assert_eq!((median.low, median.value, median.high), (1.0, 2.0, 3.0));
        let median = Median::of(vec![7.0]);
        assert_eq!((median.low, median.value, median.high), (7.0, 7.0, 7.0));
    }

    #[test]
    fn interval_is_narrow_within_one_percent_on_both_sides() {
        let median = |low, high| Median {
            value: 1.0,
            low,
            high,
            rounds: 100,
        };
        assert!(median(0.991, 1.009).is_narrow());
        assert!(!median(0.98, 1.009).is_narrow());
        assert!(!median(0.991, 1.02).is_narrow());
    }

    #[tokio::test]
    async fn slower_side_has_the_lower_speed_and_the_higher_cost() {
        let spin = |micros| {
            move |count| async move {
                let start = Instant::now();
                while start.elapsed() < Duration::from_micros(micros) * count {}
                Ok(())
            }
        };
        let mut rounds = Plan::QUICK.compare();
        while !rounds.are_enough() {
            rounds.round(spin(200), spin(50)).await.unwrap();
        }
        let (speed, cost) = (rounds.speed(), rounds.cost());
        assert_eq!(speed.rounds, 5);
        assert!(speed.value < 0.5 && cost.value > 2.0, "{speed:?} {cost:?}");
    }

    #[tokio::test]
    async fn failing_side_ends_the_round() {
        let works = |_| async { Ok(()) };
        let fails = |_| async { Err("no server".into()) };
        let error = Plan::QUICK.compare().round(works, fails).await.unwrap_err();
        assert_eq!(error.to_string(), "no server");
    }
}
