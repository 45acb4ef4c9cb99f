//! What every [`LimitStore`] must do, as checks that any backend can run.
//!
//! The checks take real time (some seconds) and panic on the first promise that is
//! broken. Where they have to ask before a moment has come, a machine that was too slow
//! for that is given another try.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Call, Edit, Entry, Granted, LimitStore, Log, Quota, Rate, Rule, Run, Status};

const HOUR: Duration = Duration::from_secs(3_600);
const SECOND: Duration = Duration::from_secs(1);

/// How often a slow machine may be too slow.
const TRIES: u32 = 60;

/// Runs every check with two clients of one store, which must be fresh.
///
/// # Panics
///
/// When the store breaks a promise.
pub async fn check<S: LimitStore>(here: &S, there: &S) {
    for rule in [rate(10, HOUR, 10), quota(10, HOUR), log(10, HOUR)] {
        clients_share_what_there_is(here, there, rule).await;
        requests_of_one_call_are_decided_in_their_order(here, rule).await;
        one_policy_without_room_leaves_the_others_alone(here, there, rule).await;
        what_is_given_back_can_be_taken_again(here, there, rule).await;
        what_has_happened_is_charged_beyond_what_there_is(here, there, rule).await;
        operator_has_the_last_word(here, there, rule).await;
        more_than_there_ever_is_is_denied_for_ever(here, rule).await;
    }
    keys_are_independent(here, there).await;
    rules_of_two_kinds_do_not_undo_each_other(here, there).await;
    for rule in [rate(1, SECOND, 1), log(1, SECOND)] {
        denied_takes_cost_nothing(here, rule).await;
    }
    burst_comes_back_and_no_more(here, there).await;
    lowered_rate_applies_at_once(here, there).await;
}

/// Takes at once from two clients are admitted exactly as often as there is room.
async fn clients_share_what_there_is<S: LimitStore>(here: &S, there: &S, rule: Rule) {
    let principal = named("shared", rule);
    let takes = (0..100).map(|n| take(if n % 2 == 0 { here } else { there }, &principal, rule));
    let answers = all(takes).await;
    let granted = answers.iter().filter(|answer| answer.count == 1);
    let mut left: Vec<u32> = granted.map(|answer| answer.statuses[0].remaining).collect();
    left.sort_unstable();
    assert_eq!(
        left,
        (0..10).collect::<Vec<_>>(),
        "what each of the takes that were admitted said is left, {rule:?}"
    );
}

async fn requests_of_one_call_are_decided_in_their_order<S: LimitStore>(store: &S, rule: Rule) {
    let principal = named("order", rule);
    let runs = [(4, 2), (3, 1), (1, 1)].map(|(count, cost)| run(count, &[cost]));
    let answers = asked(store, &principal, &[("one", rule)], runs.to_vec()).await;
    let counts: Vec<u32> = answers.iter().map(|answer| answer.count).collect();
    assert_eq!(counts, [4, 2, 0], "of 4 by 2, 3 by 1 and 1 by 1, {rule:?}");
}

/// All or nothing: also what was stored of the others stays as it is.
async fn one_policy_without_room_leaves_the_others_alone<S: LimitStore>(
    here: &S,
    there: &S,
    rule: Rule,
) {
    let principal = named("both", rule);
    let both = [("wide", rule), ("close", rate(2, HOUR, 2))];
    for (client, expected) in [(here, 1), (there, 1), (here, 0), (there, 0)] {
        let answer = asked(client, &principal, &both, vec![run(1, &[1, 1])]).await;
        assert_eq!(answer[0].count, expected, "{rule:?}");
        let [wide, close] = answer[0].statuses[..] else {
            panic!("a status for each policy: {answer:?}");
        };
        let waits = close.retry_after.is_some_and(|wait| wait > HOUR / 4);
        assert!(expected == 1 || waits, "{close:?}");
        assert!(wide.remaining >= 8, "{wide:?} of {rule:?}");
    }
}

async fn what_is_given_back_can_be_taken_again<S: LimitStore>(here: &S, there: &S, rule: Rule) {
    let principal = named("back", rule);
    let taken = asked(here, &principal, &[("one", rule)], vec![run(20, &[1])]).await;
    assert_eq!(taken[0].count, 10, "{rule:?}");
    let back = Call {
        principal: principal.as_str().into(),
        entries: vec![Entry {
            back: 3,
            ..entry("one", rule)
        }],
        runs: vec![run(20, &[1])],
    };
    let taken = done(there.run(&back).await);
    assert_eq!(taken[0].count, 3, "{rule:?}");
}

