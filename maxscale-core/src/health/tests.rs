use std::future::{pending, ready};
use std::sync::atomic::AtomicUsize;

use tokio::time::{Instant, sleep};

use super::*;

type Outcome = Result<(), BoxError>;

fn health() -> Health {
    Health::new(Clock::system(), "1.2.3")
}

/// A check that passes or fails as the switch says, and counts its runs.
fn switched() -> (
    Arc<AtomicBool>,
    Arc<AtomicUsize>,
    impl Fn() -> std::future::Ready<Outcome>,
) {
    let (passing, runs) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (switch, count) = (passing.clone(), runs.clone());
    let check = move || {
        count.fetch_add(1, Ordering::SeqCst);
        ready(if switch.load(Ordering::SeqCst) {
            Ok(())
        } else {
            Err("connection refused".into())
        })
    };
    (passing, runs, check)
}

fn status(health: &Health) -> Status {
    health.report().checks[0].status
}

/// Waits until `done`, for a minute of tokio's clock at most.
async fn until(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "never came true");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn critical_check_without_a_result_is_not_ready() {
    let health = health();
    health.register("db", Importance::Critical, || ready(Ok(())));
    assert!(!health.is_ready());
    until(|| health.is_ready()).await;
    assert_eq!(health.report().overall, Overall::Ok);
}

#[tokio::test(start_paused = true)]
async fn check_goes_down_after_three_failures_and_up_after_two_passes() {
    let health = health();
    let (passing, runs, check) = switched();
    health.register("db", Importance::Critical, check);
    until(|| status(&health) == Status::Up).await;

    passing.store(false, Ordering::SeqCst);
    let before = runs.load(Ordering::SeqCst);
    until(|| status(&health) == Status::Down).await;
    assert_eq!(runs.load(Ordering::SeqCst) - before, 3);
    assert!(!health.is_ready());
    let report = health.report();
    assert_eq!(
        report.checks[0].error.as_deref(),
        Some("connection refused")
    );

    passing.store(true, Ordering::SeqCst);
    let before = runs.load(Ordering::SeqCst);
    until(|| status(&health) == Status::Up).await;
    assert_eq!(runs.load(Ordering::SeqCst) - before, 2);
    assert!(health.is_ready());
}

#[tokio::test(start_paused = true)]
async fn degrading_check_leaves_the_process_ready() {
    let health = health();
    health.register("redis", Importance::Degrading, || ready(Err("gone".into())));
    until(|| status(&health) == Status::Down).await;
    assert!(health.is_ready());
    assert_eq!(health.report().overall, Overall::Degraded);
}

#[tokio::test(start_paused = true)]
async fn hung_check_has_failed() {
    let health = health();
    health.register("db", Importance::Critical, pending::<Outcome>);
    until(|| status(&health) == Status::Down).await;
    let report = health.report();
    assert_eq!(report.checks[0].error.as_deref(), Some("no answer in time"));
}

#[tokio::test(start_paused = true)]
async fn panicking_check_has_failed_and_runs_again() {
    let health = health();
    let (passing, _, check) = switched();
    passing.store(false, Ordering::SeqCst);
    health.register("db", Importance::Critical, move || {
        let outcome = check();
        async move { outcome.await.map_err(|_| panic!("a defect in the check")) }
    });
    until(|| status(&health) == Status::Down).await;
    assert_eq!(
        health.report().checks[0].error.as_deref(),
        Some("the check panicked")
    );

    passing.store(true, Ordering::SeqCst);
    until(|| status(&health) == Status::Up).await;
}

/// Aborting cannot stop a run that holds its thread: without care each interval adds one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn run_that_blocks_its_thread_is_not_joined_by_a_second() {
    let pace = Pace {
        interval: Duration::from_millis(5),
        timeout: Duration::from_millis(5),
    };
    let health = Health::paced(Clock::system(), "1.2.3", pace);
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    let runs = Arc::new(AtomicUsize::new(0));
    let count = runs.clone();
    health.register("blocks", Importance::Critical, move || {
        count.fetch_add(1, Ordering::SeqCst);
        let blocked = blocked.clone();
        // The limit lets a failing test end: blocked threads also hold up its timer.
        let limit = Duration::from_secs(2);
        async move {
            let blocked = blocked.lock().unwrap();
            blocked.recv_timeout(limit).map_err(BoxError::from)
        }
    });
    let (_passing, witness, check) = switched();
    health.register("witness", Importance::Critical, check);

    until(|| witness.load(Ordering::SeqCst) >= 20).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(status(&health), Status::Down);
    drop(release);
}

