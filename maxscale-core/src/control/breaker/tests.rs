use proptest::prelude::*;

use super::*;

#[test]
fn opens_after_failures_in_a_row_and_closes_on_a_successful_probe() {
    let start = Instant::now();
    let mut breaker = Breaker::new(BreakerConfig::default());
    breaker.failed(start);
    breaker.failed(start);
    breaker.succeeded();
    breaker.failed(start);
    breaker.failed(start);
    assert_eq!(breaker.permit(start), Permit::Go);
    assert!(breaker.failed(start));

    assert_eq!(breaker.permit(start), Permit::Stop);
    let later = start + Duration::from_millis(100);
    assert_eq!(breaker.permit(later), Permit::Probe);
    assert_eq!(breaker.permit(later), Permit::Stop);
    assert!(breaker.succeeded());
    assert_eq!(breaker.permit(later), Permit::Go);
}

fn events() -> impl Strategy<Value = (Event, u64)> {
    let event = prop_oneof![
        3 => Just(Event::Wanted),
        1 => Just(Event::Succeeded),
        4 => Just(Event::Failed),
    ];
    // Often none, so that much happens at one moment.
    (event, prop_oneof![Just(0), 0..300_u64])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Against a model that remembers all that has happened.
    #[test]
    fn it_stops_after_so_many_failures_in_a_row_and_lets_one_probe_through_at_a_time(
        failures in 0..5_u32,
        probe_ms in 1..200_u64,
        events in proptest::collection::vec(events(), 1..120),
    ) {
        let probe_every = Duration::from_millis(probe_ms);
        let config = BreakerConfig { failures, probe_every };
        let (mut breaker, mut now) = (Breaker::new(config), Instant::now());
        let (mut row, mut open_since, mut last_probe) = (0_u32, None, None);
        for (event, pause) in events {
            now += Duration::from_millis(pause);
            let (verdict, next) = breaker.on(now, event);
            let expected = match event {
                Event::Wanted => Verdict::Permit(match last_probe.max(open_since) {
                    None => Permit::Go,
                    Some(last) if now >= last + probe_every => {
                        last_probe = Some(now);
                        Permit::Probe
                    }
                    Some(_) => Permit::Stop,
                }),
                Event::Succeeded => {
                    row = 0;
                    last_probe = None;
                    let was_open = open_since.take().is_some();
                    if was_open { Verdict::Closes } else { Verdict::Stays }
                }
                Event::Failed => {
                    row += 1;
                    if open_since.is_none() && row >= failures.max(1) {
                        open_since = Some(now);
                        Verdict::Opens
                    } else {
                        Verdict::Stays
                    }
                }
                Event::Ended { .. } | Event::Tripped { .. } => unreachable!("not among them"),
            };
            prop_assert_eq!(verdict, expected);
            prop_assert_eq!(next.is_open(), open_since.is_some());
            // The same in place, for whoever holds a lock.
            let mut held = breaker;
            match event {
                Event::Wanted => {
                    prop_assert_eq!(Verdict::Permit(held.permit(now)), verdict);
                }
                Event::Succeeded => {
                    prop_assert_eq!(held.succeeded(), verdict == Verdict::Closes);
                }
                Event::Failed => {
                    prop_assert_eq!(held.failed(now), verdict == Verdict::Opens);
                }
                Event::Ended { .. } | Event::Tripped { .. } => unreachable!("not among them"),
            }
            prop_assert_eq!(held, next);
            breaker = next;
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// Three probes at a time of a second each; waits of 1, 2, 4 seconds.
fn probed() -> Breaker {
    let config = BreakerConfig {
        failures: 3,
        probe_every: SECOND,
    };
    Breaker::new(config).probed(Probing {
        probes: 3,
        probe_time: SECOND,
        longest_wait: 4 * SECOND,
    })
}

fn ended(breaker: &Breaker, end: End) -> Event {
    Event::Ended {
        era: breaker.era(),
        end,
        random: 1.0,
    }
}

fn tripped(breaker: &Breaker) -> Event {
    Event::Tripped {
        era: breaker.era(),
        random: 1.0,
    }
}

#[test]
fn waits_between_rounds_that_fail_double_and_begin_anew_after_a_success() {
    let (mut breaker, mut now) = (probed(), Instant::now());
    for waits in [1, 2, 4, 4].map(|n| n * SECOND) {
        let event = match breaker.phase() {
            Phase::Closed => tripped(&breaker),
            _ => ended(&breaker, End::Failed),
        };
        assert_eq!(breaker.hear(now, event), Verdict::Opens);
        assert_eq!(breaker.stops_until(), Some(Until::Then(now + waits)));
        assert_eq!(breaker.permit(now + waits / 2), Permit::Stop);
        now += waits;
        assert_eq!(breaker.permit(now), Permit::Probe);
    }
    for _ in 0..2 {
        assert_eq!(breaker.permit(now), Permit::Probe);
    }
    let verdicts = [(); 3].map(|()| breaker.hear(now, ended(&breaker, End::Succeeded)));
    assert_eq!(verdicts, [Verdict::Stays, Verdict::Stays, Verdict::Closes]);
    breaker.hear(now, tripped(&breaker));
    assert_eq!(breaker.stops_until(), Some(Until::Then(now + SECOND)));
}

#[test]
fn what_began_in_another_era_says_nothing() {
    let (mut breaker, now) = (probed(), Instant::now());
    let (straggler, failed) = (
        ended(&breaker, End::Succeeded),
        ended(&breaker, End::Failed),
    );
    breaker.hear(now, tripped(&breaker));
    assert_eq!(breaker.hear(now, straggler), Verdict::Stays);
    assert_eq!(breaker.phase(), Phase::Open);
    let later = now + SECOND;
    assert_eq!(breaker.permit(later), Permit::Probe);
    for event in [straggler, failed] {
        assert_eq!(breaker.hear(later, event), Verdict::Stays);
    }
    assert_eq!(breaker.phase(), Phase::HalfOpen);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Want,
    /// The probe at this place of those under way, or before, ends.
    End(usize, End),
}

fn steps() -> impl Strategy<Value = (Step, u64)> {
    let ends = [End::Succeeded, End::Nothing, End::Nothing, End::Failed];
    let end = (0..8_usize, proptest::sample::select(ends.to_vec()));
    let step = prop_oneof![
        Just(Step::Want),
        end.prop_map(|(at, end)| Step::End(at, end))
    ];
    (step, prop_oneof![3 => Just(0), 1 => 0..2_000_u64])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// From open to closed, against all probes that were ever let through.
    #[test]
    fn no_more_probes_are_under_way_than_allowed_and_none_wedges(
        probes in 1..5_u32,
        steps in proptest::collection::vec(steps(), 1..200),
    ) {
        let probing = Probing { probes, probe_time: SECOND, longest_wait: 4 * SECOND };
        let (mut breaker, mut now) = (probed().probed(probing), Instant::now());
        breaker.hear(now, tripped(&breaker));
        let mut under_way: Vec<(u32, Instant)> = Vec::new();
        let mut succeeded = 0;
        for (step, pause) in steps {
            now += Duration::from_millis(pause);
            match step {
                Step::Want => {
                    let before = breaker;
                    match breaker.permit(now) {
                        Permit::Probe => under_way.push((breaker.era(), now)),
                        Permit::Go => prop_assert_eq!(breaker.phase(), Phase::Closed),
                        Permit::Stop => {
                            prop_assert_eq!(before, breaker);
                            prop_assert!(before.stops_until().is_some());
                        }
                    }
                }
                Step::End(at, end) if !under_way.is_empty() => {
                    let (era, _) = under_way.swap_remove(at % under_way.len());
                    let current = era == breaker.era();
                    let verdict = breaker.hear(now, Event::Ended { era, end, random: 0.5 });
                    match (current, end) {
                        (true, End::Succeeded) => {
                            succeeded += 1;
                            prop_assert_eq!(verdict == Verdict::Closes, succeeded == probes);
                        }
                        (true, End::Failed) => {
                            succeeded = 0;
                            prop_assert_eq!(verdict, Verdict::Opens);
                        }
                        _ => prop_assert_eq!(verdict, Verdict::Stays),
                    }
                    if verdict == Verdict::Closes {
                        return Ok(());
                    }
                }
                Step::End(..) => {}
            }
            let current = under_way.iter().filter(|(era, _)| *era == breaker.era());
            prop_assert!(u32::try_from(current.count()).unwrap() + succeeded <= probes);
        }
        // Whatever is still under way: after the longest wait one is let through.
        prop_assert_eq!(breaker.permit(now + 4 * SECOND), Permit::Probe);
    }
}
