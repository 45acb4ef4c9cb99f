use super::*;
use crate::limit::rule::Seen;
use crate::limit::state::State;

/// What the script `redis/back.lua` does.
pub(in crate::limit) fn taken_back(
    terms: &Terms,
    stored: [Option<&State>; 2],
    now: i64,
    tokens: u32,
) -> Option<(u32, [Seen; 2])> {
    let allowance: Rule = terms.allowance()?.into();
    if !matches!(stored[0], Some(State::Rate { .. })) {
        return None;
    }
    let mut key = Rule::from(terms.rate).see(stored[0], now);
    let mut allowed = allowance.see(stored[1], now);
    let taken = tokens.min(u32::try_from(allowed.room(now)).unwrap());
    if taken == 0 {
        return None;
    }
    key.give_back(now, taken.into());
    allowed.add(now, taken.into());
    Some((taken, [key, allowed]))
}

/// A key in the store, and the moments of the model.
struct Store {
    begun: Moment,
    key: Option<State>,
    allowance: Option<State>,
}

impl Store {
    fn new(begun: Moment) -> Self {
        Self {
            begun,
            key: None,
            allowance: None,
        }
    }

    fn micros(&self, now: Moment) -> i64 {
        now.as_micros() - self.begun.as_micros() + 1
    }

    fn take(&mut self, terms: &Terms, want: u32, now: Moment) -> (u32, Status) {
        let now = self.micros(now);
        let mut seen = Rule::from(terms.rate).see(self.key.as_ref(), now);
        let taken = want.min(u32::try_from(seen.room(now)).unwrap());
        seen.add(now, taken.into());
        let status = seen.status(now, 1);
        self.key = Some(seen.into_state());
        (taken, status)
    }

    fn take_back(&mut self, terms: &Terms, tokens: u32, now: Moment) {
        let stored = [self.key.as_ref(), self.allowance.as_ref()];
        if let Some((_, [key, allowance])) = taken_back(terms, stored, self.micros(now), tokens) {
            self.key = Some(key.into_state());
            self.allowance = Some(allowance.into_state());
        }
    }
}

/// A process of the model.
enum Process {
    /// As this crate's, asked as often as this in each step.
    Ours(Lease, u32),
    /// Takes as much as it may, and spends all at once when the first would end.
    Hoarder(Vec<Grant>),
    /// Takes as much as it may, and gives back all at the last moment.
    Returner(Vec<Grant>),
}

const BEGUN: Moment = Moment(1_000_000);

const STEP: Duration = Duration::from_millis(5);

impl Process {
    /// How many requests it admits in this step.
    fn step(&mut self, terms: &Terms, store: &mut Store, now: Moment) -> u32 {
        match self {
            Self::Ours(lease, requests) => {
                let mut admitted = 0;
                for _ in 0..*requests {
                    let spent = lease.spend(terms, 1, now);
                    admitted += match spent.left {
                        Some(_) => 1,
                        // Who finds no token asks for one.
                        None => store.take(terms, 1, now).0,
                    };
                    if let Some(want) = spent.ask {
                        let answer = store.take(terms, want, now);
                        lease.answered(terms, now, Some(answer));
                    }
                }
                admitted
            }
            Self::Hoarder(grants) => {
                let over = match grants.iter().any(|it| it.until <= now + STEP) {
                    true => grants.drain(..).map(|it| it.tokens).sum(),
                    false => 0,
                };
                grants.push(granted(terms, store, now));
                over
            }
            Self::Returner(grants) => {
                let over = last_moment(grants, now);
                store.take_back(terms, over, now);
                grants.push(granted(terms, store, now));
                0
            }
        }
    }
}

fn granted(terms: &Terms, store: &mut Store, now: Moment) -> Grant {
    let (tokens, _) = store.take(terms, terms.most, now);
    Grant {
        tokens,
        until: now + terms.ttl,
    }
}

fn last_moment(grants: &mut Vec<Grant>, now: Moment) -> u32 {
    let over: Vec<_> = grants.extract_if(.., |it| it.until <= now + STEP).collect();
    over.iter().map(|grant| grant.tokens).sum()
}

/// Admits for so long; how many in each step.
fn simulated(terms: &Terms, processes: &mut [Process], steps: u32) -> Vec<u32> {
    let begun = BEGUN;
    let mut store = Store::new(begun);
    let step = |step| {
        let now = begun + STEP * step;
        let each = processes.iter_mut();
        each.map(|process| process.step(terms, &mut store, now))
            .sum()
    };
    (0..steps).map(step).collect()
}

