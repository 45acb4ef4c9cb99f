//! The time that a deadline, retries, a circuit breaker and a bulkhead add to a call
//! that goes well, against the same four of tower-resilience: the same order, the
//! same service, one thread.

use std::convert::Infallible;
use std::fmt::Debug;
use std::future::{Ready, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Empty;
use maxscale_core::BoxError;
use maxscale_core::resilience::{
    Bulkhead, BulkheadLayer, Circuit, CircuitBreakerLayer, DeadlineLayer, Retry, RetryLayer,
};
use maxscale_measure::{Bar, Op, Plan, Report};
use tower::{Service, ServiceBuilder, ServiceExt as _};
use tower_resilience::bulkhead;
use tower_resilience::circuitbreaker;
use tower_resilience::retry;
use tower_resilience::timelimiter::TimeLimiterLayer;

type Request = http::Request<()>;
type Reply = Response<Empty<Bytes>>;

const DEADLINE: Duration = Duration::from_secs(10);
const PLACES: usize = 64;
const FAILURES: u32 = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let plan = if quick { Plan::QUICK } else { Plan::FULL };
    stack_vs_tower_resilience(&plan, &mut Report::default()).await
}

async fn stack_vs_tower_resilience(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let name = "resilience.stack_vs_tower_resilience";
    let mut ours = plan.compare();
    let mut theirs = plan.compare();
    while !(ours.are_enough() && theirs.are_enough()) {
        let circuit = Circuit::builder("upstream").build()?;
        let retries = Retry::builder("upstream").unless_open(&circuit).build()?;
        let places = Bulkhead::builder("upstream", PLACES).build()?;
        let with_ours = ServiceBuilder::new()
            .layer(DeadlineLayer::new(DEADLINE))
            .layer(RetryLayer::new(retries))
            .layer(CircuitBreakerLayer::new(circuit))
            .layer(BulkheadLayer::new(places))
            .service_fn(upstream);
        let bare = |count| run(tower::service_fn(upstream), count);
        ours.round(|count| run(with_ours.clone(), count), bare)
            .await?;

        let budget = retry::RetryBudgetBuilder::new().token_bucket().build()?;
        let retries = retry::RetryLayer::builder()
            .max_attempts(3)
            .exponential_backoff(Duration::from_millis(50))
            .retry_on_response(failed)
            .budget(budget)
            .build();
        let circuit = circuitbreaker::CircuitBreakerLayer::builder()
            .consecutive_failures(FAILURES as usize)
            .failure_classifier(
                |call: &Result<Reply, bulkhead::BulkheadServiceError<Infallible>>| {
                    call.as_ref().is_ok_and(failed)
                },
            )
            .build()?;
        let places = bulkhead::BulkheadLayer::builder()
            .max_concurrent_calls(PLACES)
            .max_wait_duration(Bulkhead::DEFAULT_MAX_WAIT)
            .build()?;
        let with_theirs = ServiceBuilder::new()
            .layer(
                TimeLimiterLayer::builder()
                    .timeout_duration(DEADLINE)
                    .build(),
            )
            .layer(retries)
            .layer(circuit)
            .layer(places)
            .service_fn(upstream);
        theirs
            .round(|count| run(with_theirs.clone(), count), bare)
            .await?;
    }
    let (ours, theirs) = (ours.cost(), theirs.cost());
    report.note(&format!(
        "{name}: a call with ours against one without: {ours}"
    ));
    report.note(&format!(
        "{name}: one with theirs against one without: {theirs}"
    ));
    report.bar(Bar {
        name,
        measured: (ours.value - 1.0) / (theirs.value - 1.0),
        op: Op::AtMost,
        target: 0.7,
    });
    Ok(())
}

/// What is called: it answers at once.
fn upstream(_: Request) -> Ready<Result<Reply, Infallible>> {
    ready(Ok(Reply::default()))
}

/// As ours judges by itself.
fn failed(reply: &Reply) -> bool {
    reply.status().is_server_error()
}

/// `count` calls, one after another.
async fn run<S, B>(mut service: S, count: u32) -> Result<(), BoxError>
where
    S: Service<Request, Response = Response<B>>,
    S::Error: Debug,
{
    for _ in 0..count {
        let request = Request::new(());
        let answer = service.ready().await.map_err(told)?.call(request).await;
        if answer.map_err(told)?.status() != StatusCode::OK {
            return Err("another answer".into());
        }
    }
    Ok(())
}

fn told(error: impl Debug) -> BoxError {
    format!("{error:?}").into()
}
