//! Tokens that a process takes ahead of the requests that will spend them, as pure
//! arithmetic: (what is held, now) → what is spent, and how many more to ask for.
//!
//! What is spent in a window `w` was taken within `w` and the lease before it, so
//! that at most `burst + rate · (w + lease)` are spent, whatever the number of
//! processes, and whoever hoards. Tokens that are given back were taken once more by
//! others: the store takes back no more than an eighth of the burst within a lease,
//! which is what comes on top.

use std::time::Duration;

use tokio::time::Instant;

use super::{Quota, Rate, Rule, Status};

/// How long tokens are held, where a policy says nothing else.
const TTL: Duration = Duration::from_millis(500);

/// The shortest and the longest lease.
const TTLS: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(60)];

/// Of fewer tokens in a lease's time hardly any would be taken ahead.
const WORTH: u128 = 4;

/// A lease of so many tokens is worth dividing among threads, in chunks of up to as many.
const HOT: u32 = 1_024;

/// How long nothing is asked for after the store did not answer.
const PAUSE: Duration = Duration::from_millis(100);

/// How the tokens of a policy are leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) rate: Rate,
    /// How long they are held.
    pub(super) ttl: Duration,
    /// How many at most: an eighth of the burst.
    pub(super) most: u32,
    /// How many while the store has hardly any: what comes in a fiftieth of a lease.
    batch: u32,
    /// The time in which those come.
    pub(super) hold: Duration,
}

/// How a policy wants its tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// Leased, if that is of any use.
    #[default]
    Auto,
    Strict,
    Leased(Duration),
}

/// The tokens of one key.
#[derive(Debug)]
pub(super) struct Lease {
    /// Of two grants the older one, which is spent first.
    first: Grant,
    second: Grant,
    /// How many were asked for last, and whether an answer is due.
    asked: u32,
    asking: bool,
    /// The store had hardly any: until then no more are asked for than it gets.
    edge_until: Instant,
    /// What was wanted since then, and by how many requests.
    wanted: u64,
    requests: u32,
    since: Instant,
    /// When it began: what was asked for before is not for it.
    born: Instant,
    /// Nothing is asked for before.
    not_before: Instant,
    /// When anything was wanted last.
    used: Instant,
    /// What the store had left, and when it had all.
    remaining: u32,
    full_at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Grant {
    tokens: u32,
    until: Instant,
}

/// Tokens of a lease that one thread holds.
#[derive(Debug)]
pub(super) struct Chunk {
    grant: Grant,
    used: Instant,
    remaining: u32,
    full_at: Instant,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent {
    /// How it stands; none if there were not enough tokens.
    pub(super) status: Option<Status>,
    /// How many to ask for now; none for no.
    pub(super) ask: Option<u32>,
}

// === impl Terms ===

impl Terms {
    /// How a policy of this rule is leased, if it is.
    pub(super) fn of(rule: &Rule, mode: Mode) -> Option<Self> {
        let (Rule::Rate(rate), ttl) = (rule, Self::ttl(mode)?) else {
            return None;
        };
        let in_ttl = rate.in_time(ttl);
        let terms = Self {
            rate: *rate,
            ttl,
            most: (rate.burst_size() / 8).max(1),
            batch: u32::try_from(in_ttl / 50).unwrap_or(u32::MAX).max(1),
            hold: ttl / 50,
        };
        let of_use = in_ttl >= WORTH && terms.most > 1;
        (of_use || mode != Mode::Auto).then_some(terms)
    }

    /// What the store takes back of unspent tokens: [`most`](Self::most) in any lease.
    pub(super) fn allowance(&self) -> Option<Quota> {
        Quota::new(self.most, self.ttl)
            .and_then(|it| it.slices(1))
            .ok()
    }

    /// For how long a lease that is given back was not used.
    fn idle(&self) -> Duration {
        self.ttl * 2 / 5
    }

