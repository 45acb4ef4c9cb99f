use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};

use crate::fact::{Deadline, RequestId, TraceId};
use crate::refusal::{Class, Refusal, ReplyBody};

pin_project! {
    /// Response future of [`Deadlined`](super::Deadlined).
    #[derive(Debug)]
    pub struct DeadlineFuture<F> {
        #[pin]
        inner: Option<F>,
        #[pin]
        sleep: Sleep,
        asker: Asker,
    }
}

/// What an answer needs to know of a request that has been handed on.
#[derive(Debug)]
pub(super) struct Asker {
    content_type: Option<HeaderValue>,
    request: Option<RequestId>,
    trace: Option<TraceId>,
}

// === impl DeadlineFuture ===

impl<F> DeadlineFuture<F> {
    pub(super) fn new(inner: F, deadline: Deadline, asker: Asker) -> Self {
        Self {
            inner: Some(inner),
            sleep: sleep_until(deadline.instant()),
            asker,
        }
    }
}

impl<F, R, E> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<ReplyBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // The answer first: one that is ready at the deadline still counts.
        if let Some(inner) = this.inner.as_mut().as_pin_mut()
            && let Poll::Ready(answer) = inner.poll(cx)
        {
            return Poll::Ready(answer.map(|response| response.map(ReplyBody::inner)));
        }
        ready!(this.sleep.poll(cx));
        // Whatever the inner future holds is freed now, not when the answer is sent.
        this.inner.set(None);
        let refusal = Refusal::of(Class::Timeout).detail("the request took too long");
        Poll::Ready(Ok(refusal.into_response(&this.asker.request())))
    }
}

// === impl Asker ===

impl Asker {
    pub(super) fn of<B>(req: &Request<B>) -> Self {
        Self {
            content_type: req.headers().get(CONTENT_TYPE).cloned(),
            request: req.extensions().get().cloned(),
            trace: req.extensions().get().cloned(),
        }
    }

    fn request(&self) -> Request<()> {
        let mut req = Request::new(());
        if let Some(value) = &self.content_type {
            req.headers_mut().insert(CONTENT_TYPE, value.clone());
        }
        if let Some(id) = &self.request {
            req.extensions_mut().insert(id.clone());
        }
        if let Some(trace) = &self.trace {
            req.extensions_mut().insert(trace.clone());
        }
        req
    }
}
