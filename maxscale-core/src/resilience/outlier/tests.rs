use std::convert::Infallible;
use std::future::{self, Ready};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Request, Response};
use tokio::time::advance;
use tower::util::ServiceExt as _;
use tower_service::Service;

use super::*;
use crate::resilience::Outcome;

const SECOND: Duration = Duration::from_secs(1);

fn builder() -> EndpointsBuilder {
    Endpoints::builder("upstream").random(|| 0.0)
}

/// An endpoint that answers with a status, unless it is busy for ever.
#[derive(Clone, Copy, Debug)]
enum Endpoint {
    Answers(u16),
    Busy,
}

impl Service<Request<()>> for Endpoint {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        match self {
            Self::Answers(_) => Poll::Ready(Ok(())),
            Self::Busy => Poll::Pending,
        }
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        let Self::Answers(status) = self else {
            panic!("called before it was ready");
        };
        let answer = Response::builder().status(*status).body(());
        future::ready(Ok(answer.unwrap()))
    }
}

/// How many of `times` requests were answered with each of `statuses`.
async fn ask<const N: usize>(
    balanced: &Balanced<Endpoint>,
    times: usize,
    statuses: [u16; N],
) -> [usize; N] {
    let mut counts = [0; N];
    for _ in 0..times {
        let answer = balanced.clone().oneshot(Request::new(())).await.unwrap();
        for (count, status) in counts.iter_mut().zip(statuses) {
            *count += usize::from(answer.status() == status);
        }
    }
    counts
}

#[tokio::test(start_paused = true)]
async fn endpoint_that_fails_is_left_alone_for_its_time() {
    let endpoints = builder().build(&["a", "b", "c"]).unwrap();
    let services = [200, 503, 201].map(Endpoint::Answers).to_vec();
    let balanced = endpoints.balance(services).unwrap();
    let counts = ask(&balanced, 300, [200, 503, 201]).await;
    assert_eq!(counts[1], 3, "{counts:?}");
    assert!(counts[0].abs_diff(counts[2]) <= 10, "{counts:?}");
    assert_eq!(endpoints.ejected(), ["b".into()]);

    advance(30 * SECOND - Duration::from_millis(1)).await;
    assert_eq!(ask(&balanced, 100, [503]).await, [0]);
    advance(Duration::from_millis(1)).await;
    assert_eq!(endpoints.ejected(), []);
    assert_eq!(ask(&balanced, 100, [503]).await, [3]);
    advance(30 * SECOND).await;
    assert_eq!(endpoints.ejected(), ["b".into()], "longer each time");
}

#[tokio::test(start_paused = true)]
async fn of_two_that_both_fail_both_are_called() {
    let endpoints = builder().build(&["a", "b"]).unwrap();
    let services = [500, 503].map(Endpoint::Answers).to_vec();
    let balanced = endpoints.balance(services).unwrap();
    let counts = ask(&balanced, 100, [500, 503]).await;
    assert!(counts.iter().all(|count| *count > 40), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn busy_endpoint_is_passed_over_and_each_of_the_others_has_its_turn() {
    let endpoints = builder().build(&["a", "b", "c", "d"]).unwrap();
    let mut services = [200, 201, 202, 203].map(Endpoint::Answers).to_vec();
    services[2] = Endpoint::Busy;
    let balanced = endpoints.balance(services).unwrap();
    let counts = ask(&balanced, 300, [200, 201, 203]).await;
    assert_eq!(counts.iter().sum::<usize>(), 300);
    assert!(counts.iter().all(|count| *count >= 60), "{counts:?}");

    let busy = endpoints.balance(vec![Endpoint::Busy; 4]).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let ready = Service::<Request<()>>::poll_ready(&mut busy.clone(), &mut context);
    assert!(ready.is_pending());
}

#[tokio::test(start_paused = true)]
async fn less_busy_one_is_called() {
    let endpoints = builder().build(&["a", "b"]).unwrap();
    let calls: Vec<_> = (0..10).map(|_| endpoints.call()).collect();
    assert_eq!([endpoints.active(0), endpoints.active(1)], [5, 5]);
    let (first, second): (Vec<_>, Vec<_>) = calls.into_iter().partition(|it| it.at() == 0);
    drop(first);
    let calls: Vec<_> = (0..5).map(|_| endpoints.call()).collect();
    assert!(calls.iter().all(|it| it.at() == 0));
    drop((second, calls));
    assert_eq!([endpoints.active(0), endpoints.active(1)], [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn dry_run_leaves_none_alone_and_counts() {
    let endpoints = builder().dry_run(true).build(&["a", "b"]).unwrap();
    let services = [200, 503].map(Endpoint::Answers).to_vec();
    let balanced = endpoints.balance(services).unwrap();
    let [failed] = ask(&balanced, 100, [503]).await;
    assert!(failed > 40, "{failed}");
    let counts = endpoints.0.ejections[1].each_ref().map(HotCounter::get);
    assert_eq!(counts, [0, 1]);
    endpoints.set_dry_run(false);
    assert_eq!(ask(&balanced, 100, [503]).await, [0]);
}

/// Threads that end calls at once: what is told of the set is what the lock has.
#[test]
fn what_is_told_without_a_lock_is_what_is_known() {
    let endpoints = builder().build(&["a", "b", "c", "d", "e"]).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let endpoints = &endpoints;
            scope.spawn(move || {
                for turn in 0..2_000_usize {
                    let call = endpoints.call();
                    let fails = call.at() < 2 && turn % 8 != thread;
                    let outcome = if fails {
                        Outcome::Failed
                    } else {
                        Outcome::Succeeded
                    };
                    call.end(outcome);
                }
            });
        }
    });
    let now = Instant::now();
    let known = bits(endpoints.0.outliers.lock().unwrap().usable(now));
    assert_eq!(endpoints.0.usable.load(Ordering::Acquire), known);
    assert_eq!(endpoints.ejected().len(), 2);
    assert!((0..5).all(|at| endpoints.active(at) == 0));
}

#[test]
fn values_that_cannot_be_are_named() {
    let many: Vec<_> = (0..65).map(|_| "a").collect();
    let cases = [
        ("names", builder().build(&[])),
        ("names", builder().build(&many)),
        ("failures", builder().failures(0).build(&["a"])),
        (
            "ejection",
            builder().ejection(SECOND, SECOND / 2).build(&["a"]),
        ),
        (
            "ejection",
            builder().ejection(Duration::ZERO, SECOND).build(&["a"]),
        ),
        (
            "ejection",
            builder().ejection(SECOND, Duration::MAX).build(&["a"]),
        ),
        ("percent", builder().percent(101).build(&["a"])),
    ];
    for (field, built) in cases {
        assert_eq!(built.unwrap_err(), ResilienceError::Bounds { field });
    }
    let endpoints = builder().build(&["a"]).unwrap();
    let error = endpoints.balance(vec![Endpoint::Busy; 2]).unwrap_err();
    assert_eq!(error, ResilienceError::Bounds { field: "services" });
}