    fn ttl(mode: Mode) -> Option<Duration> {
        match mode {
            Mode::Auto => Some(TTL),
            Mode::Strict => None,
            Mode::Leased(ttl) => Some(ttl),
        }
    }

    /// Why a policy of this rule cannot be leased for so long.
    pub(super) fn refuse(rule: &Rule, ttl: Duration) -> Option<&'static str> {
        if !matches!(rule, Rule::Rate(_)) {
            return Some("only rates are leased; quotas and logs promise more than that allows");
        }
        let [shortest, longest] = TTLS;
        (ttl < shortest || ttl > longest).then_some("a lease is 10 ms to 60 s long")
    }
}

// === impl Lease ===

impl Lease {
    pub(super) fn new(now: Instant) -> Self {
        let none = Grant {
            tokens: 0,
            until: now,
        };
        Self {
            first: none,
            second: none,
            asked: 1,
            asking: false,
            edge_until: now,
            wanted: 0,
            requests: 0,
            since: now,
            born: now,
            not_before: now,
            used: now,
            remaining: 0,
            full_at: now,
        }
    }

    /// Spends `cost` tokens, if there are so many.
    pub(super) fn spend(&mut self, terms: &Terms, cost: u32, now: Instant) -> Spent {
        self.expire(now);
        self.wanted += u64::from(cost);
        self.requests = self.requests.saturating_add(1);
        self.used = now;
        let enough = self.tokens() >= cost;
        if enough {
            let first = cost.min(self.first.tokens);
            self.first.tokens -= first;
            self.second.tokens -= cost - first;
        }
        let low = self.tokens() <= self.asked / 2;
        // The store is asked for a dear request now, and tells how long it has to wait:
        // nothing may be taken beside it.
        let low = low && (enough || cost == 1);
        let ask = low && !self.asking && now >= self.not_before;
        Spent {
            status: enough.then(|| self.status(now)),
            ask: ask.then(|| self.ask(terms, now)).flatten(),
        }
    }

    fn status(&self, now: Instant) -> Status {
        let mut status = Status::new(0, Some(0), 0);
        status.remaining = self.remaining.saturating_add(self.tokens());
        status.reset = self.full_at.saturating_duration_since(now);
        status
    }

    /// How many tokens it needs for half a lease; none if that is no more than one
    /// request takes anyway.
    fn ask(&mut self, terms: &Terms, now: Instant) -> Option<u32> {
        // One request says nothing of others.
        if self.requests < 2 {
            return None;
        }
        let half = terms.ttl.as_micros() / 2;
        let elapsed = now.saturating_duration_since(self.since).as_micros();
        let wanted = u128::from(self.wanted) * half / elapsed.max(half / 16).max(1);
        (self.wanted, self.requests, self.since) = (0, 0, now);
        let most = match now < self.edge_until {
            true => terms.batch,
            false => self.asked.saturating_mul(2),
        };
        let want = u32::try_from(wanted).unwrap_or(u32::MAX);
        // All that is held could be given back.
        let room = terms.most.saturating_sub(self.tokens());
        self.asked = want.min(most).min(room).max(1);
        if self.asked < 2 {
            return None;
        }
        self.asking = true;
        Some(self.asked)
    }

    /// Whether it waits for the answer to what was asked for at `sent`.
    pub(super) fn waits_for(&self, sent: Instant) -> bool {
        self.asking && sent >= self.born
    }

    /// The answer to what was asked for at `sent`; none if the store gave none.
    pub(super) fn answered(&mut self, terms: &Terms, sent: Instant, answer: Option<(u32, Status)>) {
        self.asking = false;
        let Some((tokens, status)) = answer else {
            self.not_before = sent + PAUSE;
            return;
        };
        let grant = Grant {
            tokens,
            until: sent + terms.ttl,
        };
        if self.first.tokens == 0 {
            self.first = std::mem::replace(&mut self.second, grant);
        } else if self.second.tokens == 0 {
            self.second = grant;
        } else {
            // Three are two: the younger tokens of the older pair end with the older ones.
            self.first.tokens = self.first.tokens.saturating_add(self.second.tokens);
            self.second = grant;
        }
        if self.first.tokens == 0 {
            self.first = std::mem::replace(&mut self.second, self.first);
        }
        if tokens < self.asked || status.remaining < self.asked.saturating_mul(4) {
            self.edge_until = sent + terms.ttl;
        }
        if tokens < self.asked {
            self.not_before = sent + terms.hold;
        }
        self.remaining = status.remaining;
        self.full_at = sent + status.reset;
    }

