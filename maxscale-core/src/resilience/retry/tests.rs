use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

use http::{Method, Request, Response};
use tokio::time::advance;
use tower::util::{ServiceExt as _, service_fn};
use tower_layer::Layer as _;
use tower_service::Service;

use super::*;
use crate::resilience::ResilienceError;

type Reply = Result<Response<()>, Infallible>;

const SECOND: Duration = Duration::from_secs(1);

/// Waits of 100 ms, 200 ms and so on, drawn as the longest.
fn builder() -> RetryBuilder {
    Retry::builder("upstream")
        .backoff(SECOND / 10, SECOND)
        .random(|| 1.0)
}

fn request(method: Method) -> Request<()> {
    let request = Request::builder().method(method);
    request.body(()).unwrap()
}

fn answer(status: u16) -> Response<()> {
    Response::builder().status(status).body(()).unwrap()
}

/// What an upstream was asked, and when.
type Seen = Arc<Mutex<Vec<(Duration, Request<()>)>>>;

/// Answers with one status after another, and with the last one for ever.
fn upstream(
    statuses: &'static [u16],
) -> (
    Seen,
    impl Service<Request<()>, Response = Response<()>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
    + use<>,
) {
    let (seen, begun) = (Seen::default(), Instant::now());
    let asked = seen.clone();
    let service = service_fn(move |request: Request<()>| {
        let mut asked = asked.lock().unwrap();
        let status = statuses[asked.len().min(statuses.len() - 1)];
        asked.push((begun.elapsed(), request));
        async move { Ok::<_, Infallible>(answer(status)) }
    });
    (seen, service)
}

/// The status of the answer, and when the upstream was asked for it.
async fn ask(
    retry: &Retry,
    statuses: &'static [u16],
    request: Request<()>,
) -> (u16, Vec<Duration>) {
    let (seen, upstream) = upstream(statuses);
    let layer = RetryLayer::new(retry.clone());
    let reply: Reply = layer.layer(upstream).oneshot(request).await;
    let seen = seen.lock().unwrap();
    let times = seen.iter().map(|(time, _)| *time).collect();
    (reply.unwrap().status().as_u16(), times)
}

fn millis<const N: usize>(times: [u64; N]) -> Vec<Duration> {
    times.map(Duration::from_millis).to_vec()
}

#[tokio::test(start_paused = true)]
async fn request_is_made_again_until_it_succeeds_or_was_made_often_enough() {
    let retry = builder().attempts(4).build().unwrap();
    let asked = ask(&retry, &[500, 503, 200], request(Method::GET)).await;
    assert_eq!(asked, (200, millis([0, 100, 300])));
    let asked = ask(&retry, &[503], request(Method::PUT)).await;
    assert_eq!(asked, (503, millis([0, 100, 300, 700])));
    let asked = ask(&retry, &[404], request(Method::GET)).await;
    assert_eq!(asked, (404, millis([0])));
}