/// The most that any window of so many steps admits.
fn most_in(admitted: &[u32], steps: usize) -> u32 {
    let windows = admitted.windows(steps);
    windows.map(|window| window.iter().sum()).max().unwrap_or(0)
}

fn terms(per_second: u32, burst: u32) -> Terms {
    let rate = Rate::per_second(per_second).unwrap().burst(burst).unwrap();
    Terms::of(&rate.into(), Mode::Auto).unwrap()
}

/// `burst + rate · (w + lease) + burst / 8`.
fn bound(terms: &Terms, window: Duration) -> u32 {
    let rate = terms.rate;
    let over = rate.per() * u32::try_from((window + terms.ttl).as_millis()).unwrap() / 1_000;
    rate.burst_size() + over + rate.burst_size() / 8 + 1
}

fn stays_in_bounds(terms: &Terms, admitted: &[u32]) {
    for steps in [20_u32, 200, 2_000] {
        let most = most_in(admitted, usize::try_from(steps).unwrap());
        // The moments in a step lie up to a step apart.
        let bound = bound(terms, STEP * steps);
        assert!(most <= bound, "{most} in {steps} steps, not {bound}");
    }
}

#[test]
fn whoever_hoards_or_gives_back_64_processes_stay_in_bounds() {
    for (per_second, burst) in [(1_000, 800), (200, 1_000), (2_000, 64)] {
        let terms = terms(per_second, burst);
        let processes = (0..64_u32).map(|n| match n % 3 {
            0 => Process::Hoarder(Vec::new()),
            1 => Process::Returner(Vec::new()),
            _ => Process::Ours(Lease::new(BEGUN), n % 7),
        });
        let mut processes: Vec<_> = processes.collect();
        stays_in_bounds(&terms, &simulated(&terms, &mut processes, 6_000));
    }
}

#[test]
fn what_hoarders_spend_at_once_would_break_the_bound_of_a_rate() {
    let terms = terms(1_000, 80);
    let mut processes: Vec<_> = (0..64).map(|_| Process::Hoarder(Vec::new())).collect();
    let admitted = simulated(&terms, &mut processes, 6_000);
    stays_in_bounds(&terms, &admitted);
    // The control: a lease's tokens are on top.
    let strict = terms.rate.burst_size() + 1;
    assert!(most_in(&admitted, 1) > strict);
}

#[test]
fn saturated_processes_use_98_of_100_tokens() {
    for (per_second, burst) in [(16_667, 100_000), (1_000, 100), (200, 2_000), (17, 100)] {
        let terms = terms(per_second, burst);
        let new = |_| Process::Ours(Lease::new(BEGUN), per_second / 100 + 2);
        let mut processes: Vec<_> = (0..8).map(new).collect();
        let admitted = simulated(&terms, &mut processes, 12_000);
        let total: u32 = admitted.iter().sum();
        let possible = burst + per_second * 60;
        stays_in_bounds(&terms, &admitted);
        let used = f64::from(total) / f64::from(possible);
        assert!(used >= 0.98, "{used} of {per_second}/s");
    }
}

/// The store is asked for half a lease's need, not for each request.
#[test]
fn busy_key_asks_seldom_and_a_lone_request_leases_nothing() {
    let (terms, begun) = (terms(10_000, 100_000), BEGUN);
    let (mut lease, mut store) = (Lease::new(begun), Store::new(begun));
    let mut asked = 0;
    for request in 0..40_000_u32 {
        let now = begun + Duration::from_micros(250) * request;
        let spent = lease.spend(&terms, 1, now);
        if let Some(want) = spent.ask {
            asked += 1;
            let answer = store.take(&terms, want, now);
            lease.answered(&terms, now, Some(answer));
        }
    }
    assert!(asked < 100, "{asked}");

    let mut lease = Lease::new(begun);
    for request in 0..100 {
        let now = begun + Duration::from_secs(1) * request;
        let spent = lease.spend(&terms, 1, now);
        assert_eq!((spent.left, spent.ask), (None, None));
    }
}

