use http::Response;
use http::header::{HeaderName, HeaderValue};

use super::{Asker, Refusal, ReplyBody};

/// What a service answers, and how a layer around it refuses instead.
///
/// An HTTP or gRPC response becomes one with a [`ReplyBody`]; the outcome of a
/// job stays an outcome, and a refusal is a snooze. A layer that answers
/// through this trait alone stands around all three, and never touches the
/// inner service's error.
pub trait Refuse: Sized {
    /// What the layer answers.
    type Reply;

    /// Hands the inner service's answer on.
    fn pass(self) -> Self::Reply;

    /// Answers `asker` with `refusal`.
    fn refuse(refusal: Refusal, asker: &Asker) -> Self::Reply;

    /// Tells the caller something beside the answer. What has no headers stays silent.
    fn tell(_reply: &mut Self::Reply, _name: HeaderName, _value: HeaderValue) {}
}

impl<R> Refuse for Response<R> {
    type Reply = Response<ReplyBody<R>>;

    fn pass(self) -> Self::Reply {
        self.map(ReplyBody::inner)
    }

    fn refuse(refusal: Refusal, asker: &Asker) -> Self::Reply {
        refusal.answer(asker)
    }

    fn tell(reply: &mut Self::Reply, name: HeaderName, value: HeaderValue) {
        // Appended: an answer may pass several layers that tell the same.
        reply.headers_mut().append(name, value);
    }
}