#[tokio::test(start_paused = true)]
async fn only_what_may_be_made_twice_is() {
    let retry = builder().build().unwrap();
    for method in [Method::POST, Method::PATCH, Method::CONNECT] {
        assert_eq!(ask(&retry, &[503], request(method)).await.1.len(), 1);
    }
    let mut post = request(Method::POST);
    post.extensions_mut().insert(MayRepeat);
    assert_eq!(ask(&retry, &[503], post).await.1.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn only_one_layer_makes_it_again_and_tells_whom_it_asks() {
    let retry = builder().build().unwrap();
    let (seen, upstream) = upstream(&[503]);
    let inner = RetryLayer::new(retry.clone()).layer(upstream);
    let both = RetryLayer::new(retry.clone()).layer(inner);
    let _: Reply = both.oneshot(request(Method::GET)).await;
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(seen.len(), 3);
    for ((_, request), attempt) in seen.iter().zip(1..) {
        let fact = request.extensions().get::<RetryAttempt>().unwrap();
        assert_eq!(fact.get(), attempt);
        assert_eq!(request.headers()["x-retry-attempt"], attempt.to_string());
    }

    for header in ["x-retry-attempt", "grpc-previous-rpc-attempts"] {
        let mut marked = request(Method::GET);
        marked.headers_mut().insert(header, "1".parse().unwrap());
        assert_eq!(ask(&retry, &[503], marked).await.1.len(), 1, "{header}");
    }
}

#[tokio::test(start_paused = true)]
async fn wait_that_the_upstream_asks_for_is_kept_unless_it_is_too_long() {
    let retry = builder().longest_wait(3 * SECOND).build().unwrap();
    let told = |wait: &'static str| {
        let calls = Arc::new(AtomicU32::new(0));
        let count = calls.clone();
        let upstream = service_fn(move |_: Request<()>| {
            let first = count.fetch_add(1, Ordering::Relaxed) == 0;
            let mut reply = answer(if first { 429 } else { 200 });
            if first && !wait.is_empty() {
                let wait = wait.parse().unwrap();
                reply.headers_mut().insert("retry-after", wait);
            }
            async move { Ok::<_, Infallible>(reply) }
        });
        let layer = RetryLayer::new(retry.clone()).layer(upstream);
        async move {
            let begun = Instant::now();
            let reply: Reply = layer.oneshot(request(Method::GET)).await;
            (reply.unwrap().status().as_u16(), begun.elapsed())
        }
    };
    assert_eq!(told("3").await, (200, Duration::from_millis(3_100)));
    for declined in ["4", "-1", "", "soon"] {
        assert_eq!(told(declined).await, (429, Duration::ZERO), "{declined}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_again_that_the_deadline_leaves_no_time_for() {
    let retry = builder().build().unwrap();
    for (left, times) in [(100, millis([0])), (101, millis([0, 100]))] {
        let mut request = request(Method::GET);
        let deadline = Deadline::at(Instant::now() + Duration::from_millis(left));
        request.extensions_mut().insert(deadline);
        assert_eq!(ask(&retry, &[503], request).await.1, times);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_again_while_the_circuit_is_open() {
    let circuit = Circuit::builder("upstream").build().unwrap();
    let retry = builder().attempts(9).unless_open(&circuit).build().unwrap();
    let (seen, upstream) = upstream(&[503]);
    let inner = service_fn(move |request: Request<()>| {
        let (upstream, circuit) = (upstream.clone(), circuit.clone());
        async move {
            let pass = circuit.pass().unwrap();
            let reply = upstream.oneshot(request).await;
            pass.end(Outcome::Failed);
            reply
        }
    });
    let layer = RetryLayer::new(retry).layer(inner);
    let reply: Reply = layer.oneshot(request(Method::GET)).await;
    assert_eq!(reply.unwrap().status(), 503);
    assert_eq!(seen.lock().unwrap().len(), 3, "until it was open");
}

#[tokio::test(start_paused = true)]
async fn upstream_that_is_down_sees_few_more_requests_than_were_made() {
    let budget = RetryBudget::default();
    let retry = builder().budget(budget.clone()).build().unwrap();
    let mut seen = 0;
    for _ in 0..600 {
        seen += ask(&retry, &[503], request(Method::GET)).await.1.len();
    }
    assert_eq!((seen, budget.tokens()), (600 + 100, 0));

    // Successes bring it back, one retry for five of them.
    for _ in 0..9 {
        ask(&retry, &[200], request(Method::GET)).await;
    }
    assert_eq!(budget.tokens(), 9);
    assert_eq!(ask(&retry, &[503], request(Method::GET)).await.1.len(), 2);
    assert_eq!(budget.tokens(), 4);
}

#[tokio::test(start_paused = true)]
async fn retries_of_timeouts_cost_twice_as_much() {
    let retry = builder().budget(RetryBudget::new(25)).build().unwrap();
    let (_, times) = ask(&retry, &[504], request(Method::GET)).await;
    assert_eq!((times.len(), retry.budget().tokens()), (3, 5));
    let (_, times) = ask(&retry, &[504], request(Method::GET)).await;
    assert_eq!((times.len(), retry.budget().tokens()), (1, 5));
}

#[tokio::test(start_paused = true)]
async fn dry_run_makes_nothing_again_and_costs_nothing() {
    let retry = builder().dry_run(true).build().unwrap();
    assert_eq!(ask(&retry, &[503], request(Method::GET)).await.1.len(), 1);
    assert_eq!(retry.0.counts.would_retry.get(), 1);
    assert_eq!(retry.budget().tokens(), 500);
    retry.set_dry_run(false);
    assert_eq!(ask(&retry, &[503], request(Method::GET)).await.1.len(), 3);
    assert_eq!(retry.0.counts.retried.get(), 2);
}

/// Permits of the inner service are the gauge: each attempt holds one.
#[tokio::test(start_paused = true)]
async fn nothing_is_held_wherever_the_request_was_dropped() {
    use std::task::{Context, Waker};

    let active = Arc::new(());
    let retry = builder()
        .budget(RetryBudget::new(u32::MAX))
        .build()
        .unwrap();
    for seed in 0..1_000_usize {
        let held = active.clone();
        let upstream = service_fn(move |_: Request<()>| {
            let held = held.clone();
            async move {
                for _ in 0..seed % 3 {
                    tokio::task::yield_now().await;
                }
                drop(held);
                Ok::<_, Infallible>(answer(503))
            }
        });
        let layer = RetryLayer::new(retry.clone()).layer(upstream);
        let mut request = Box::pin(layer.oneshot(request(Method::GET)));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..seed / 3 % 12 {
            if request.as_mut().poll(&mut context).is_ready() {
                break;
            }
            advance(SECOND / 10).await;
        }
        drop(request);
        assert_eq!(Arc::strong_count(&active), 1, "seed {seed}");
    }
}

#[test]
fn values_that_cannot_be_are_named() {
    let cases = [
        ("attempts", builder().attempts(0)),
        ("backoff", builder().backoff(SECOND, SECOND / 2)),
        ("backoff", builder().backoff(SECOND, Duration::MAX)),
        ("longest_wait", builder().longest_wait(Duration::MAX)),
    ];
    for (field, builder) in cases {
        let error = builder.build().unwrap_err();
        assert_eq!(error, ResilienceError::Bounds { field });
    }
}
