use std::sync::atomic::AtomicUsize;

use tokio::time::sleep;

use super::*;

/// A server that is checked, by a check that never leaves this process.
struct Server {
    pulse: Arc<Pulse>,
    away: Arc<AtomicU8>,
    checks: Arc<AtomicUsize>,
}

/// How long a check of it takes.
const TAKES: Duration = Duration::from_millis(50);

/// How long three do: a failed one is not followed by the next at once.
const THREE: Duration = Duration::from_millis(250);

impl Server {
    fn new() -> Self {
        let (away, checks) = (Arc::new(AtomicU8::new(0)), Arc::new(AtomicUsize::new(0)));
        let (seen, counted) = (away.clone(), checks.clone());
        let check: Check = Box::new(move || {
            let seen = seen.clone();
            counted.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                sleep(TAKES).await;
                (seen.load(Ordering::Relaxed) > 0).then(|| "away".to_owned())
            })
        });
        Self {
            pulse: Pulse::new("server".into(), check),
            away,
            checks,
        }
    }

    fn is_away(&self, away: bool) {
        self.away.store(away.into(), Ordering::Relaxed);
    }

    fn checks(&self) -> usize {
        self.checks.load(Ordering::Relaxed)
    }

    fn is_suspect(&self) -> bool {
        self.pulse.health().is_suspect()
    }

    /// A statement whose caller waits no longer than `patience`.
    async fn silence(&self, patience: Duration) {
        let answer = pin!(std::future::pending::<()>());
        let statement = answer_within(Some(&self.pulse), Duration::MAX, answer);
        assert!(timeout(patience, statement).await.is_err());
    }

    async fn is_admitted(&self) -> bool {
        let connection = pin!(std::future::ready(()));
        self.pulse.admit(connection).await.is_ok()
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::test(start_paused = true)]
async fn three_failures_in_a_row_make_it_suspect_and_one_answer_in_between_does_not() {
    let server = Server::new();
    server.is_away(true);
    for _ in 0..5 {
        server.pulse.failed("reset".to_owned());
        server.pulse.failed("reset".to_owned());
        server.pulse.heard();
    }
    assert!(server.is_admitted().await);

    for _ in 0..3 {
        server.pulse.failed("reset".to_owned());
    }
    assert!(!server.is_admitted().await);
    assert_eq!(&*server.pulse.health().last_failure().unwrap().why, "reset");
}

#[tokio::test(start_paused = true)]
async fn it_is_well_again_when_a_check_says_so_and_no_call_was_the_probe() {
    let server = Server::new();
    server.is_away(true);
    for _ in 0..3 {
        server.pulse.failed("reset".to_owned());
    }
    sleep(Duration::from_secs(60)).await;
    let checks = server.checks();
    assert!((110..130).contains(&checks), "{checks}");
    for _ in 0..100 {
        assert!(!server.is_admitted().await);
    }
    assert_eq!(server.checks(), checks);

    server.is_away(false);
    sleep(LONGEST_PAUSE + 2 * TAKES).await;
    assert!(server.is_admitted().await);
    let checks = server.checks();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(server.checks(), checks);
}

#[tokio::test(start_paused = true)]
async fn silence_is_no_failure_but_starts_checks_of_which_three_are() {
    let server = Server::new();
    server.is_away(true);
    server.silence(ms(20)).await;
    assert!(!server.is_suspect());
    sleep(THREE - ms(1)).await;
    assert!(!server.is_suspect());
    sleep(ms(2)).await;
    assert!(server.is_suspect());
    assert_eq!(server.checks(), 3);
}

/// It waits on, and need not end before it is checked.
#[tokio::test(start_paused = true)]
async fn call_that_waits_has_the_server_checked_after_200_ms() {
    let server = Server::new();
    tokio::join!(server.silence(Duration::from_secs(5)), async {
        sleep(DOUBT - ms(1)).await;
        assert_eq!(server.checks(), 0);
        sleep(ms(2)).await;
        assert_eq!(server.checks(), 1);
    });
}

#[tokio::test(start_paused = true)]
async fn many_who_wait_make_one_check_a_second_of_a_server_that_is_well() {
    let server = Server::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        server.silence(ms(5)).await;
    }
    let checks = server.checks();
    assert!((8..=10).contains(&checks), "{checks}");
    assert!(!server.is_suspect());
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_connection_is_refused_as_soon_as_the_server_is_suspect() {
    let server = Server::new();
    server.is_away(true);
    let start = Instant::now();
    let never = pin!(std::future::pending::<()>());
    let refused = timeout(Duration::from_secs(10), server.pulse.admit(never)).await;
    let refused = refused.unwrap().unwrap_err();
    assert_eq!(start.elapsed(), DOUBT + THREE);
    assert_eq!(&*refused.last_failure.unwrap().why, "away");
}

#[tokio::test(start_paused = true)]
async fn answer_to_a_call_that_was_under_way_ends_the_suspicion() {
    let server = Server::new();
    server.is_away(true);
    for _ in 0..3 {
        server.pulse.failed("reset".to_owned());
    }
    assert!(!server.is_admitted().await);
    server.pulse.heard();
    assert!(server.is_admitted().await);
    assert!(!server.is_suspect());
}

#[test]
fn server_that_became_suspect_on_a_runtime_that_is_gone_is_checked_on_the_next() {
    let server = Server::new();
    server.is_away(true);
    let runtime = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap()
    };
    runtime().block_on(async {
        for _ in 0..3 {
            server.pulse.failed("reset".to_owned());
        }
        sleep(ms(1)).await;
    });
    assert_eq!(server.checks(), 1);

    server.is_away(false);
    runtime().block_on(async {
        assert!(!server.is_admitted().await);
        sleep(2 * TAKES).await;
        assert!(server.is_admitted().await);
    });
}

#[tokio::test(start_paused = true)]
async fn nobody_checks_a_server_that_nobody_uses_any_more() {
    let server = Server::new();
    server.is_away(true);
    for _ in 0..3 {
        server.pulse.failed("reset".to_owned());
    }
    sleep(ms(1)).await;
    let checks = server.checks.clone();
    drop(server);
    let before = checks.load(Ordering::Relaxed);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(checks.load(Ordering::Relaxed), before);
}

/// A runtime that ends drops what was under way, and whatever is spawned then.
#[test]
fn call_that_ends_with_its_runtime_has_nothing_checked() {
    let server = Arc::new(Server::new());
    let (ended, end) = std::sync::mpsc::channel();
    let shared = server.clone();
    std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().unwrap();
        runtime.spawn(async move { shared.silence(Duration::MAX).await });
        runtime.block_on(tokio::task::yield_now());
        drop(runtime);
        let _ = ended.send(());
    });
    assert!(end.recv_timeout(Duration::from_secs(10)).is_ok());
    assert_eq!(server.checks(), 0);
    assert!(!server.pulse.known().checking);
}