#[test]
fn tokens_end_with_their_lease_and_idle_ones_are_given_back_before() {
    let (terms, begun) = (terms(1_000, 800), BEGUN);
    let mut lease = Lease::new(begun);
    lease.answered(&terms, begun, Some((50, Status::new(700, Some(0), 0))));
    let margin = Duration::from_millis(50);
    let later = |millis| begun + Duration::from_millis(millis);

    assert!(lease.spend(&terms, 20, later(499)).left.is_some());
    assert_eq!(lease.spend(&terms, 20, later(500)).left, None);

    lease.answered(&terms, later(600), Some((50, Status::new(700, Some(0), 0))));
    assert!(lease.spend(&terms, 1, later(650)).left.is_some());
    assert_eq!(lease.idle(&terms, later(849), margin), 0, "it was used");
    // When it was used is known to a millisecond and a bit.
    assert_eq!(lease.idle(&terms, later(852), margin), 49);
    assert_eq!(lease.idle(&terms, later(852), margin), 0);

    lease.answered(
        &terms,
        later(1_000),
        Some((50, Status::new(700, Some(0), 0))),
    );
    assert_eq!(
        lease.take_all(later(1_450), margin),
        0,
        "it would come too late"
    );
}

#[test]
fn what_is_put_back_was_never_wanted() {
    let (terms, begun) = (terms(1_000, 800), BEGUN);
    let mut lease = Lease::new(begun);
    lease.answered(&terms, begun, Some((90, Status::new(700, Some(0), 0))));
    for request in 0..1_000 {
        let now = begun + Duration::from_micros(100) * request;
        let spent = lease.spend(&terms, 1, now);
        assert!(spent.left.is_some() && spent.ask.is_none(), "{request}");
        assert!(lease.put_back(&terms, 1, now));
    }
    // More than may be held, or to a lease that is over.
    assert!(!lease.put_back(&terms, 11, begun));
    assert!(!lease.put_back(&terms, 1, begun + terms.ttl));
}

/// What is left of the older grant is spent request by request, the younger one is not.
#[test]
fn threads_have_parts_of_a_hot_key_also_while_its_older_grant_runs_out() {
    let (terms, begun) = (terms(100_000, 800_000), BEGUN);
    let later = begun + Duration::from_millis(100);
    for spent_before in [0, 100, 300] {
        let mut lease = Lease::new(begun);
        for (at, tokens) in [(begun, 300), (later, 40_000)] {
            lease.answered(&terms, at, Some((tokens, Status::new(700_000, Some(0), 0))));
        }
        assert!(spent_before == 0 || lease.spend(&terms, spent_before, later).left.is_some());
        let chunk = lease.chunk(later).unwrap();
        let (tokens, since) = match spent_before {
            0 => (300 / 8, begun),
            _ => (CHUNK[0], later),
        };
        assert_eq!(chunk.grant.tokens, tokens);
        assert_eq!(chunk.end(), since + terms.ttl);
        assert!(
            lease
                .chunk(begun + terms.ttl)
                .is_some_and(|it| it.end() == later + terms.ttl)
        );
        assert!(lease.chunk(later + terms.ttl).is_none());
    }
}

#[test]
fn dear_request_that_finds_no_tokens_takes_none_from_what_it_has_to_wait_for() {
    let (terms, begun) = (terms(1_000, 800), BEGUN);
    let mut lease = Lease::new(begun);
    for request in 0..10 {
        let now = begun + Duration::from_millis(10) * request;
        let spent = lease.spend(&terms, 12, now);
        assert_eq!((spent.left, spent.ask), (None, None));
    }
}

#[test]
fn store_that_does_not_answer_is_not_asked_for_each_request() {
    let (terms, begun) = (terms(1_000, 800), BEGUN);
    let mut lease = Lease::new(begun);
    let mut asked = 0;
    for request in 0..1_000 {
        let now = begun + Duration::from_millis(1) * request;
        if lease.spend(&terms, 1, now).ask.is_some() {
            asked += 1;
            lease.answered(&terms, now, None);
        }
    }
    assert!((1..=10).contains(&asked), "{asked}");
}

#[test]
fn only_rates_are_leased() {
    let quota = Quota::new(10_000, Duration::from_secs(1)).unwrap();
    let log = crate::limit::Log::new(60, Duration::from_secs(1)).unwrap();
    for rule in [Rule::from(quota), log.into()] {
        assert_eq!(Terms::of(&rule, Mode::Auto), None);
        assert!(Terms::refuse(&rule, TTL).is_some());
    }
    let rate: Rule = Rate::per_second(1_000).unwrap().into();
    assert_eq!(Terms::refuse(&rate, TTL), None);
    for ttl in [Duration::ZERO, Duration::from_secs(61)] {
        assert!(Terms::refuse(&rate, ttl).is_some());
    }
    assert_eq!(Terms::of(&rate, Mode::Strict), None);
    let slow: Rule = Rate::per_minute(100).unwrap().into();
    assert_eq!(Terms::of(&slow, Mode::Auto), None);
}
