//! Bodies that keep their request open: it ends when both are read or dropped.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::activity::Activity;
use super::gate::Request;

/// The body of a request as it comes from the connection.
pub struct RequestBody {
    inner: hyper::body::Incoming,
    _open: Arc<Open>,
}

pin_project! {
    /// The body of an answer on its way to the connection.
    pub struct ResponseBody<B> {
        #[pin]
        inner: B,
        _open: Arc<Open>,
    }
}

pin_project! {
    /// Waits for the answer and puts a [`ResponseBody`] into it.
    pub(super) struct Answer<F> {
        #[pin]
        inner: F,
        open: Arc<Open>,
    }
}

/// A request that has not ended, of its connection and of its server.
#[derive(Debug)]
pub(super) struct Open {
    activity: Arc<Activity>,
    _request: Request,
}

// === impl Open ===

impl Open {
    pub(super) fn new(activity: Arc<Activity>, request: Request) -> Arc<Self> {
        activity.began();
        Arc::new(Self {
            activity,
            _request: request,
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.activity.ended(Instant::now());
    }
}

// === impl RequestBody ===

impl RequestBody {
    pub(super) const fn new(inner: hyper::body::Incoming, open: Arc<Open>) -> Self {
        Self { inner, _open: open }
    }
}

impl Body for RequestBody {
    type Data = bytes::Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").finish_non_exhaustive()
    }
}

// === impl ResponseBody ===

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.project().inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}

// === impl Answer ===

impl<F> Answer<F> {
    pub(super) const fn new(inner: F, open: Arc<Open>) -> Self {
        Self { inner, open }
    }
}

impl<F, B, E> Future for Answer<F>
where
    F: Future<Output = Result<http::Response<B>, E>>,
{
    type Output = Result<http::Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.inner.poll(cx))?;
        Poll::Ready(Ok(answer.map(|inner| ResponseBody {
            inner,
            _open: this.open.clone(),
        })))
    }
}
