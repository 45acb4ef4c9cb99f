use std::future::{pending, ready};
use std::sync::atomic::AtomicUsize;

use tokio::time::{Instant, sleep};

use super::*;
use crate::clock::Timestamp;

type Outcome = Result<(), BoxError>;

fn health() -> Health {
    Health::new(Clock::system(), "1.2.3")
}

/// For what needs real time: threads that block keep no paused clock.
fn quick() -> Health {
    let mut builder = Health::builder(Clock::system(), "1.2.3");
    builder.pace.interval = Duration::from_millis(5);
    builder.pace.timeout = Duration::from_millis(5);
    builder.build()
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
    health.register(Place::NODES, "db", Importance::Critical, || ready(Ok(())));
    assert!(!health.is_ready());
    until(|| health.is_ready()).await;
    assert_eq!(health.report().overall, Overall::Ok);
}

#[tokio::test(start_paused = true)]
async fn check_goes_down_after_three_failures_and_up_after_two_passes() {
    let health = health();
    let (passing, runs, check) = switched();
    health.register(Place::NODES, "db", Importance::Critical, check);
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
    health.register(Place::NODES, "redis", Importance::Degrading, || {
        ready(Err("gone".into()))
    });
    until(|| status(&health) == Status::Down).await;
    assert!(health.is_ready());
    assert_eq!(health.report().overall, Overall::Degraded);
}

#[tokio::test(start_paused = true)]
async fn hung_check_has_failed() {
    let health = health();
    health.register(Place::NODES, "db", Importance::Critical, pending::<Outcome>);
    until(|| status(&health) == Status::Down).await;
    let report = health.report();
    assert_eq!(report.checks[0].error.as_deref(), Some("no answer in time"));
}

