//! Tokens that a process takes ahead of the requests that will spend them, as pure
//! arithmetic: (what is held, now) → what is spent, and how many more to ask for.
//!
//! What is spent in a window `w` was taken within `w` and the lease before it, so
//! that at most `burst + rate · (w + lease)` are spent, whatever the number of
//! processes, and whoever hoards. Tokens that are given back were taken once more by
//! others: the store takes back no more than an eighth of the burst within a lease,
//! which is what comes on top.

use std::ops::Add;
use std::time::Duration;

use super::{Quota, Rate, Rule, Status};

/// How long tokens are held, where a policy says nothing else.
const TTL: Duration = Duration::from_millis(500);

/// The shortest and the longest lease.
const TTLS: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(60)];

/// Of fewer tokens in a lease's time hardly any would be taken ahead.
const WORTH: u128 = 4;

/// A key of so many tokens a second is worth dividing among threads.
const HOT: u32 = 5_000;

/// How many a thread gets at once: no more than this, and no fewer than this.
const CHUNK: [u32; 2] = [1_024, 32];

/// How long nothing is asked for after the store did not answer.
const PAUSE: Duration = Duration::from_millis(100);

/// Microseconds since this process began to lease: half of an `Moment`, of which a
/// lease has many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

/// A moment to about a millisecond, which begins anew every 50 days.
#[derive(Clone, Copy, Debug)]
struct Roughly(u32);

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
    /// From how many asked for at once it is worth dividing.
    hot: u32,
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

const FIRST: usize = 0;
const SECOND: usize = 1;

/// The tokens of one key. What every request reads comes first, and finds room in one
/// cache line with the key.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Lease {
    /// Of two grants: the older one, which is spent first, and the younger one.
    tokens: [u32; 2],
    first_until: Moment,
    /// How many were asked for last.
    asked: u32,
    /// What was wanted since then, and by how many requests.
    wanted: u32,
    requests: u32,
    /// When anything was wanted last, roughly.
    used: Roughly,
    /// When the store has all.
    full_at: Moment,
    second_until: Moment,
    since: Moment,
    /// Nothing is asked for before: while an answer is due, at no time.
    not_before: Moment,
    /// The store had hardly any: until then no more are asked for than it gets.
    edge_until: Moment,
}

#[derive(Clone, Copy, Debug)]
struct Grant {
    until: Moment,
    tokens: u32,
}

/// Tokens of a lease that one thread holds.
#[derive(Debug)]
pub(super) struct Chunk {
    grant: Grant,
    used: Roughly,
    full_at: Moment,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent {
    /// How it stands; none if there were not enough tokens.
    pub(super) left: Option<Left>,
    /// How many to ask for now; none for no.
    pub(super) ask: Option<u32>,
}

/// How a key stands after a request that was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    remaining: u32,
    /// In microseconds.
    reset: u64,
}

// === impl Moment ===

impl Moment {
    /// Before any other.
    pub(super) const BEGIN: Self = Self(0);

    const NEVER: Self = Self(u64::MAX);

    /// The microseconds from `earlier` to this moment; none if it is later.
    const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The time from `earlier` to this moment; none if it is later.
    pub(super) const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.micros_since(earlier))
    }

    #[expect(clippy::cast_possible_truncation, reason = "it begins anew")]
    const fn roughly(self) -> Roughly {
        Roughly((self.0 / 1_024) as u32)
    }

    /// As a table takes it.
    pub(super) fn as_micros(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        let micros = time.as_secs().saturating_mul(1_000_000);
        let micros = micros.saturating_add(time.subsec_micros().into());
        Self(self.0.saturating_add(micros))
    }
}

// === impl Roughly ===

impl Roughly {
    /// The time until then.
    fn until(self, now: Moment) -> Duration {
        let passed = now.roughly().0.wrapping_sub(self.0);
        Duration::from_micros(u64::from(passed) * 1_024)
    }
}

// === impl Left ===

impl Left {
    pub(super) const fn status(self) -> Status {
        Status {
            remaining: self.remaining,
            retry_after: Some(Duration::ZERO),
            reset: Duration::from_micros(self.reset),
        }
    }
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
            hot: in_half(HOT, ttl),
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

