use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What `n` answers of `kind` took.
fn add(samples: &mut Samples<u8>, kind: u8, took: u64, n: usize, at: Instant) {
    for _ in 0..n {
        samples.add(kind, ms(took), at);
    }
}

fn samples() -> (Samples<u8>, Instant) {
    (Samples::new(ms(50), ms(5_000)), Instant::now())
}

#[test]
fn floor_is_the_slowest_kind_however_rare_it_is() {
    let (mut samples, now) = samples();
    assert_eq!(samples.floor(), ms(50));
    add(&mut samples, 1, 80, 10, now);
    add(&mut samples, 2, 20, 1_000, now);
    assert_eq!(samples.floor(), ms(80));
}

#[test]
fn one_of_a_hundred_does_not_lift_it() {
    let (mut samples, now) = samples();
    add(&mut samples, 1, 900, 2, now);
    add(&mut samples, 1, 60, 254, now);
    assert_eq!(samples.floor(), ms(60));
    add(&mut samples, 1, 900, 32, now);
    assert_eq!(samples.floor(), ms(900));
}

#[test]
fn floor_stays_within_its_bounds() {
    let (mut samples, now) = samples();
    add(&mut samples, 1, 10, 100, now);
    assert_eq!(samples.floor(), ms(50));
    add(&mut samples, 1, 60_000, 300, now);
    assert_eq!(samples.floor(), ms(5_000));
    samples.set_most(ms(100));
    assert_eq!(samples.floor(), ms(100));
}

#[test]
fn flood_that_is_over_is_forgotten_by_kinds_that_are_rare() {
    let (mut samples, now) = samples();
    add(&mut samples, 1, 2_000, 16, now);
    assert_eq!(samples.floor(), ms(2_000));
    let later = now + ms(599_000);
    add(&mut samples, 2, 60, 300, later);
    assert_eq!(samples.floor(), ms(2_000));
    add(&mut samples, 2, 60, 1, later + ms(2_000));
    assert_eq!(samples.floor(), ms(60));
}

#[tokio::test(start_paused = true)]
async fn answers_of_all_kinds_take_as_long() {
    let floor = Floor::new(ms(40));
    for (kind, took) in [(1_u8, 0), (2, 30), (3, 79)] {
        let begun = Instant::now();
        let held = floor.begin();
        tokio::time::sleep(ms(took)).await;
        held.until_floor(kind).await;
        assert_eq!(begun.elapsed(), ms(80), "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn answer_that_is_late_is_not_held_and_lifts_the_floor() {
    let floor = Floor::new(ms(40)).least(ms(90)).most(ms(1_000));
    let held = floor.begin();
    let begun = Instant::now();
    tokio::time::sleep(ms(200)).await;
    held.until_floor(1_u8).await;
    assert_eq!(begun.elapsed(), ms(200));
    assert_eq!(floor.now(), ms(200));
    let begun = Instant::now();
    floor.clone().begin().until_floor(2).await;
    assert_eq!(begun.elapsed(), ms(200));
}
