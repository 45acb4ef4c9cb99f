use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderValue, Response};
use http_body::Body;
use pin_project_lite::pin_project;

use super::TraceBody;
use super::exchange::{End, Exchange, X_REQUEST_ID};
use crate::fact::RequestId;

pin_project! {
    /// Response future of [`Trace`](super::Trace).
    #[derive(Debug)]
    pub struct TraceFuture<F> {
        #[pin]
        inner: F,
        exchange: Option<Exchange>,
        id: RequestId,
    }
}

// === impl TraceFuture ===

impl<F> TraceFuture<F> {
    pub(super) const fn new(inner: F, exchange: Exchange, id: RequestId) -> Self {
        Self {
            inner,
            exchange: Some(exchange),
            id,
        }
    }
}

impl<F, R, E> Future for TraceFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
{
    type Output = Result<Response<TraceBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let exchange = this.exchange.as_mut().expect("not polled after its answer");
        let answer = ready!(exchange.run(|| this.inner.poll(cx)));
        let mut exchange = this.exchange.take().expect("seen above");
        match answer {
            Ok(mut response) => {
                exchange.answered(response.status(), response.headers());
                if let Ok(id) = HeaderValue::from_str(this.id.as_str()) {
                    response.headers_mut().insert(X_REQUEST_ID, id);
                }
                Poll::Ready(Ok(TraceBody::wrap(response, exchange)))
            }
            Err(error) => {
                exchange.finish(End::Failed);
                Poll::Ready(Err(error))
            }
        }
    }
}