    /// Whether it is worth dividing.
    pub(super) const fn is_hot(&self) -> bool {
        self.asked >= HOT
    }

    /// Tokens for a thread to hold; none if there are hardly any.
    pub(super) fn chunk(&mut self, now: Instant) -> Option<Chunk> {
        let tokens = (self.first.tokens / 8).min(HOT);
        if tokens < HOT / 32 || self.first.until <= now {
            return None;
        }
        self.first.tokens -= tokens;
        self.wanted += u64::from(tokens);
        Some(Chunk {
            grant: Grant {
                tokens,
                ..self.first
            },
            used: now,
            remaining: self.remaining.saturating_add(self.tokens()),
            full_at: self.full_at,
        })
    }

    /// Puts back what a request had spent and did not use, as if it had not been there.
    /// False if there is no lease for it, or more would be held than could be given
    /// back.
    pub(super) fn put_back(&mut self, terms: &Terms, tokens: u32, now: Instant) -> bool {
        self.expire(now);
        let fits = self.tokens().saturating_add(tokens) <= terms.most;
        if !fits || self.first.until <= now {
            return false;
        }
        self.first.tokens += tokens;
        self.wanted = self.wanted.saturating_sub(tokens.into());
        self.requests = self.requests.saturating_sub(1);
        true
    }

    /// What nobody has wanted for a while, for the store to take back; a lease that is
    /// over within `margin` is not given back any more.
    pub(super) fn idle(&mut self, terms: &Terms, now: Instant, margin: Duration) -> u32 {
        match now < self.used + terms.idle() {
            true => 0,
            false => self.take_all(now, margin),
        }
    }

    /// All tokens that the store could still take back.
    pub(super) fn take_all(&mut self, now: Instant, margin: Duration) -> u32 {
        self.expire(now + margin);
        let tokens = self.tokens();
        (self.first.tokens, self.second.tokens) = (0, 0);
        tokens
    }

    const fn tokens(&self) -> u32 {
        self.first.tokens.saturating_add(self.second.tokens)
    }

    fn expire(&mut self, now: Instant) {
        if self.first.until <= now {
            self.first = self.second;
            self.second.tokens = 0;
            if self.first.until <= now {
                self.first.tokens = 0;
            }
        }
    }
}

// === impl Chunk ===

impl Chunk {
    pub(super) fn spend(&mut self, cost: u32, now: Instant) -> Option<Status> {
        if self.grant.until <= now || self.grant.tokens < cost {
            return None;
        }
        self.grant.tokens -= cost;
        self.used = now;
        let mut status = Status::new(0, Some(0), 0);
        status.remaining = self.remaining.saturating_add(self.grant.tokens);
        status.reset = self.full_at.saturating_duration_since(now);
        Some(status)
    }

    /// As [`Lease::idle`].
    pub(super) fn idle(&mut self, terms: &Terms, now: Instant, margin: Duration) -> u32 {
        match now < self.used + terms.idle() {
            true => 0,
            false => self.take(now, margin),
        }
    }

    /// As [`Lease::take_all`].
    pub(super) fn take(&mut self, now: Instant, margin: Duration) -> u32 {
        let tokens = std::mem::take(&mut self.grant.tokens);
        if self.grant.until <= now + margin {
            0
        } else {
            tokens
        }
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.grant.tokens == 0 || self.grant.until <= now
    }
}

#[cfg(test)]
pub(super) mod tests;
