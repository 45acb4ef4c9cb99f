//! What `take.lua` takes and replies.

use std::iter;

use crate::limit::{Call, Granted, Rule, Run, Status};
use crate::redis::{Reply, ScriptCall};

/// As the script knows the ways of a run.
const ADMIT: i64 = 0;
const ALL: i64 = 1;
const BACK: i64 = 2;

/// So many kinds of calls are told apart; more are rare, and looked for in vain.
const KINDS: usize = 16;

/// The places of calls that differ in their principals and names alone: the script
/// reads what they have in common once.
pub(super) fn alike(calls: &[Call]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (place, call) in calls.iter().enumerate() {
        let mut known = groups.iter_mut().rev().take(KINDS);
        match known.find(|group| are_alike(&calls[group[0]], call)) {
            Some(group) => group.push(place),
            None => groups.push(vec![place]),
        }
    }
    groups
}

fn are_alike(one: &Call, other: &Call) -> bool {
    let rules = |call: &Call| call.entries.len();
    let mut entries = one.entries.iter().zip(&other.entries);
    rules(one) == rules(other)
        && entries.all(|(one, other)| one.rule == other.rule && one.back == other.back)
        && one.runs == other.runs
}

/// Adds what follows the number of principals.
pub(super) fn described<'a>(mut take: ScriptCall<'a>, call: &Call) -> ScriptCall<'a> {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let policies = call.entries.len();
    let puts_back = call.entries.iter().any(|entry| entry.back > 0);
    take = take
        .arg(number(policies))
        .arg(number(call.runs.len() + usize::from(puts_back)));
    for entry in &call.entries {
        let [kind, a, b, c] = entry.rule.numbers();
        take = take.arg(kind).arg(a).arg(b);
        if let Rule::Quota(_) = entry.rule {
            take = take.arg(c);
        }
    }
    if puts_back {
        take = take.arg(BACK).arg(1);
        for entry in &call.entries {
            take = take.arg(i64::from(entry.back));
        }
    }
    for run in &call.runs {
        let way = if run.force { ALL } else { ADMIT };
        take = take.arg(way).arg(i64::from(run.count));
        for cost in costs(run).take(policies) {
            take = take.arg(i64::from(cost));
        }
    }
    take
}

/// What became of each call, by its place.
pub(super) fn answers(
    reply: Reply,
    calls: &[Call],
    groups: &[Vec<usize>],
) -> Option<Vec<Vec<Granted>>> {
    let numbers = reply.into_array()?;
    let mut numbers = numbers.iter().map_while(Reply::as_int);
    let mut all: Vec<_> = calls.iter().map(|_| Vec::new()).collect();
    for place in groups.iter().flatten() {
        all[*place] = answer(&mut numbers, &calls[*place])?;
    }
    Some(all)
}

fn answer(numbers: &mut impl Iterator<Item = i64>, call: &Call) -> Option<Vec<Granted>> {
    let mut all = Vec::with_capacity(call.runs.len());
    for run in &call.runs {
        let count = numbers.next()?.try_into().ok()?;
        let mut statuses = Vec::with_capacity(call.entries.len());
        for (entry, cost) in call.entries.iter().zip(costs(run)) {
            statuses.push(status(numbers, &entry.rule, cost)?);
        }
        all.push(Granted { count, statuses });
    }
    Some(all)
}

fn status(numbers: &mut impl Iterator<Item = i64>, rule: &Rule, cost: u32) -> Option<Status> {
    if let Rule::Rate(rate) = rule {
        return Some(match numbers.next()? {
            blocked @ ..0 => Status::new(0, Some(-blocked), -blocked),
            reset => rate.standing(reset, cost),
        });
    }
    let (left, wait, reset) = (numbers.next()?, numbers.next()?, numbers.next()?);
    let wait = (wait >= 0).then_some(wait);
    Some(Status::new(left.try_into().ok()?, wait, reset))
}

/// The costs of a run, of which those at the end may be left out.
fn costs(run: &Run) -> impl Iterator<Item = u32> {
    run.costs.iter().copied().chain(iter::repeat(0))
}