    /// How a key stands of which so many tokens are held here; the store has all at
    /// `full_at`.
    #[inline]
    fn left(&self, held: u32, full_at: Moment, now: Moment) -> Left {
        let reset = full_at.micros_since(now);
        Left {
            remaining: self.rate.left(reset).saturating_add(held),
            reset,
        }
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

/// How many come in half a lease at so many a second.
fn in_half(per_second: u32, ttl: Duration) -> u32 {
    let tokens = u128::from(per_second) * ttl.as_micros() / 2_000_000;
    u32::try_from(tokens).unwrap_or(u32::MAX).max(1)
}

// === impl Lease ===

impl Lease {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            tokens: [0, 0],
            first_until: now,
            second_until: now,
            asked: 1,
            edge_until: now,
            wanted: 0,
            requests: 0,
            used: now.roughly(),
            full_at: now,
            since: now,
            not_before: now,
        }
    }

    /// Spends `cost` tokens, if there are so many.
    #[inline]
    pub(super) fn spend(&mut self, terms: &Terms, cost: u32, now: Moment) -> Spent {
        self.expire(now);
        self.wanted = self.wanted.saturating_add(cost);
        self.requests = self.requests.saturating_add(1);
        self.used = now.roughly();
        let enough = self.tokens() >= cost;
        if enough {
            let first = cost.min(self.tokens[FIRST]);
            self.tokens[FIRST] -= first;
            self.tokens[SECOND] -= cost - first;
        }
        let low = self.tokens() <= self.asked / 2;
        // The store is asked for a dear request now, and tells how long it has to wait:
        // nothing may be taken beside it.
        let low = low && (enough || cost == 1);
        let ask = low && now >= self.not_before;
        Spent {
            left: enough.then(|| terms.left(self.tokens(), self.full_at, now)),
            ask: if ask { self.ask(terms, now) } else { None },
        }
    }

    /// How many tokens it needs for half a lease; none if that is no more than one
    /// request takes anyway.
    fn ask(&mut self, terms: &Terms, now: Moment) -> Option<u32> {
        // One request says nothing of others.
        if self.requests < 2 {
            return None;
        }
        let half = terms.ttl.as_micros() / 2;
        let elapsed = u128::from(now.micros_since(self.since));
        let wanted = u128::from(self.wanted) * half / elapsed.max(half / 16).max(1);
        (self.wanted, self.requests, self.since) = (0, 0, now);
        let most = match now < self.edge_until {
            true => terms.batch,
            false => self.asked.saturating_mul(4),
        };
        let want = u32::try_from(wanted).unwrap_or(u32::MAX);
        // All that is held could be given back.
        let room = terms.most.saturating_sub(self.tokens());
        self.asked = want.min(most).min(room).max(1);
        if self.asked < 2 {
            return None;
        }
        self.not_before = Moment::NEVER;
        Some(self.asked)
    }

    /// Whether it waits for the answer to what was asked for at `sent`: what was asked
    /// before it did is not for it.
    pub(super) fn waits_for(&self, sent: Moment) -> bool {
        self.not_before == Moment::NEVER && sent >= self.since
    }

    /// The answer to what was asked for at `sent`; none if the store gave none.
    pub(super) fn answered(&mut self, terms: &Terms, sent: Moment, answer: Option<(u32, Status)>) {
        self.not_before = sent;
        let Some((tokens, status)) = answer else {
            self.not_before = sent + PAUSE;
            return;
        };
        match self.tokens {
            [0, second] => {
                (self.tokens, self.first_until) = ([second, tokens], self.second_until);
            }
            [_, 0] => self.tokens[SECOND] = tokens,
            // Three are two: the younger tokens of the older pair end with the older ones.
            [first, second] => self.tokens = [first.saturating_add(second), tokens],
        }
        self.second_until = sent + terms.ttl;
        if self.tokens[FIRST] == 0 {
            self.tokens.swap(FIRST, SECOND);
            std::mem::swap(&mut self.first_until, &mut self.second_until);
        }
        if tokens < self.asked || status.remaining < self.asked.saturating_mul(4) {
            self.edge_until = sent + terms.ttl;
        }
        if tokens < self.asked {
            self.not_before = sent + terms.hold;
        }
        self.full_at = sent + status.reset;
    }