#[tokio::test(start_paused = true)]
async fn checks_stop_with_the_last_handle() {
    let health = health();
    let (_passing, runs, check) = switched();
    health.register("db", Importance::Critical, check);
    let clone = health.clone();
    drop(health);
    until(|| runs.load(Ordering::SeqCst) >= 3).await;

    drop(clone);
    let stopped_at = runs.load(Ordering::SeqCst);
    // Five intervals on the paused clock.
    let end = Instant::now() + 5 * Health::INTERVAL;
    until(|| Instant::now() >= end).await;
    assert_eq!(runs.load(Ordering::SeqCst), stopped_at);
}

#[tokio::test(start_paused = true)]
async fn error_is_shown_without_its_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot connect to eu-1")]
    struct Connect(#[source] std::io::Error);

    let health = health();
    health.register("eu-1", Importance::Critical, || {
        let cause = std::io::Error::other("postgres://app:hunter2@eu-1");
        ready(Err(Connect(cause).into()))
    });
    until(|| status(&health) == Status::Down).await;
    assert_eq!(
        health.report().checks[0].error.as_deref(),
        Some("cannot connect to eu-1")
    );
}

#[cfg(feature = "axum")]
mod over_http {
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use http_body_util::BodyExt;
    use tower::util::ServiceExt;

    use super::*;

    async fn get(health: &Health, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = routes(health.clone()).oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn livez_stays_while_everything_else_is_down() {
        let health = health();
        health.register("db", Importance::Critical, || ready(Err("gone".into())));
        health.set_draining();
        until(|| status(&health) == Status::Down).await;
        assert_eq!(get(&health, "/livez").await.0, StatusCode::OK);
        assert_eq!(
            get(&health, "/readyz").await.0,
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(
            get(&health, "/health").await.0,
            StatusCode::SERVICE_UNAVAILABLE
        );
    }

    #[tokio::test]
    async fn draining_alone_makes_the_process_unready() {
        let health = health();
        assert_eq!(get(&health, "/readyz").await.0, StatusCode::OK);
        health.set_draining();
        assert_eq!(
            get(&health, "/readyz").await.0,
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(get(&health, "/health").await.0, StatusCode::OK);
    }

    #[tokio::test(start_paused = true)]
    async fn tree_names_the_check_that_is_down() {
        let (clock, _) = Clock::manual(Timestamp::from_micros(951_782_400_000_000));
        let health = Health::new(clock, "1.2.3");
        health.register("redis", Importance::Degrading, || ready(Err("gone".into())));
        until(|| status(&health) == Status::Down).await;
        let (code, body) = get(&health, "/health").await;

        assert_eq!(code, StatusCode::OK);
        assert_eq!(
            body,
            concat!(
                r#"{"status":"degraded","version":"1.2.3","draining":false,"checks":["#,
                r#"{"name":"redis","importance":"degrading","status":"down","#,
                r#""since":"2000-02-29T00:00:00Z","error":"gone"}]}"#,
            )
        );
    }

    #[tokio::test]
    async fn probes_and_tree_may_stand_on_addresses_of_their_own() {
        let app = || axum::Router::new().route("/", axum::routing::get(async || "app"));
        let main = app().merge(probes(health()));
        let private = app().merge(tree(health()));
        let found = async |router: &axum::Router, path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap().status() == StatusCode::OK
        };
        for (path, on_main, on_private) in [
            ("/", true, true),
            ("/livez", true, false),
            ("/readyz", true, false),
            ("/health", false, true),
        ] {
            assert_eq!(found(&main, path).await, on_main, "{path}");
            assert_eq!(found(&private, path).await, on_private, "{path}");
        }
    }
}
