//! Reads on when an answer was decided before its request was read.
//!
//! A connection that is closed with bytes unread is reset, and the reset
//! overtakes the answer: the client is told of a broken connection, and not
//! that its file is none. So what is left of a body that nobody wants is read
//! for a while and thrown away, beside the answer, which does not wait for it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::EXPECT;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body::{Frame, SizeHint};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How long a client may go on sending what is thrown away.
const LONGEST: Duration = Duration::from_secs(5);

/// A body that is read for a while after it was dropped.
struct Lingering {
    /// `None` once it is read to its end.
    body: Option<Body>,
    /// Whether the client waits to be told to send it.
    held_back: bool,
}

/// Lets the request's body be read on after whoever had it dropped it.
pub async fn linger(request: Request) -> Request {
    let held_back = request.headers().contains_key(EXPECT);
    request.map(|body| {
        if body.is_end_stream() {
            return body;
        }
        Body::new(Lingering {
            body: Some(body),
            held_back,
        })
    })
}

// === impl Lingering ===

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.held_back = false;
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        (self.body.as_ref()).map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let unread = !self.held_back && !self.is_end_stream();
        let body = self.body.take().filter(|_| unread);
        if let (Some(body), Ok(runtime)) = (body, Handle::try_current()) {
            // Nobody waits for it, and it ends by itself.
            runtime.spawn(async move {
                let mut rest = body.into_data_stream();
                let _ = timeout(LONGEST, async {
                    while let Some(Ok(_)) = rest.next().await {}
                })
                .await;
            });
        }
    }
}
