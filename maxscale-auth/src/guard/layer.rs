//! A guard around a service.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Extensions, Request, Response};
use maxscale_core::refusal::{Classify as _, Refusal, ReplyBody};
use tower_layer::Layer;
use tower_service::Service;

use super::typed::principal;
use super::{Denied, Guard};
use crate::audit::Audited;
use crate::gate::GateFuture;

/// Adds [`Require`] to a stack, inside of [`SessionLayer`](crate::SessionLayer).
#[derive(Clone, Debug)]
pub struct RequireLayer {
    guard: Arc<Guard>,
}

/// Lets requests through that a [`Guard`] lets through; the others are answered with
/// what is missing, over HTTP and gRPC alike.
#[derive(Clone, Debug)]
pub struct Require<S> {
    inner: S,
    guard: Arc<Guard>,
}

/// Response future of [`Require`].
pub type RequireFuture<F, R> = GateFuture<F, R>;

// === impl RequireLayer ===

impl RequireLayer {
    /// Requires what `guard` does.
    pub fn new(guard: Guard) -> Self {
        let guard = Arc::new(guard);
        Self { guard }
    }
}

impl<S> Layer<S> for RequireLayer {
    type Service = Require<S>;

    fn layer(&self, inner: S) -> Require<S> {
        Require {
            inner,
            guard: self.guard.clone(),
        }
    }
}

// === impl Require ===

impl<S, B, R> Service<Request<B>> for Require<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<ReplyBody<R>>;
    type Error = S::Error;
    type Future = RequireFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let checked = principal(request.extensions()).and_then(|it| self.guard.check(it));
        match checked {
            Ok(()) => GateFuture::through(self.inner.call(request)),
            Err(denied) => {
                tell(&denied, request.extensions());
                GateFuture::refused(Refusal::new(&denied).into_response(&request))
            }
        }
    }
}

/// Tells the audit of who was not let through, and the log of a layer that is missing.
pub(crate) fn tell(denied: &Denied, facts: &Extensions) {
    if *denied == Denied::NoSessionLayer {
        tracing::error!(error = %denied, "cannot say who is logged in");
    }
    if let Ok(Some(principal)) = principal(facts) {
        let code = denied.code();
        principal
            .source()
            .tell(principal, Audited::Refused { code });
    }
}
