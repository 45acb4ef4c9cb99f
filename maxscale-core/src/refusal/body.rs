use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The inner service's body, or a refusal.
    #[derive(Debug)]
    pub struct ReplyBody<B> {
        #[pin]
        state: State<B>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateP]
    enum State<B> {
        Inner { #[pin] body: B },
        Refusal { data: Option<Bytes> },
    }
}

// === impl ReplyBody ===

impl<B> ReplyBody<B> {
    /// Passes the inner service's body on.
    pub const fn inner(body: B) -> Self {
        Self {
            state: State::Inner { body },
        }
    }

    pub(super) const fn refusal(data: Option<Bytes>) -> Self {
        Self {
            state: State::Refusal { data },
        }
    }
}

impl<B: Body<Data = Bytes>> Body for ReplyBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().state.project() {
            StateP::Inner { body } => body.poll_frame(cx),
            StateP::Refusal { data } => Poll::Ready(data.take().map(|data| Ok(Frame::data(data)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Inner { body } => body.is_end_stream(),
            State::Refusal { data } => data.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Inner { body } => body.size_hint(),
            State::Refusal { data } => {
                SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64))
            }
        }
    }
}
