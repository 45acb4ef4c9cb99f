use std::mem;
use std::task::{Context, Poll};

use http::{Request, Response};
use maxscale_core::refusal::ReplyBody;
use tower_layer::Layer;
use tower_service::Service;

use super::{Bearer, Consistency, Question, SessionFuture};
use crate::principal::Principal;

/// Adds [`Strong`] to a stack: to routes on which a session that was revoked a moment
/// ago must not be served.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing to set")]
pub struct StrongLayer;

/// Sees to it that the store was asked for the session of a request.
///
/// Inside of a [`SessionLayer`](super::SessionLayer), as on one route, it asks where
/// that has answered from memory. Outside of it, it has it asked.
#[derive(Clone, Copy, Debug)]
pub struct Strong<S> {
    inner: S,
}

// === impl StrongLayer ===

impl<S> Layer<S> for StrongLayer {
    type Service = Strong<S>;

    fn layer(&self, inner: S) -> Strong<S> {
        Strong { inner }
    }
}

// === impl Strong ===

impl<S, B, R> Service<Request<B>> for Strong<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Send + 'static,
    R: Send + 'static,
{
    type Response = Response<ReplyBody<R>>;
    type Error = S::Error;
    type Future = SessionFuture<S::Future, R, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let principal = request.extensions().get::<Principal>();
        let Some(again) = principal.filter(|it| it.consistency() == Consistency::Bounded) else {
            request.extensions_mut().insert(Consistency::Strong);
            return SessionFuture::through(self.inner.call(request), None);
        };
        let again = Question {
            source: again.source().clone(),
            of: Bearer::Token(again.token().clone()),
        };
        // `poll_ready` readied this value and not its clone, so this one goes along.
        let clone = self.inner.clone();
        let ready = mem::replace(&mut self.inner, clone);
        SessionFuture::asking(again, request, ready, None)
    }
}
