//! What a connection is doing, and whether it may go on: without clock or task.
//!
//! hyper counts the time of an idle connection as time of the next head; here
//! they are told apart, so that a client that sends one byte a second is cut
//! after seconds, and one that keeps its connection for later is not.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For the head of a request, and for the first byte of the first.
    pub(super) head: Duration,
    /// Between requests.
    pub(super) idle: Duration,
}

/// What is to be done about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again then.
    Look(Instant),
    /// No request for long: let it end in its own way.
    Idle,
    /// A head that does not come to its end.
    Slow,
}

/// The doings of one connection.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Requests whose bodies, both of them, have not ended.
    requests: usize,
    /// When the last one ended, or the connection began.
    quiet: Instant,
    /// When the first byte came since.
    head: Option<Instant>,
    /// HTTP/2 reads frames that are no head, and pings a client that is silent.
    multiplexed: bool,
    begun: bool,
}

// === impl Activity ===

impl Activity {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(State {
            requests: 0,
            quiet: now,
            head: None,
            multiplexed: false,
            begun: false,
        }))
    }

    /// Bytes came in.
    pub(super) fn read(&self, now: Instant) {
        let mut state = self.state();
        if state.requests == 0 {
            state.head.get_or_insert(now);
        }
    }

    /// The client speaks HTTP/2.
    pub(super) fn multiplexed(&self) {
        self.state().multiplexed = true;
    }

    /// A request's head is complete.
    pub(super) fn began(&self) {
        let mut state = self.state();
        state.requests += 1;
        state.head = None;
        state.begun = true;
    }

    /// A request and its answer are over.
    pub(super) fn ended(&self, now: Instant) {
        let mut state = self.state();
        state.requests = state.requests.saturating_sub(1);
        state.quiet = now;
    }

    pub(super) fn verdict(&self, limits: Limits, now: Instant) -> Verdict {
        let state = self.state();
        // A head may begin right after this look.
        let next = now + limits.head;
        let (due, over) = match state.head {
            _ if state.requests > 0 => return Verdict::Look(next),
            Some(since) if !state.multiplexed => (since + limits.head, Verdict::Slow),
            None if !state.begun => (state.quiet + limits.head, Verdict::Slow),
            _ => (state.quiet + limits.idle, Verdict::Idle),
        };
        if now >= due {
            over
        } else {
            Verdict::Look(due.min(next))
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Fields are set one by one, and nothing between them panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        head: Duration::from_secs(10),
        idle: Duration::from_secs(75),
    };

    fn begin() -> (Activity, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        let at = move |second| start + Duration::from_secs(second);
        (Activity::new(start), at)
    }

    #[test]
    fn client_that_says_nothing_is_slow() {
        let (activity, at) = begin();
        assert_eq!(activity.verdict(LIMITS, at(9)), Verdict::Look(at(10)));
        assert_eq!(activity.verdict(LIMITS, at(10)), Verdict::Slow);
    }

    #[test]
    fn head_is_timed_from_its_first_byte_however_many_follow() {
        let (activity, at) = begin();
        activity.began();
        activity.ended(at(1));
        for second in 30..40 {
            activity.read(at(second));
            assert_eq!(activity.verdict(LIMITS, at(second)), Verdict::Look(at(40)));
        }
        assert_eq!(activity.verdict(LIMITS, at(40)), Verdict::Slow);
    }

    #[test]
    fn request_that_runs_is_neither_slow_nor_idle() {
        let (activity, at) = begin();
        activity.read(at(1));
        activity.began();
        activity.read(at(2));
        assert_eq!(
            activity.verdict(LIMITS, at(1_000)),
            Verdict::Look(at(1_010))
        );
    }

    #[test]
    fn kept_connection_is_idle_after_its_own_time_and_looked_at_before() {
        let (activity, at) = begin();
        activity.began();
        activity.ended(at(5));
        assert_eq!(activity.verdict(LIMITS, at(6)), Verdict::Look(at(16)));
        assert_eq!(activity.verdict(LIMITS, at(76)), Verdict::Look(at(80)));
        assert_eq!(activity.verdict(LIMITS, at(80)), Verdict::Idle);
    }

    #[test]
    fn frames_of_http2_are_no_head() {
        let (activity, at) = begin();
        activity.read(at(1));
        activity.multiplexed();
        assert_eq!(activity.verdict(LIMITS, at(20)), Verdict::Look(at(30)));
        assert_eq!(activity.verdict(LIMITS, at(75)), Verdict::Idle);
    }
}
