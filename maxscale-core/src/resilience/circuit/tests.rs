use std::convert::Infallible;
use std::future::{self, Ready};
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use tokio::sync::Semaphore;
use tokio::time::advance;
use tower::util::{ServiceExt as _, service_fn};
use tower_layer::Layer as _;
use tower_service::Service;

use super::*;
use crate::refusal::ReplyBody;
use crate::resilience::{Outcome, ResilienceError};

mod cancelled;

type Body = Empty<bytes::Bytes>;
type Answer = Result<Response<ReplyBody<Body>>, Infallible>;

const SECOND: Duration = Duration::from_secs(1);

/// Open for exactly one second.
fn builder() -> CircuitBuilder {
    Circuit::builder("upstream")
        .open_for(SECOND, SECOND)
        .random(|| 1.0)
}

fn end(circuit: &Circuit, outcome: Outcome) {
    circuit.pass().unwrap().end(outcome);
}

fn opened(builder: CircuitBuilder) -> Circuit {
    let circuit = builder.build().unwrap();
    for _ in 0..Circuit::DEFAULT_FAILURES {
        end(&circuit, Outcome::Failed);
    }
    assert_eq!(circuit.phase(), Phase::Open);
    circuit
}

fn request() -> Request<()> {
    Request::new(())
}

