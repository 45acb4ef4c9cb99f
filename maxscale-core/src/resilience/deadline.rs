mod future;
mod header;

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use crate::control::{Admission, TimeLimit};
use crate::fact::{Deadline, Facts};
use crate::refusal::{Asker, Refuse};

pub use future::DeadlineFuture;

/// Gives each request a [`Deadline`] and answers 504 once it has passed.
///
/// The inner future is then dropped. The bound covers the time until the
/// answer's head; a body that streams longer is not cut. A deadline that an
/// outer layer has set stays if it is earlier, and a caller may ask for less
/// time, never for more: by `grpc-timeout`, or by `x-request-timeout-ms`. A
/// header that is neither is ignored. A request whose time is over when it
/// comes does not reach the inner service.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer {
    limit: TimeLimit,
}

/// The service that [`DeadlineLayer`] makes.
#[derive(Clone, Copy, Debug)]
pub struct Deadlined<S> {
    inner: S,
    limit: TimeLimit,
}

// === impl DeadlineLayer ===

impl DeadlineLayer {
    /// A deadline `limit` after the request's arrival, at most a day.
    pub const fn new(limit: Duration) -> Self {
        let limit = TimeLimit::new(limit);
        Self { limit }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadlined<S>;

    fn layer(&self, inner: S) -> Deadlined<S> {
        Deadlined {
            inner,
            limit: self.limit,
        }
    }
}

// === impl Deadlined ===

impl<S, Q> Service<Q> for Deadlined<S>
where
    S: Service<Q>,
    S::Response: Refuse,
    Q: Facts,
{
    type Response = <S::Response as Refuse>::Reply;
    type Error = S::Error;
    type Future = DeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Q) -> Self::Future {
        let (outer, asked) = (req.fact::<Deadline>().copied(), header::asked(&req));
        let (admission, deadline) = self.limit.grant(outer, Instant::now(), asked);
        req.add_fact(deadline);
        let asker = Asker::of(&req);
        let inner = match admission {
            Admission::Run => Some(self.inner.call(req)),
            Admission::Late => None,
        };
        DeadlineFuture::new(inner, deadline, asker)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;

    use http::{Request, Response, StatusCode};
    use http_body_util::{BodyExt, Empty};
    use tower::util::{ServiceExt, service_fn};
    use tower_layer::Layer;

    use super::*;
    use crate::fact::RequestId;

    type Reply = Response<Empty<bytes::Bytes>>;

    const LIMIT: Duration = Duration::from_secs(10);

    fn request() -> Request<()> {
        let mut request = Request::new(());
        let id = RequestId::new("req-1").unwrap();
        request.extensions_mut().insert(id);
        request
    }

    #[tokio::test(start_paused = true)]
    async fn answer_that_takes_too_long_is_a_504_naming_the_request() {
        let hung = service_fn(|_: Request<()>| pending::<Result<Reply, Infallible>>());
        let started = Instant::now();
        let response = DeadlineLayer::new(LIMIT)
            .layer(hung)
            .oneshot(request())
            .await
            .unwrap();

        assert_eq!(started.elapsed(), LIMIT);
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["code"], "timeout");
        assert_eq!(body["request_id"], "req-1");
    }

    #[tokio::test(start_paused = true)]
    async fn inner_future_is_dropped_when_the_deadline_passes() {
        let (alive, mut dropped) = tokio::sync::oneshot::channel::<()>();
        let mut alive = Some(alive);
        let hung = service_fn(move |_: Request<()>| {
            let alive = alive.take();
            async move {
                let _alive = alive;
                pending::<Result<Reply, Infallible>>().await
            }
        });
        let mut service = DeadlineLayer::new(LIMIT).layer(hung);
        let mut answer = Box::pin(service.call(request()));
        (&mut answer).await.unwrap();

        assert_eq!(
            dropped.try_recv(),
            Err(tokio::sync::oneshot::error::TryRecvError::Closed)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn grpc_is_answered_with_trailers_only() {
        let hung = service_fn(|_: Request<()>| pending::<Result<Reply, Infallible>>());
        let request = Request::builder()
            .header("content-type", "application/grpc")
            .body(())
            .unwrap();
        let response = DeadlineLayer::new(LIMIT)
            .layer(hung)
            .oneshot(request)
            .await
            .unwrap();

        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "4");
    }

    #[tokio::test(start_paused = true)]
    async fn earlier_deadline_of_an_outer_layer_stays() {
        let echo = service_fn(|request: Request<()>| async move {
            let mut response = Reply::default();
            let deadline = *request.extensions().get::<Deadline>().unwrap();
            response.extensions_mut().insert(deadline);
            Ok::<_, Infallible>(response)
        });
        let early = Deadline::at(Instant::now() + Duration::from_secs(1));
        let mut request = request();
        request.extensions_mut().insert(early);
        let response = DeadlineLayer::new(LIMIT)
            .layer(echo)
            .oneshot(request)
            .await
            .unwrap();

        assert_eq!(response.extensions().get::<Deadline>(), Some(&early));
    }

    /// The deadline that the inner service is told, if it is reached.
    async fn told(request: Request<()>) -> Option<Deadline> {
        let echo = service_fn(|request: Request<()>| async move {
            let mut response = Reply::default();
            let deadline = *request.extensions().get::<Deadline>().unwrap();
            response.extensions_mut().insert(deadline);
            Ok::<_, Infallible>(response)
        });
        let layer = DeadlineLayer::new(LIMIT);
        let response = layer.layer(echo).oneshot(request).await.unwrap();
        let deadline = response.extensions().get::<Deadline>().copied();
        assert_eq!(
            deadline.is_none(),
            response.status() == StatusCode::GATEWAY_TIMEOUT
        );
        deadline
    }

    fn asking(name: &'static str, value: &str) -> Request<()> {
        let mut request = request();
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    }

    #[tokio::test(start_paused = true)]
    async fn caller_may_ask_for_less_time_and_never_gets_more() {
        let at = |span| Some(Deadline::at(Instant::now() + span));
        let second = at(Duration::from_secs(1));
        assert_eq!(told(asking("grpc-timeout", "1S")).await, second);
        assert_eq!(told(asking("x-request-timeout-ms", "1000")).await, second);
        for value in ["99999999H", "123456789S", "soon"] {
            assert_eq!(
                told(asking("grpc-timeout", value)).await,
                at(LIMIT),
                "{value}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn request_whose_time_is_over_when_it_comes_goes_no_further() {
        assert_eq!(told(asking("grpc-timeout", "0m")).await, None);
        let mut late = request();
        late.extensions_mut().insert(Deadline::at(Instant::now()));
        assert_eq!(told(late).await, None);
    }
}
