use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use maxscale_core::BoxError;
use pin_project_lite::pin_project;
use tokio::sync::mpsc::UnboundedReceiver;

pin_project! {
    /// A body from the cache, or the inner service's.
    ///
    /// What is being stored arrives as the inner service gives it.
    pub struct HttpBody<R> {
        #[pin]
        state: State<R>,
    }
}

pin_project! {
    #[project = StateP]
    enum State<R> {
        Inner { #[pin] body: R },
        Whole { data: Option<Bytes> },
        Relay {
            feed: UnboundedReceiver<Fed<R>>,
            rest: Option<Pin<Box<R>>>,
            // What is still to come, where that was known.
            left: Option<u64>,
        },
    }
}

/// What whoever reads a body for the cache hands on.
pub(super) enum Fed<R> {
    Frame(Frame<Bytes>),
    Failed(BoxError),
    /// From here on it is not stored any more.
    Rest(Pin<Box<R>>),
    End,
}

/// The task that read the body for the cache ended before the body did.
#[derive(Debug, thiserror::Error)]
#[error("the body was not read to its end")]
struct Cut;

// === impl HttpBody ===

impl<R> HttpBody<R> {
    pub(super) const fn inner(body: R) -> Self {
        Self {
            state: State::Inner { body },
        }
    }

    pub(super) const fn whole(data: Option<Bytes>) -> Self {
        Self {
            state: State::Whole { data },
        }
    }

    pub(super) const fn relay(feed: UnboundedReceiver<Fed<R>>, left: Option<u64>) -> Self {
        Self {
            state: State::Relay {
                feed,
                rest: None,
                left,
            },
        }
    }
}

impl<R> std::fmt::Debug for HttpBody<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.state {
            State::Inner { .. } => "HttpBody::Inner",
            State::Whole { .. } => "HttpBody::Whole",
            State::Relay { .. } => "HttpBody::Relay",
        })
    }
}

impl<R> Body for HttpBody<R>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().state.project() {
            StateP::Inner { body } => body.poll_frame(cx).map_err(Into::into),
            StateP::Whole { data } => Poll::Ready(data.take().map(|data| Ok(Frame::data(data)))),
            StateP::Relay { feed, rest, left } => {
                if let Some(rest) = rest {
                    return rest.as_mut().poll_frame(cx).map_err(Into::into);
                }
                Poll::Ready(match ready!(feed.poll_recv(cx)) {
                    Some(Fed::Frame(frame)) => {
                        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                        *left = left.map(|left| left.saturating_sub(length));
                        Some(Ok(frame))
                    }
                    Some(Fed::Failed(error)) => Some(Err(error)),
                    Some(Fed::End) => {
                        feed.close();
                        None
                    }
                    Some(Fed::Rest(body)) => {
                        let body = rest.insert(body);
                        return body.as_mut().poll_frame(cx).map_err(Into::into);
                    }
                    // An end that nobody told may be one too early.
                    None => Some(Err(Cut.into())),
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Inner { body } => body.is_end_stream(),
            State::Whole { data } => data.is_none(),
            State::Relay { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Inner { body } => body.size_hint(),
            State::Whole { data } => {
                SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64))
            }
            State::Relay {
                rest: Some(rest), ..
            } => rest.size_hint(),
            State::Relay { left, .. } => left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