/// The status of the answer, where the upstream's would be `status`.
async fn ask(circuit: &Circuit, status: u16) -> u16 {
    let upstream = service_fn(move |_: Request<()>| async move {
        let answer = Response::builder().status(status);
        Ok::<_, Infallible>(answer.body(Body::new()).unwrap())
    });
    let layer = CircuitBreakerLayer::new(circuit.clone());
    let answer: Answer = layer.layer(upstream).oneshot(request()).await;
    answer.unwrap().status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn three_failures_in_a_row_open_it_and_a_good_probe_closes_it() {
    let circuit = builder().build().unwrap();
    for status in [500, 503, 200, 500, 504] {
        assert_eq!(ask(&circuit, status).await, status);
        assert_eq!(circuit.phase(), Phase::Closed);
    }
    assert_eq!(ask(&circuit, 500).await, 500);
    assert_eq!(ask(&circuit, 200).await, 503);
    advance(SECOND).await;
    assert_eq!(ask(&circuit, 500).await, 500);
    assert_eq!(ask(&circuit, 200).await, 503);
    advance(SECOND).await;
    assert_eq!(ask(&circuit, 200).await, 200);
    assert_eq!(circuit.phase(), Phase::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_back_or_given_up_is_neither_failure_nor_success() {
    let circuit = builder().build().unwrap();
    for outcome in [Outcome::Failed, Outcome::TimedOut] {
        end(&circuit, outcome);
        for neither in [Outcome::SentBack, Outcome::GivenUp] {
            (0..9).for_each(|_| end(&circuit, neither));
        }
        drop(circuit.pass().unwrap());
        assert_eq!(ask(&circuit, 429).await, 429);
        assert_eq!(circuit.phase(), Phase::Closed);
    }
    end(&circuit, Outcome::Failed);
    assert_eq!(circuit.phase(), Phase::Open);

    // A probe of which nothing is known leaves its place to another.
    advance(SECOND).await;
    assert_eq!(ask(&circuit, 429).await, 429);
    assert_eq!(circuit.phase(), Phase::HalfOpen);
    assert_eq!(ask(&circuit, 200).await, 200);
    assert_eq!(circuit.phase(), Phase::Closed);
}

/// Is never ready, and must not be asked.
#[derive(Clone)]
struct Stuck;

impl Service<Request<()>> for Stuck {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        panic!("polled behind an open circuit");
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        future::ready(Ok(Response::new(Body::new())))
    }
}

#[tokio::test(start_paused = true)]
async fn inner_service_is_not_polled_while_it_is_open() {
    let circuit = opened(builder());
    let answer = CircuitBreakerLayer::new(circuit.clone())
        .layer(Stuck)
        .oneshot(request())
        .await
        .unwrap();
    assert_eq!(answer.status(), 503);
    // One second, and a tenth more.
    assert_eq!(answer.headers()["retry-after"], "2");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["code"], "circuit_open");

    let grpc = Request::builder().header("content-type", "application/grpc");
    let answer = CircuitBreakerLayer::new(circuit)
        .layer(Stuck)
        .oneshot(grpc.body(()).unwrap())
        .await
        .unwrap();
    assert_eq!(answer.headers()["grpc-status"], "14");
    assert_eq!(answer.headers()["grpc-retry-pushback-ms"], "1100");
}

#[tokio::test(start_paused = true)]
async fn probe_that_never_ends_makes_room_for_another_and_is_late_then() {
    let circuit = opened(builder().probe_time(10 * SECOND));
    advance(SECOND).await;
    let stuck = circuit.pass().unwrap();
    advance(10 * SECOND - Duration::from_millis(1)).await;
    let refused = circuit.pass().unwrap_err();
    assert!(refused.retry_after > Some(Duration::ZERO));
    advance(Duration::from_millis(1)).await;
    let other = circuit.pass().unwrap();
    stuck.end(Outcome::Succeeded);
    assert_eq!(circuit.phase(), Phase::HalfOpen);
    assert_eq!(ask(&circuit, 200).await, 503);
    other.end(Outcome::Succeeded);
    assert_eq!(circuit.phase(), Phase::Closed);
}

#[tokio::test(start_paused = true)]
async fn call_that_began_before_says_nothing_of_now() {
    let circuit = builder().build().unwrap();
    let (early, late) = (circuit.pass().unwrap(), circuit.pass().unwrap());
    (0..3).for_each(|_| end(&circuit, Outcome::Failed));
    early.end(Outcome::Succeeded);
    assert_eq!(circuit.phase(), Phase::Open);
    advance(SECOND).await;
    let probe = circuit.pass().unwrap();
    late.end(Outcome::Failed);
    assert_eq!(circuit.phase(), Phase::HalfOpen);
    probe.end(Outcome::Succeeded);
    assert_eq!(circuit.phase(), Phase::Closed);
}

#[tokio::test(start_paused = true)]
async fn part_of_all_that_fails_opens_it_and_is_forgotten_with_the_window() {
    let rated = builder().failures(None).failure_rate(0.5).min_calls(10);
    let circuit = rated.window(10 * SECOND).build().unwrap();
    let turns = [Outcome::Failed, Outcome::Succeeded, Outcome::Succeeded];
    turns
        .iter()
        .cycle()
        .take(60)
        .for_each(|it| end(&circuit, *it));
    assert_eq!(circuit.phase(), Phase::Closed, "a third fails");
    advance(10 * SECOND).await;
    for _ in 0..9 {
        end(&circuit, Outcome::Failed);
        assert_eq!(circuit.phase(), Phase::Closed, "too few to conclude from");
    }
    end(&circuit, Outcome::Failed);
    assert_eq!(circuit.phase(), Phase::Open);

    advance(SECOND).await;
    end(&circuit, Outcome::Succeeded);
    end(&circuit, Outcome::Failed);
    assert_eq!(
        circuit.phase(),
        Phase::Closed,
        "what was before is forgotten"
    );
}

#[tokio::test(start_paused = true)]
async fn calls_that_take_long_open_it_also_when_they_are_given_up() {
    let slow = builder().slow_rate(0.5, SECOND).min_calls(4);
    let circuit = slow.build().unwrap();
    let [quick, slow, waiting] = [(); 3].map(|()| [(); 2].map(|()| circuit.pass().unwrap()));
    advance(SECOND - Duration::from_millis(1)).await;
    quick.into_iter().for_each(|it| it.end(Outcome::Succeeded));
    advance(Duration::from_millis(1)).await;
    slow.into_iter().for_each(|it| it.end(Outcome::Succeeded));
    assert_eq!(circuit.phase(), Phase::Open, "two of four");

    drop(waiting);
    advance(SECOND).await;
    let probe = circuit.pass().unwrap();
    advance(SECOND).await;
    probe.end(Outcome::Succeeded);
    assert_eq!(circuit.phase(), Phase::Open, "a slow probe shows nothing");

    advance(SECOND).await;
    end(&circuit, Outcome::Succeeded);
    let given_up = [(); 4].map(|()| circuit.pass().unwrap());
    advance(SECOND).await;
    drop(given_up);
    assert_eq!(
        circuit.phase(),
        Phase::Open,
        "nobody waited for the answers"
    );
}

#[tokio::test(start_paused = true)]
async fn dry_run_stops_nothing_and_goes_on_deciding() {
    let circuit = opened(builder().dry_run(true));
    assert_eq!(ask(&circuit, 200).await, 200);
    assert_eq!(circuit.phase(), Phase::Open, "no probe was due");
    assert_eq!(circuit.0.told.would_refuse.get(), 1);
    circuit.set_dry_run(false);
    assert_eq!(ask(&circuit, 200).await, 503);
    assert_eq!(circuit.0.told.refused.get(), 1);
    circuit.set_dry_run(true);
    advance(SECOND).await;
    assert_eq!(ask(&circuit, 200).await, 200);
    assert_eq!(circuit.phase(), Phase::Closed);
}

#[tokio::test(start_paused = true)]
async fn operator_holds_it_open_or_closed_whatever_happens() {
    let circuit = builder().build().unwrap();
    let before = circuit.pass().unwrap();
    circuit.force_open();
    before.end(Outcome::Succeeded);
    advance(100 * SECOND).await;
    assert_eq!(ask(&circuit, 200).await, 503);
    assert_eq!(circuit.pass().unwrap_err().retry_after, None);
    circuit.force_closed();
    for _ in 0..9 {
        assert_eq!(ask(&circuit, 500).await, 500);
    }
    circuit.release();
    assert_eq!(circuit.phase(), Phase::Closed);
    (0..3).for_each(|_| end(&circuit, Outcome::Failed));
    assert_eq!(circuit.phase(), Phase::Open);
}

#[tokio::test(start_paused = true)]
async fn rate_of_before_is_forgotten_when_the_operator_lets_go() {
    let rated = builder().failures(None).failure_rate(0.5).min_calls(10);
    let circuit = rated.build().unwrap();
    (0..9).for_each(|_| end(&circuit, Outcome::Failed));
    circuit.force_closed();
    circuit.release();
    end(&circuit, Outcome::Failed);
    assert_eq!(circuit.phase(), Phase::Closed);
}

/// Over and over: whoever comes first, as many as allowed are probes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_clones_exactly_the_allowed_ones_are_probes() {
    const PROBES: usize = 3;
    let short = Duration::from_millis(1);
    for _ in 0..30 {
        let circuit = opened(
            builder()
                .open_for(short, short)
                .probes(3)
                .probe_time(3_600 * SECOND),
        );
        let reached = Arc::new(AtomicUsize::new(0));
        let answers = Arc::new(Semaphore::new(0));
        let upstream = service_fn({
            let (reached, answers) = (reached.clone(), answers.clone());
            move |_: Request<()>| {
                let (reached, answers) = (reached.clone(), answers.clone());
                async move {
                    reached.fetch_add(1, Ordering::SeqCst);
                    answers.acquire().await.unwrap().forget();
                    Ok::<_, Infallible>(Response::new(Body::new()))
                }
            }
        });
        let breaker = CircuitBreakerLayer::new(circuit.clone()).layer(upstream);
        tokio::time::sleep(2 * short).await;

        let refused = Arc::new(Semaphore::new(0));
        let clones = (0..64).map(|_| {
            let (clone, refused) = (breaker.clone(), refused.clone());
            tokio::spawn(async move {
                let answer = clone.oneshot(request()).await.unwrap();
                if answer.status() == 503 {
                    refused.add_permits(1);
                }
                answer.status()
            })
        });
        let clones: Vec<_> = clones.collect();
        let all = u32::try_from(64 - PROBES).unwrap();
        let others = tokio::time::timeout(60 * SECOND, refused.acquire_many(all)).await;
        drop(others.expect("the others are refused").unwrap());
        answers.add_permits(64);
        let mut passed = 0;
        for clone in clones {
            passed += usize::from(clone.await.unwrap() == 200);
        }
        assert_eq!((reached.load(Ordering::SeqCst), passed), (PROBES, PROBES));
        assert_eq!(circuit.phase(), Phase::Closed);
    }
}

#[test]
fn values_that_cannot_be_are_named() {
    let day = Duration::from_secs(86_401);
    let cases = [
        ("failures", builder().failures(0)),
        ("failures", builder().failures(None)),
        ("failure_rate", builder().failure_rate(0.0)),
        ("failure_rate", builder().failure_rate(f64::NAN)),
        ("slow_rate", builder().slow_rate(1.1, SECOND)),
        ("slow_rate", builder().slow_rate(0.5, Duration::ZERO)),
        ("window", builder().window(day)),
        ("min_calls", builder().min_calls(0)),
        ("open_for", builder().open_for(2 * SECOND, SECOND)),
        ("open_for", builder().open_for(Duration::ZERO, SECOND)),
        ("probes", builder().probes(0)),
        ("probe_time", builder().probe_time(Duration::MAX)),
    ];
    for (field, builder) in cases {
        let error = builder.build().unwrap_err();
        assert_eq!(error, ResilienceError::Bounds { field });
    }
    assert!(
        builder()
            .failures(None)
            .slow_rate(1.0, SECOND)
            .build()
            .is_ok()
    );
}
