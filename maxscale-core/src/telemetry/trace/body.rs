use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http::Response;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::exchange::{End, Exchange};

pin_project! {
    /// The inner body; with its last frame the request has ended.
    #[derive(Debug)]
    pub struct TraceBody<B> {
        #[pin]
        inner: B,
        exchange: Option<Exchange>,
        // A server stops asking once the announced length is sent, so that a
        // body's own end may never be seen.
        left: Option<u64>,
    }
}

// === impl TraceBody ===

impl<B: Body> TraceBody<B> {
    pub(super) fn wrap(response: Response<B>, exchange: Exchange) -> Response<Self> {
        let announced = response
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        response.map(|inner| {
            let left = announced.or_else(|| inner.size_hint().exact());
            let over = exchange.bodiless() || left == Some(0) || inner.is_end_stream();
            let mut exchange = Some(exchange);
            if over {
                end(&mut exchange, End::Complete);
            }
            Self {
                inner,
                exchange,
                left,
            }
        })
    }
}

impl<B: Body> Body for TraceBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let mut poll = || this.inner.as_mut().poll_frame(cx);
        let frame = ready!(match this.exchange {
            Some(exchange) => exchange.run(poll),
            None => poll(),
        });
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(left), Some(data)) = (this.left.as_mut(), frame.data_ref()) {
                    *left = left.saturating_sub(data.remaining() as u64);
                }
                if let (Some(exchange), Some(trailers)) =
                    (this.exchange.as_mut(), frame.trailers_ref())
                {
                    exchange.trailers(trailers);
                }
                if frame.is_trailers() || *this.left == Some(0) || this.inner.is_end_stream() {
                    end(this.exchange, End::Complete);
                }
            }
            Some(Err(_)) => end(this.exchange, End::Failed),
            None => end(this.exchange, End::Complete),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn end(exchange: &mut Option<Exchange>, end: End) {
    if let Some(exchange) = exchange.take() {
        exchange.finish(end);
    }
}
