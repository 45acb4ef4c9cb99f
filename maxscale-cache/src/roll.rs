//! Who else sends messages, and whether all of them came.
//!
//! Each sender numbers its messages, and its heartbeats tell the last number.
//! Messages may overtake each other, since the servers of a cluster pass them
//! on by different ways: a number counts as lost only when it was given away
//! before one heartbeat and has not come by the next. A sender that falls
//! silent may have said something that nobody heard.
//!
//! It does no more than arithmetic; times are passed in.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// Who is silent for so long is gone.
pub(crate) const SILENCE: Duration = Duration::from_millis(1_400);

/// Numbers remembered that came ahead of others; more is a loss.
const AHEAD: usize = 65_536;

/// The senders that are heard.
#[derive(Debug, Default)]
pub(crate) struct Roll(HashMap<u64, Sender>);

#[derive(Debug)]
struct Sender {
    /// All numbers up to this one came.
    whole: u64,
    /// What came beyond the first number that is missing.
    ahead: BTreeSet<u64>,
    /// What the last heartbeat told.
    told: u64,
    /// When it was last heard, in microseconds.
    heard: u64,
    /// Whether a loss before its next message is known already.
    forgiven: bool,
}

// === impl Roll ===

impl Roll {
    /// Notes a numbered message. False if one from before it was lost.
    #[must_use]
    pub(crate) fn message(&mut self, origin: u64, seq: u64, now: u64) -> bool {
        match self.0.get_mut(&origin) {
            Some(sender) if sender.forgiven => {
                // Of what is before it nothing is to come.
                *sender = Sender::new(seq.max(sender.whole), now);
                true
            }
            Some(sender) => {
                sender.heard = now;
                sender.came(seq)
            }
            None => {
                self.0.insert(origin, Sender::new(seq, now));
                seq <= 1
            }
        }
    }

    /// Notes a heartbeat. False if a message is lost.
    #[must_use]
    pub(crate) fn beat(&mut self, origin: u64, last: u64, now: u64) -> bool {
        let Some(sender) = self.0.get_mut(&origin) else {
            self.0.insert(origin, Sender::new(last, now));
            return last == 0;
        };
        if sender.forgiven {
            *sender = Sender::new(last.max(sender.whole), now);
            return true;
        }
        sender.heard = now;
        let complete = sender.whole >= sender.told;
        if !complete {
            sender.whole = sender.told;
            sender.catch_up();
        }
        sender.told = last;
        complete
    }

    /// What is lost so far is known already.
    pub(crate) fn forgive(&mut self) {
        for sender in self.0.values_mut() {
            sender.forgiven = true;
        }
    }

    /// Forgets who is silent. False if there was somebody.
    #[must_use]
    pub(crate) fn sweep(&mut self, now: u64) -> bool {
        let before = self.0.len();
        let silence = u64::try_from(SILENCE.as_micros()).unwrap_or(u64::MAX);
        self.0
            .retain(|_, sender| now.saturating_sub(sender.heard) < silence);
        self.0.len() == before
    }
}

// === impl Sender ===

impl Sender {
    const fn new(whole: u64, now: u64) -> Self {
        Self {
            whole,
            ahead: BTreeSet::new(),
            told: whole,
            heard: now,
            forgiven: false,
        }
    }

    fn came(&mut self, seq: u64) -> bool {
        if seq > self.whole {
            self.ahead.insert(seq);
            self.catch_up();
        }
        if self.ahead.len() <= AHEAD {
            return true;
        }
        self.whole = self.ahead.last().copied().unwrap_or(self.whole);
        self.ahead.clear();
        false
    }

    fn catch_up(&mut self) {
        self.ahead = self.ahead.split_off(&(self.whole + 1));
        while self.ahead.remove(&(self.whole + 1)) {
            self.whole += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_that_is_missing_at_two_heartbeats_is_lost() {
        let mut roll = Roll::default();
        assert!(roll.message(7, 1, 0));
        assert!(roll.message(7, 3, 0));
        assert!(roll.beat(7, 4, 0), "2 and 4 may be on their way");
        assert!(!roll.beat(7, 4, 0));
        assert!(roll.beat(7, 4, 0), "told once");
        assert!(roll.message(7, 5, 0));
        assert!(roll.beat(7, 5, 0));
        assert!(roll.beat(7, 5, 0));
    }

    #[test]
    fn messages_may_overtake_each_other_and_heartbeats() {
        let mut roll = Roll::default();
        assert!(roll.beat(7, 0, 0));
        for seq in [2, 3, 1, 5] {
            assert!(roll.message(7, seq, 0));
        }
        assert!(roll.beat(7, 6, 0));
        assert!(roll.message(7, 6, 0) && roll.message(7, 4, 0));
        assert!(roll.beat(7, 6, 0));
    }

    #[test]
    fn sender_whose_first_messages_were_not_heard_is_a_loss() {
        let mut roll = Roll::default();
        assert!(!roll.message(7, 2, 0));
        assert!(roll.message(7, 3, 0));
        assert!(!roll.beat(8, 1, 0));
        assert!(roll.beat(9, 0, 0));
    }

    #[test]
    fn sender_that_falls_silent_is_a_loss_once() {
        let mut roll = Roll::default();
        assert!(roll.beat(7, 0, 0));
        let silence = u64::try_from(SILENCE.as_micros()).unwrap();
        assert!(roll.sweep(silence - 1));
        assert!(!roll.sweep(silence));
        assert!(roll.sweep(silence));
    }

    #[test]
    fn loss_that_is_known_is_not_told_again() {
        let mut roll = Roll::default();
        assert!(roll.message(7, 1, 0));
        roll.forgive();
        assert!(roll.message(7, 9, 0));
        assert!(roll.beat(7, 9, 0) && roll.beat(7, 10, 0));
        assert!(!roll.beat(7, 10, 0), "10 is a new loss");
    }

    #[test]
    fn hole_with_too_much_behind_it_is_a_loss_and_holds_no_memory() {
        let mut roll = Roll::default();
        assert!(roll.message(7, 1, 0));
        let lost = (3..100_000).filter(|seq| !roll.message(7, *seq, 0)).count();
        assert_eq!(lost, 1);
        assert!(roll.0[&7].ahead.len() <= AHEAD);
    }
}
