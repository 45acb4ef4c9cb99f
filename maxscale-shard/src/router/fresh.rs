//! How old what a replica shows can be, from what all servers say of themselves.
//!
//! The primary's position in its log is kept with the time at which it was asked.
//! A replica that has replayed a position shows all that was committed when the
//! primary was there. So no two clocks are compared, and an idle primary makes
//! nobody old: its last position counts for every later time at which it is seen.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::sql::Watermark;

/// How far a replica has come, as it said itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// The history it follows; as long as it has said nothing of a newer one.
    pub(crate) timeline: u32,
    pub(crate) position: u64,
}

/// Where the primary was.
#[derive(Clone, Copy, Debug)]
struct Sample {
    asked: Instant,
    timeline: u32,
    position: u64,
}

/// What is known of the servers of a node, by their places.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fresh {
    /// The newest is the last. Positions rise within a timeline.
    samples: VecDeque<Sample>,
    replicas: Vec<Option<Replayed>>,
}

/// With four looks in a second, a minute of them.
const SAMPLES: usize = 240;

/// What the ends of records in a log are multiples of.
const RECORD: u64 = 8;

// === impl Fresh ===

impl Fresh {
    /// The primary was at `position` at the earliest when it was `asked`.
    pub(crate) fn primary(&mut self, asked: Instant, timeline: u32, position: u64) {
        if self
            .samples
            .back()
            .is_some_and(|last| last.timeline != timeline)
        {
            // Positions of two histories say nothing of each other.
            self.samples.clear();
        }
        match self.samples.back_mut() {
            // Nothing happened: whoever has this shows also what is there now.
            Some(last) if last.position == position => last.asked = asked,
            _ => self.samples.push_back(Sample {
                asked,
                timeline,
                position,
            }),
        }
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }

    /// What the server at `place` said; nothing if it was not reached, or is no replica.
    pub(crate) fn replica(&mut self, place: usize, said: Option<Replayed>) {
        if self.replicas.len() <= place {
            self.replicas.resize(place + 1, None);
        }
        self.replicas[place] = said;
    }

    /// The server at `place`, if it is a replica, has come as far as `mark`, which it
    /// told itself.
    pub(crate) fn heard(&mut self, place: usize, mark: Watermark) {
        // Records end at multiples of 8. What is beyond was not replayed yet.
        let position = mark.position() / RECORD * RECORD;
        if let Some(Some(known)) = self.replicas.get_mut(place)
            && known.timeline == mark.timeline()
        {
            known.position = known.position.max(position);
        }
    }

    /// How old what the server at `place` shows can be by now, at most. None if
    /// nothing is known.
    pub(crate) fn age(&self, place: usize, now: Instant) -> Option<Duration> {
        let replayed = self.replayed(place)?;
        let same = |sample: &&Sample| sample.timeline == replayed.timeline;
        let reached = (self.samples.iter().rev())
            .filter(same)
            .find(|sample| sample.position <= replayed.position)?;
        Some(now.saturating_duration_since(reached.asked))
    }

    /// Whether the server at `place` is known to show what `mark` stands for.
    pub(crate) fn shows(&self, place: usize, mark: &Watermark) -> bool {
        // Of another history nobody knows; the primary has what it has.
        self.is_current(mark)
            && self.replayed(place).is_some_and(|replayed| {
                replayed.timeline == mark.timeline() && replayed.position >= mark.position()
            })
    }

    /// Whether `mark` is of the history that the primary writes.
    pub(crate) fn is_current(&self, mark: &Watermark) -> bool {
        let last = self.samples.back();
        last.is_some_and(|last| last.timeline == mark.timeline())
    }

    fn replayed(&self, place: usize) -> Option<Replayed> {
        self.replicas.get(place).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn said(timeline: u32, position: u64) -> Option<Replayed> {
        Some(Replayed { timeline, position })
    }

    #[test]
    fn age_counts_from_when_the_primary_was_where_the_replica_is() {
        let start = Instant::now();
        let mut fresh = Fresh::default();
        assert_eq!(fresh.age(1, start), None);
        fresh.replica(1, said(1, 150));
        assert_eq!(fresh.age(1, start), None);
        for (at, position) in [(0, 100), (250, 200), (500, 300)] {
            fresh.primary(start + ms(at), 1, position);
        }
        assert_eq!(fresh.age(1, start + ms(600)), Some(ms(600)));
        fresh.replica(1, said(1, 300));
        assert_eq!(fresh.age(1, start + ms(600)), Some(ms(100)));
        fresh.replica(1, said(1, 99));
        assert_eq!(fresh.age(1, start + ms(600)), None);
        fresh.replica(1, None);
        assert_eq!(fresh.age(1, start + ms(600)), None);
    }

    #[test]
    fn idle_primary_makes_nobody_old() {
        let start = Instant::now();
        let mut fresh = Fresh::default();
        fresh.replica(1, said(1, 100));
        for at in 0..1_000 {
            fresh.primary(start + ms(250 * at), 1, 100);
        }
        assert_eq!(fresh.samples.len(), 1);
        assert_eq!(fresh.age(1, start + ms(250_000)), Some(ms(250)));
    }

    #[test]
    fn nothing_is_concluded_across_a_promotion() {
        let start = Instant::now();
        let (mut fresh, mark) = (Fresh::default(), Watermark::new(1, 100));
        fresh.replica(1, said(1, 500));
        // Nothing is known of the primary yet.
        assert!(!fresh.shows(1, &mark));
        fresh.primary(start, 1, 100);
        assert!(fresh.shows(1, &mark));
        fresh.primary(start, 2, 120);
        // It may have gone on in the old history, where others' writes are missing.
        assert!(!fresh.shows(1, &mark));
        assert_eq!(fresh.age(1, start), None);
        assert!(!fresh.shows(1, &Watermark::new(2, 110)));
        fresh.replica(1, said(2, 130));
        assert!(fresh.shows(1, &Watermark::new(2, 110)));
        assert!(!fresh.shows(1, &mark));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Against all that happened: each commit with its time.
        #[test]
        fn replica_of_some_age_shows_every_commit_that_is_older(
            commits in proptest::collection::vec((1..400_u64, 0..3_u64), 1..60),
            look_every in 1..6_usize,
            replayed in 0..200_u64,
        ) {
            let start = Instant::now();
            let (mut fresh, mut now, mut position) = (Fresh::default(), start, 0);
            let mut history = Vec::new();
            for (at, (pause, written)) in commits.iter().enumerate() {
                now += ms(*pause);
                if *written > 0 {
                    position += written;
                    history.push((now, position));
                }
                if at % look_every == 0 {
                    // Asked a moment before it answers.
                    fresh.primary(now - ms(*pause / 2), 1, position);
                }
            }
            let replayed = replayed.min(position);
            fresh.replica(1, said(1, replayed));
            if let Some(age) = fresh.age(1, now) {
                for (committed, position) in history {
                    if committed <= now - age {
                        prop_assert!(position <= replayed, "{position} is older and not shown");
                    }
                }
            }
        }
    }
}