async fn what_has_happened_is_charged_beyond_what_there_is<S: LimitStore>(
    here: &S,
    there: &S,
    rule: Rule,
) {
    let principal = named("force", rule);
    let force = Run {
        force: true,
        ..run(15, &[1])
    };
    let charged = asked(here, &principal, &[("one", rule)], vec![force]).await;
    assert_eq!(charged[0].count, 15, "{rule:?}");
    let then = take(there, &principal, rule).await;
    let single = then.statuses[0].retry_after.unwrap_or_default();
    assert_eq!(then.count, 0, "{rule:?}");
    // A rate has to regain six of ten in an hour; the others all of it.
    assert!(single > HOUR / 2, "{single:?} of {rule:?}");
}

async fn operator_has_the_last_word<S: LimitStore>(here: &S, there: &S, rule: Rule) {
    let principal = named("word", rule);
    done(here.edit(&principal, "one", &rule, Edit::Block(HOUR)).await);
    let blocked = take(there, &principal, rule).await;
    assert_eq!(blocked.count, 0, "blocked, {rule:?}");
    let wait = blocked.statuses[0].retry_after.unwrap_or_default();
    assert!(wait > HOUR / 2 && wait <= HOUR, "{wait:?}");
    done(there.edit(&principal, "one", &rule, Edit::Reset).await);
    let all = asked(here, &principal, &[("one", rule)], vec![run(20, &[1])]).await;
    assert_eq!(all[0].count, 10, "reset, {rule:?}");
    done(here.edit(&principal, "one", &rule, Edit::Reset).await);
    let all = asked(there, &principal, &[("one", rule)], vec![run(20, &[1])]).await;
    assert_eq!(all[0].count, 10, "reset again, {rule:?}");
}

async fn more_than_there_ever_is_is_denied_for_ever<S: LimitStore>(store: &S, rule: Rule) {
    let principal = named("never", rule);
    for cost in [11, u32::MAX] {
        let answer = asked(store, &principal, &[("one", rule)], vec![run(1, &[cost])]).await;
        let Granted { count, statuses } = &answer[0];
        assert_eq!((*count, statuses[0].retry_after), (0, None), "{rule:?}");
    }
}

/// A key that is used up leaves others alone.
async fn keys_are_independent<S: LimitStore>(here: &S, there: &S) {
    let one = rate(1, HOUR, 1);
    for principal in ["a", "b", "", "a\0b", "{x}", &"long ".repeat(1_000)] {
        for policy in ["one", "two"] {
            let took = async |store: &S| {
                let runs = vec![run(1, &[1])];
                asked(store, principal, &[(policy, one)], runs).await[0].count
            };
            assert_eq!(took(here).await, 1, "{principal:?} is new to {policy}");
            assert_eq!(took(there).await, 0, "{principal:?} is used up");
        }
    }
}

/// One policy whose rule is of this kind and of that, in turn: as for callers of two
/// tiers, or while a new version is rolled out.
async fn rules_of_two_kinds_do_not_undo_each_other<S: LimitStore>(here: &S, there: &S) {
    let rules = [
        rate(3, HOUR, 3),
        quota(3, HOUR),
        quota(3, HOUR / 2),
        log(3, HOUR),
        log(3, HOUR / 2),
    ];
    let mut granted = [0; 5];
    for _ in 0..10 {
        for (rule, granted) in rules.iter().zip(&mut granted) {
            *granted += take(here, "two kinds", *rule).await.count;
            *granted += take(there, "two kinds", *rule).await.count;
        }
    }
    assert_eq!(granted, [3; 5]);
}

/// However often a key is denied, one is admitted after the wait told first.
async fn denied_takes_cost_nothing<S: LimitStore>(store: &S, rule: Rule) {
    for round in 0..TRIES {
        let principal = format!("{} {round}", named("denied", rule));
        let begun = Instant::now();
        assert_eq!(take(store, &principal, rule).await.count, 1);
        let denied = take(store, &principal, rule).await;
        for _ in 0..20 {
            take(store, &principal, rule).await;
        }
        if begun.elapsed() >= SECOND {
            // A slow machine: one came back meanwhile, which is right.
            continue;
        }
        let wait = wait_of(&denied);
        assert!(wait <= SECOND, "{wait:?}");
        sleep(wait).await;
        let after = take(store, &principal, rule).await;
        assert_eq!(after.count, 1, "after its wait, {rule:?}");
        return;
    }
    panic!("each time 22 calls took longer than {SECOND:?}");
}

