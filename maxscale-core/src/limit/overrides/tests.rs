use super::*;
use crate::clock::{Clock, ManualTime, Timestamp};
use crate::limit::{Decision, Edit, LocalLimits, Quota, Rate};

const HOUR: Duration = Duration::from_secs(3_600);

fn limits() -> (Limits, ManualTime) {
    let (clock, time) = Clock::manual(Timestamp::from_micros(0));
    (Limits::local(LocalLimits::new(clock)), time)
}

/// So many at once, and one more each minute.
fn rate(burst: u32) -> Rate {
    Rate::new(60, HOUR).unwrap().burst(burst).unwrap()
}

fn policy() -> Policy {
    Policy::new("requests", rate(2)).unwrap()
}

async fn admitted(limits: &Limits, principal: &str) -> usize {
    let mut admitted = 0;
    while limits.check(&policy(), principal).await.is_allowed() {
        admitted += 1;
    }
    admitted
}

#[tokio::test]
async fn override_holds_for_one_principal_until_it_ends() {
    let (limits, time) = limits();
    let minute = Duration::from_secs(60);
    limits
        .override_rule("ada", &policy(), rate(7), minute)
        .await
        .unwrap();
    assert_eq!(limits.overridden("ada", &policy()).unwrap().1, minute);
    assert_eq!(admitted(&limits, "ada").await, 7);
    assert_eq!(admitted(&limits, "bob").await, 2);
    time.advance(HOUR);
    assert_eq!(limits.overridden("ada", &policy()), None);
    assert_eq!(admitted(&limits, "ada").await, 2);

    limits
        .override_rule("bob", &policy(), rate(7), HOUR)
        .await
        .unwrap();
    limits.end_override("bob", &policy()).await.unwrap();
    assert_eq!(admitted(&limits, "bob").await, 2);
}

#[tokio::test]
async fn what_a_client_is_told_is_what_it_is_decided_by() {
    let (limits, _) = limits();
    let slower = Rate::new(30, HOUR).unwrap().burst(7).unwrap();
    limits
        .override_rule("ada", &policy(), slower, HOUR)
        .await
        .unwrap();
    let decision: Decision = limits.check(&policy(), "ada").await;
    let told = decision.standings()[0].policy.header();
    assert_eq!(told, "\"requests\";q=30;w=3600");
    let charges = [policy().into()];
    let peeked = limits.peek("ada", &charges).await;
    assert_eq!(peeked.standings()[0].status.remaining, 6);
    limits.give_back("ada", &charges).await;
    limits.charge("ada", &charges).await;
    let peeked = limits.peek("ada", &charges).await;
    assert_eq!(peeked.standings()[0].status.remaining, 6);
}

#[tokio::test]
async fn operator_resets_what_an_override_of_another_window_counts() {
    let (limits, _) = limits();
    let policy = Policy::new("much", Quota::new(1, HOUR).unwrap()).unwrap();
    let wide = Quota::new(3, 2 * HOUR).unwrap();
    limits
        .override_rule("ada", &policy, wide, HOUR)
        .await
        .unwrap();
    for _ in 0..3 {
        assert!(limits.check(&policy, "ada").await.is_allowed());
    }
    assert!(!limits.check(&policy, "ada").await.is_allowed());
    limits.edit("ada", &policy, Edit::Reset).await;
    assert!(limits.check(&policy, "ada").await.is_allowed());
}

#[tokio::test]
async fn override_that_cannot_be_is_refused() {
    let (limits, _) = limits();
    let other = Quota::new(7, HOUR).unwrap();
    let set = limits.override_rule("ada", &policy(), other, HOUR).await;
    assert!(matches!(set, Err(OverrideError::Kind { .. })), "{set:?}");
    let longest = Limits::LONGEST_OVERRIDE;
    for time in [
        Duration::ZERO,
        Duration::from_micros(999),
        longest + Duration::from_millis(1),
        Duration::MAX,
    ] {
        let set = limits.override_rule("ada", &policy(), rate(7), time).await;
        assert!(matches!(set, Err(OverrideError::Time)), "{time:?}: {set:?}");
    }
    for n in 0..Limits::MOST_OVERRIDES {
        limits
            .override_rule(&n.to_string(), &policy(), rate(7), longest)
            .await
            .unwrap();
    }
    let set = limits.override_rule("ada", &policy(), rate(7), HOUR).await;
    assert!(matches!(set, Err(OverrideError::Full)), "{set:?}");
    assert_eq!(admitted(&limits, "ada").await, 2);
}

#[cfg(feature = "redis")]
#[test]
fn rule_is_read_as_it_was_written() {
    let odd = Duration::from_micros(1_234_567);
    for rule in [
        Rule::from(Rate::new(100, odd).unwrap().burst(33).unwrap()),
        Quota::new(7, odd).unwrap().slices(3).unwrap().into(),
        Log::new(64, odd).unwrap().into(),
    ] {
        assert_eq!(read(&written(&rule)), Some(rule));
    }
    for text in [
        "",
        "rate",
        "rate 0 1 1",
        "rate 5 1000000",
        "lease 1 2 3",
        "log 65 1",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}
