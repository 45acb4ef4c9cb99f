//! From charges to a call of a store, and from its answer to standings.

use super::{Call, Charge, Entry, Granted, Run, Standing, Status};

/// The runs of one request: those policies that deny, then each shadow by itself.
pub(super) fn costs(charges: &[Charge]) -> Vec<Vec<u32>> {
    let shadow = |charge: &Charge| charge.policy.is_shadow();
    let deny = charges
        .iter()
        .map(|charge| if shadow(charge) { 0 } else { charge.cost });
    let mut all = vec![deny.collect()];
    for (at, charge) in charges.iter().enumerate().filter(|(_, it)| shadow(it)) {
        let mut alone = vec![0; charges.len()];
        alone[at] = charge.cost;
        all.push(alone);
    }
    all
}

/// A call that decides `count` requests of these charges.
pub(super) fn call(principal: &str, charges: &[Charge], count: u32, force: bool) -> Call {
    let runs = costs(charges).into_iter().map(|costs| Run {
        count,
        costs,
        force,
    });
    Call {
        principal: principal.into(),
        entries: charges.iter().map(entry).collect(),
        runs: runs.collect(),
    }
}

/// A call that gives back what these charges took.
pub(super) fn back(principal: &str, charges: &[Charge]) -> Call {
    let entries = charges.iter().map(|charge| Entry {
        back: charge.cost,
        ..entry(charge)
    });
    Call {
        principal: principal.into(),
        entries: entries.collect(),
        runs: Vec::new(),
    }
}

/// The same by one of so many equal parts of each rule.
#[cfg(feature = "redis")]
pub(super) fn share(mut call: Call, parts: u32) -> Call {
    for entry in &mut call.entries {
        entry.rule = entry.rule.part(parts);
    }
    call
}

pub(super) fn entry(charge: &Charge) -> Entry {
    Entry {
        policy: charge.policy.shared_name(),
        rule: *charge.policy.rule(),
        back: 0,
    }
}

/// How each charge's policy stands by the answers to a call that was made of these
/// charges alone.
///
/// Of a request that was only asked about, those deny that would deny it.
pub(super) fn of_one(charges: &[Charge], answers: &[Granted]) -> Option<Vec<Standing>> {
    let (deny, shadows) = answers.split_first()?;
    let mut shadows = shadows.iter();
    let mut standings = Vec::with_capacity(charges.len());
    for (place, charge) in charges.iter().enumerate() {
        let answer = match charge.policy.is_shadow() {
            true => shadows.next()?,
            false => deny,
        };
        let status = *answer.statuses.get(place)?;
        standings.push(standing(charge, status, answer.count > 0));
    }
    Some(standings)
}

pub(super) fn standing(charge: &Charge, status: Status, admitted: bool) -> Standing {
    Standing {
        policy: charge.policy.clone(),
        status,
        allowed: charge.cost == 0 || admitted || status.has_room(),
    }
}