    /// When the tokens end that are spent first.
    pub(super) const fn end(&self) -> Moment {
        self.first_until
    }

    /// Whether it is worth dividing.
    pub(super) const fn is_hot(&self, terms: &Terms) -> bool {
        self.asked >= terms.hot
    }

    /// Tokens for a thread to hold; none if there are hardly any.
    pub(super) fn chunk(&mut self, now: Moment) -> Option<Chunk> {
        let [most, least] = CHUNK;
        let untils = [self.first_until, self.second_until];
        let part = |place: usize| (self.tokens[place] / 8).min(most);
        // Where the older grant has hardly any left, requests would ask here one by one
        // until it ends.
        let place = [FIRST, SECOND]
            .into_iter()
            .find(|place| part(*place) >= least && untils[*place] > now)?;
        let tokens = part(place);
        self.tokens[place] -= tokens;
        self.wanted = self.wanted.saturating_add(tokens);
        Some(Chunk {
            grant: Grant {
                tokens,
                until: untils[place],
            },
            used: now.roughly(),
            full_at: self.full_at,
        })
    }

    /// Puts back what a request had spent and did not use, as if it had not been there.
    /// False if there is no lease for it, or more would be held than could be given
    /// back.
    pub(super) fn put_back(&mut self, terms: &Terms, tokens: u32, now: Moment) -> bool {
        self.expire(now);
        let fits = self.tokens().saturating_add(tokens) <= terms.most;
        if !fits || self.first_until <= now {
            return false;
        }
        self.tokens[FIRST] += tokens;
        self.wanted = self.wanted.saturating_sub(tokens);
        self.requests = self.requests.saturating_sub(1);
        true
    }

    /// What nobody has wanted for a while, for the store to take back; a lease that is
    /// over within `margin` is not given back any more.
    pub(super) fn idle(&mut self, terms: &Terms, now: Moment, margin: Duration) -> u32 {
        match self.used.until(now) < terms.idle() {
            true => 0,
            false => self.take_all(now, margin),
        }
    }

    /// All tokens that the store could still take back.
    pub(super) fn take_all(&mut self, now: Moment, margin: Duration) -> u32 {
        self.expire(now + margin);
        let tokens = self.tokens();
        self.tokens = [0, 0];
        tokens
    }

    const fn tokens(&self) -> u32 {
        self.tokens[FIRST].saturating_add(self.tokens[SECOND])
    }

    fn expire(&mut self, now: Moment) {
        if self.first_until <= now {
            (self.tokens, self.first_until) = ([self.tokens[SECOND], 0], self.second_until);
            if self.first_until <= now {
                self.tokens[FIRST] = 0;
            }
        }
    }
}

// === impl Chunk ===

impl Chunk {
    #[inline]
    pub(super) fn spend(&mut self, terms: &Terms, cost: u32, now: Moment) -> Option<Left> {
        if self.grant.until <= now || self.grant.tokens < cost {
            return None;
        }
        self.grant.tokens -= cost;
        self.used = now.roughly();
        Some(terms.left(self.grant.tokens, self.full_at, now))
    }

    /// When its tokens end.
    pub(super) const fn end(&self) -> Moment {
        self.grant.until
    }

    /// As [`Lease::idle`].
    pub(super) fn idle(&mut self, terms: &Terms, now: Moment, margin: Duration) -> u32 {
        match self.used.until(now) < terms.idle() {
            true => 0,
            false => self.take(now, margin),
        }
    }

    /// As [`Lease::take_all`].
    pub(super) fn take(&mut self, now: Moment, margin: Duration) -> u32 {
        let tokens = std::mem::take(&mut self.grant.tokens);
        if self.grant.until <= now + margin {
            0
        } else {
            tokens
        }
    }

    pub(super) fn is_over(&self, now: Moment) -> bool {
        self.grant.tokens == 0 || self.grant.until <= now
    }
}

#[cfg(test)]
pub(super) mod tests;
