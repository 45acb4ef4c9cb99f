use super::*;
use crate::clock::{Clock, ManualTime, Timestamp};
use crate::limit::{LocalLimits, Log, Quota};

fn local() -> (Limits, ManualTime) {
    let (clock, time) = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000));
    (Limits::local(LocalLimits::new(clock)), time)
}

fn attempts(limits: &Limits) -> Attempts {
    Attempts::builder("login", limits).build().unwrap()
}

fn wait_of(refused: Result<Attempt, AttemptError>) -> Duration {
    match refused.unwrap_err() {
        AttemptError::TooMany { retry_after, .. } => retry_after,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn wait_after_each_failure_is_told_truly_and_doubles() {
    let (limits, time) = local();
    let attempts = attempts(&limits);
    for seconds in [1, 2, 4, 8] {
        let attempt = attempts.begin("ann", "a").await.unwrap();
        let wait = attempt.failed().await.unwrap();
        assert_eq!(wait, Duration::from_secs(seconds));
        assert_eq!(wait_of(attempts.begin("ann", "a").await), wait);
        time.advance(wait - Duration::from_micros(1));
        assert!(attempts.begin("ann", "a").await.is_err());
        time.advance(Duration::from_micros(1));
    }
    // The fifth in fifteen minutes; before it, fifteen seconds have passed.
    let last = attempts.begin("ann", "a").await.unwrap();
    let wait = last.failed().await.unwrap();
    assert_eq!(wait, Duration::from_secs(900 - 15));
    time.advance(wait);
    assert!(attempts.begin("ann", "a").await.is_ok());
}

#[tokio::test]
async fn attempt_that_is_dropped_has_failed() {
    let (limits, _) = local();
    let attempts = attempts(&limits);
    drop(attempts.begin("ann", "a").await.unwrap());
    let wait = wait_of(attempts.begin("ann", "a").await);
    assert_eq!(wait, Duration::from_secs(1));
}

#[tokio::test]
async fn attempt_that_was_not_checked_is_as_if_it_had_not_begun() {
    let (limits, _) = local();
    let attempts = attempts(&limits);
    let failed = attempts.begin("ann", "a").await.unwrap();
    for account in 0..200 {
        let account = format!("{account}");
        let attempt = attempts.begin(&account, "a").await.unwrap();
        attempt.withdrawn().await;
    }
    assert_eq!(failed.failed().await, Some(Duration::from_secs(1)));
}

#[tokio::test]
async fn client_that_succeeded_tries_on_while_strangers_must_wait() {
    let (limits, time) = local();
    let attempts = attempts(&limits);
    attempts
        .begin("ann", "home")
        .await
        .unwrap()
        .succeeded()
        .await;
    for client in 0..50 {
        let client = format!("bot {client}");
        drop(attempts.begin("ann", &client).await.unwrap());
    }
    assert!(attempts.begin("ann", "bot 50").await.is_err());
    assert!(attempts.begin("bob", "bot 50").await.is_ok());
    let home = attempts.begin("ann", "home").await.unwrap();
    assert!(home.is_known());
    home.succeeded().await;
    // And it is a stranger once it was not here for long.
    time.advance(Attempts::DEFAULT_KNOWN_FOR);
    assert!(!attempts.begin("ann", "home").await.unwrap().is_known());
}

#[tokio::test]
async fn client_that_tries_many_accounts_is_stopped_where_it_is_a_stranger() {
    let (limits, _) = local();
    let attempts = attempts(&limits);
    attempts.begin("own", "a").await.unwrap().succeeded().await;
    for account in 0..100 {
        drop(attempts.begin(&format!("{account}"), "a").await.unwrap());
    }
    assert!(attempts.begin("another", "a").await.is_err());
    // What was refused is counted nowhere, and a success elsewhere gives nothing back.
    attempts.begin("own", "a").await.unwrap().succeeded().await;
    assert!(attempts.begin("another", "a").await.is_err());
    for _ in 0..Attempts::DEFAULT_PER_ACCOUNT {
        let refused = attempts.begin("another", "a").await;
        assert!(wait_of(refused) > Duration::from_secs(60));
    }
    assert!(attempts.begin("another", "b").await.is_ok());
}

#[test]
fn attempts_that_would_not_limit_are_refused() {
    let (limits, _) = local();
    let builder = || Attempts::builder("login", &limits);
    let hour = Duration::from_secs(3_600);
    let refused = |builder: AttemptsBuilder| builder.build().unwrap_err();
    let open = refused(builder().when_down(Down::Open));
    assert!(matches!(open, AttemptsError::Open));
    let few = refused(builder().per_account(Log::new(4, hour).unwrap()));
    assert!(matches!(few, AttemptsError::Account { account: 4 }));
    for (first, longest) in [(0, 9), (9, 1), (1, u64::MAX)] {
        let [first, longest] = [first, longest].map(Duration::from_secs);
        let wait = refused(builder().backoff(first, longest));
        assert!(matches!(wait, AttemptsError::Backoff));
    }
    for time in [Duration::ZERO, Duration::MAX] {
        let known = refused(builder().known_for(time));
        assert!(matches!(known, AttemptsError::KnownFor));
    }
    let name = Attempts::builder("a b", &limits).build().unwrap_err();
    assert!(matches!(name, AttemptsError::Name(_)));
    let all = builder()
        .per_pair(Log::new(3, hour).unwrap())
        .per_account(Log::new(64, hour).unwrap())
        .per_client(Quota::new(10, hour).unwrap())
        .when_down(Down::Closed);
    assert!(all.build().is_ok());
}