#[tokio::test(start_paused = true)]
async fn panicking_check_has_failed_and_runs_again() {
    let health = health();
    let (passing, _, check) = switched();
    passing.store(false, Ordering::SeqCst);
    health.register(Place::NODES, "db", Importance::Critical, move || {
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
    let health = quick();
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    let runs = Arc::new(AtomicUsize::new(0));
    let count = runs.clone();
    health.register(Place::NODES, "blocks", Importance::Critical, move || {
        count.fetch_add(1, Ordering::SeqCst);
        let blocked = blocked.clone();
        // The limit lets a failing test end: blocked threads also hold up its timer.
        let limit = Duration::from_secs(60);
        async move {
            let blocked = blocked.lock().unwrap();
            blocked.recv_timeout(limit).map_err(BoxError::from)
        }
    });
    let (_passing, witness, check) = switched();
    health.register(Place::NODES, "witness", Importance::Critical, check);

    until(|| witness.load(Ordering::SeqCst) >= 20).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(status(&health), Status::Down);
    drop(release);
}

#[tokio::test(start_paused = true)]
async fn checks_stop_with_the_last_handle() {
    let health = health();
    let (_passing, runs, check) = switched();
    health.register(Place::NODES, "db", Importance::Critical, check);
    let clone = health.clone();
    drop(health);
    until(|| runs.load(Ordering::SeqCst) >= 3).await;

    drop(clone);
    let stopped_at = runs.load(Ordering::SeqCst);
    // Five intervals at least on the paused clock.
    let end = Instant::now() + 6 * Health::INTERVAL;
    until(|| Instant::now() >= end).await;
    assert_eq!(runs.load(Ordering::SeqCst), stopped_at);
}

#[tokio::test(start_paused = true)]
async fn info_check_that_is_down_is_named_and_nothing_else_is_down() {
    let health = health();
    health.register(Place::BUS, "lag", Importance::Info, || {
        ready(Err("behind".into()))
    });
    until(|| status(&health) == Status::Down).await;
    assert!(health.is_ready());
    let report = health.report();
    assert_eq!(report.overall, Overall::Ok);
    assert_eq!(report.branches()[0].overall, Overall::Ok);
}

#[tokio::test(start_paused = true)]
async fn place_is_as_bad_as_the_worst_of_its_checks_and_stands_in_the_tree_s_order() {
    let health = health();
    let (mail, degrading) = (Place::new("mail"), Importance::Degrading);
    health.register(mail, "smtp", Importance::Info, || ready(Ok(())));
    health.register(Place::QUEUE, "jobs", degrading, || ready(Ok(())));
    health.register(Place::NODES, "node-1", degrading, || ready(Ok(())));
    health.register(Place::NODES, "node-2", degrading, || {
        ready(Err("gone".into()))
    });
    let pending = |check: &CheckReport| check.status == Status::Pending;
    until(|| !health.report().checks.iter().any(pending)).await;

    let report = health.report();
    let branches = report.branches();
    let seen: Vec<_> = branches
        .iter()
        .map(|branch| (branch.place.name(), branch.overall, branch.checks.len()))
        .collect();
    assert_eq!(
        seen,
        [
            ("nodes", Overall::Degraded, 2),
            ("queue", Overall::Ok, 1),
            ("mail", Overall::Ok, 1),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn start_is_over_when_each_critical_check_has_passed_once_and_stays_over() {
    let health = health();
    let (passing, _, check) = switched();
    passing.store(false, Ordering::SeqCst);
    health.register(Place::NODES, "db", Importance::Critical, check);
    health.register(Place::REDIS, "redis", Importance::Degrading, || {
        ready(Err("gone".into()))
    });
    until(|| status(&health) == Status::Down).await;
    assert!(!health.is_started());

    passing.store(true, Ordering::SeqCst);
    until(|| health.is_started()).await;

    passing.store(false, Ordering::SeqCst);
    until(|| !health.is_ready()).await;
    assert!(health.is_started());
    health.register(
        Place::NODES,
        "late",
        Importance::Critical,
        pending::<Outcome>,
    );
    assert!(health.is_started());
}

/// The time between runs of a check, for one draw.
async fn interval(random: f64) -> Duration {
    let health = Health::builder(Clock::system(), "1.2.3")
        .random(move || random)
        .build();
    let starts = Arc::new(Mutex::new(Vec::new()));
    let seen = starts.clone();
    health.register(Place::NODES, "db", Importance::Info, move || {
        seen.lock().unwrap().push(Instant::now());
        ready(Ok(()))
    });
    until(|| starts.lock().unwrap().len() >= 2).await;
    let starts = starts.lock().unwrap();
    starts[1] - starts[0]
}

#[tokio::test(start_paused = true)]
async fn interval_is_drawn_from_a_fifth_less_to_a_fifth_more() {
    for (random, millis) in [(0.0, 1_600), (0.5, 2_000), (1.0, 2_400), (f64::NAN, 2_000)] {
        let interval = interval(random).await;
        // tokio's timers are exact to a millisecond.
        let off = interval.abs_diff(Duration::from_millis(millis));
        assert!(off <= Duration::from_millis(2), "{random}: {interval:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn result_that_nobody_renews_is_no_longer_believed() {
    let health = health();
    let (_passing, _, check) = switched();
    health.register(Place::NODES, "db", Importance::Critical, check);
    until(|| status(&health) == Status::Up).await;
    // Without the task that runs the check, as if its thread were blocked.
    health.checks()["db"].lose();
    until(|| status(&health) == Status::Down).await;
    let report = health.report();
    assert_eq!(report.checks[0].error.as_deref(), Some("no answer in time"));

    health.shutdown();
    assert_eq!(status(&health), Status::Up);
}

/// A hook that notes what it is told.
fn noting(health: &Health) -> Arc<Mutex<Vec<(String, Status, Status)>>> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let notes = told.clone();
    health.on_transition(move |name, from, to| {
        notes.lock().unwrap().push((name.to_owned(), from, to));
    });
    told
}

#[tokio::test]
async fn hook_is_told_each_change_in_order() {
    let health = quick();
    let (passing, _, check) = switched();
    let told = noting(&health);
    health.register(Place::NODES, "db", Importance::Critical, check);
    until(|| status(&health) == Status::Up).await;
    passing.store(false, Ordering::SeqCst);
    until(|| status(&health) == Status::Down).await;
    passing.store(true, Ordering::SeqCst);
    until(|| status(&health) == Status::Up).await;

    until(|| told.lock().unwrap().len() == 3).await;
    let db = |from, to| ("db".to_owned(), from, to);
    assert_eq!(
        *told.lock().unwrap(),
        [
            db(Status::Pending, Status::Up),
            db(Status::Up, Status::Down),
            db(Status::Down, Status::Up),
        ]
    );
}

#[tokio::test]
async fn hooks_that_panic_or_block_hold_up_no_check_and_no_other_hook() {
    let health = quick();
    let (passing, _, check) = switched();
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Mutex::new(blocked);
    health.on_transition(|_, _, _| panic!("a defect in the hook"));
    health.on_transition(move |_, _, _| {
        // The limit lets a failing test end.
        let limit = Duration::from_secs(60);
        let _ = blocked.lock().unwrap().recv_timeout(limit);
    });
    let told = noting(&health);
    let start = Instant::now();
    health.register(Place::NODES, "db", Importance::Critical, check);
    until(|| status(&health) == Status::Up).await;
    passing.store(false, Ordering::SeqCst);
    until(|| status(&health) == Status::Down).await;
    until(|| told.lock().unwrap().len() == 2).await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(48), "{took:?}");
    drop(release);
}

#[tokio::test(start_paused = true)]
async fn error_is_shown_without_its_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot connect to eu-1")]
    struct Connect(#[source] std::io::Error);

    let health = health();
    health.register(Place::NODES, "eu-1", Importance::Critical, || {
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
        health.register(Place::NODES, "db", Importance::Critical, || {
            ready(Err("gone".into()))
        });
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
    async fn tree_names_the_check_that_is_down_below_its_place() {
        let (clock, _) = Clock::manual(Timestamp::from_micros(951_782_400_000_000));
        let health = Health::new(clock, "1.2.3");
        let degrading = Importance::Degrading;
        health.register(Place::APPLICATION, "map", degrading, pending::<Outcome>);
        health.register(Place::REDIS, "redis", degrading, || {
            ready(Err("gone".into()))
        });
        until(|| health.report().checks[1].status == Status::Down).await;
        let tree = concat!(
            r#"{"name":"application","status":"degraded","version":"1.2.3","draining":false,"#,
            r#""checks":[{"name":"map","importance":"degrading","status":"pending","#,
            r#""since":"2000-02-29T00:00:00Z","checked":null,"error":null}],"#,
            r#""parts":[{"name":"redis","status":"degraded","checks":["#,
            r#"{"name":"redis","importance":"degrading","status":"down","#,
            r#""since":"2000-02-29T00:00:00Z","checked":"2000-02-29T00:00:00Z","#,
            r#""error":"gone"}]}]}"#,
        );
        for path in ["/health", "/api/system/health"] {
            assert_eq!(
                get(&health, path).await,
                (StatusCode::OK, tree.to_owned()),
                "{path}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn startupz_answers_503_until_the_start_is_over() {
        let health = health();
        let (passing, _, check) = switched();
        passing.store(false, Ordering::SeqCst);
        health.register(Place::NODES, "db", Importance::Critical, check);
        until(|| status(&health) == Status::Down).await;
        let starting = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(get(&health, "/startupz").await.0, starting);
        passing.store(true, Ordering::SeqCst);
        until(|| health.is_ready()).await;
        assert_eq!(get(&health, "/startupz").await.0, StatusCode::OK);
        health.set_draining();
        assert_eq!(get(&health, "/startupz").await.0, StatusCode::OK);
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
            ("/startupz", true, false),
            ("/health", false, true),
            ("/api/system/health", false, true),
        ] {
            assert_eq!(found(&main, path).await, on_main, "{path}");
            assert_eq!(found(&private, path).await, on_private, "{path}");
        }
    }
}