/// After the time told the whole burst is there, and not more.
async fn burst_comes_back_and_no_more<S: LimitStore>(here: &S, there: &S) {
    let rule = rate(10, SECOND, 3);
    let mut tries = 0..TRIES;
    let Status { reset, .. } = loop {
        assert!(tries.next().is_some(), "one came back each time");
        use_up(here, "refill", rule).await;
        let answer = take(there, "refill", rule).await;
        if answer.count == 0 {
            break answer.statuses[0];
        }
        // A slow machine: one came back meanwhile, which is right.
    };
    assert!(reset <= SECOND * 3 / 10, "{reset:?}");
    // Ten times as long does not save up ten bursts.
    sleep(3 * SECOND).await;
    let start = Instant::now();
    let answers = all((0..50).map(|_| take(there, "refill", rule))).await;
    let granted: u32 = answers.iter().map(|answer| answer.count).sum();
    let regained = start.elapsed().as_micros() / 100_000;
    assert!(
        (3..=4 + regained).contains(&u128::from(granted)),
        "{granted}"
    );
}

/// A rate that is lowered under a key in use tells a true wait.
async fn lowered_rate_applies_at_once<S: LimitStore>(here: &S, there: &S) {
    use_up(here, "lowered", rate(10, HOUR, 10)).await;
    let after = rate(10, SECOND, 1);
    let wait = wait_of(&take(there, "lowered", after).await);
    assert!(wait <= Duration::from_millis(100), "{wait:?}");
    sleep(wait).await;
    let after = take(here, "lowered", after).await;
    assert_eq!(after.count, 1, "after its wait");
}

fn rate(per: u32, window: Duration, burst: u32) -> Rule {
    let rate = Rate::new(per, window).and_then(|rate| rate.burst(burst));
    rate.expect("the checks' rates are valid").into()
}

fn quota(limit: u32, window: Duration) -> Rule {
    let quota = Quota::new(limit, window);
    quota.expect("the checks' quotas are valid").into()
}

fn log(limit: u32, window: Duration) -> Rule {
    let log = Log::new(limit, window);
    log.expect("the checks' logs are valid").into()
}

fn named(check: &str, rule: Rule) -> String {
    format!("conformance {check} {rule:?}")
}

fn entry(policy: &str, rule: Rule) -> Entry {
    Entry {
        policy: policy.into(),
        rule,
        back: 0,
    }
}

fn run(count: u32, costs: &[u32]) -> Run {
    Run {
        count,
        costs: costs.to_vec(),
        force: false,
    }
}

async fn asked<S: LimitStore>(
    store: &S,
    principal: &str,
    policies: &[(&str, Rule)],
    runs: Vec<Run>,
) -> Vec<Granted> {
    let entries = policies.iter().map(|(name, rule)| entry(name, *rule));
    let call = Call {
        principal: principal.into(),
        entries: entries.collect(),
        runs,
    };
    done(store.run(&call).await)
}

fn done<T, E: std::error::Error + 'static>(done: Result<T, E>) -> T {
    match done {
        Ok(done) => done,
        Err(error) => panic!("a call failed: {}", crate::Chain(&error)),
    }
}

async fn take<S: LimitStore>(store: &S, principal: &str, rule: Rule) -> Granted {
    let mut answers = asked(store, principal, &[("one", rule)], vec![run(1, &[1])]).await;
    answers.remove(0)
}

async fn use_up<S: LimitStore>(store: &S, principal: &str, rule: Rule) {
    for _ in 0..100 {
        if take(store, principal, rule).await.count == 0 {
            return;
        }
    }
    panic!("`{principal}` is never denied");
}

fn wait_of(answer: &Granted) -> Duration {
    assert_eq!(answer.count, 0, "admitted, but all was used up");
    let wait = answer.statuses[0].retry_after;
    wait.expect("one token is there some time")
}

/// Runs all futures at once.
async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    let mut turn = pin!(poll_fn(move |cx| {
        for (future, output) in &mut running {
            if output.is_none()
                && let Poll::Ready(ready) = future.as_mut().poll(cx)
            {
                *output = Some(ready);
            }
        }
        if running.iter().all(|(_, output)| output.is_some()) {
            return Poll::Ready(running.drain(..).filter_map(|(_, output)| output).collect());
        }
        Poll::Pending
    }));
    turn.as_mut().await
}
