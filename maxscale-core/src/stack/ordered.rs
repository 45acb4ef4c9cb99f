use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::place::{Passed, Places};
use crate::fact::Facts;
use crate::refusal::admitted::Admitted;
use crate::refusal::{Asker, Refusal, Refuse};

/// The service that a [`Stack`](super::Stack) makes.
#[derive(Clone, Debug)]
pub struct Ordered<S> {
    inner: S,
    places: Places,
}

pin_project! {
    /// Response future of [`Ordered`].
    pub struct OrderedFuture<F, R, E> {
        #[pin]
        call: Admitted<F, (), R, E>,
    }
}

// === impl Ordered ===

impl<S> Ordered<S> {
    pub(super) const fn new(inner: S, places: Places) -> Self {
        Self { inner, places }
    }
}

impl<S, Q> Service<Q> for Ordered<S>
where
    S: Service<Q>,
    S::Response: Refuse,
    Q: Facts,
{
    type Response = <S::Response as Refuse>::Reply;
    type Error = S::Error;
    type Future = OrderedFuture<S::Future, Self::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Q) -> Self::Future {
        // The types are the same in all builds, or one would not compile in some.
        if cfg!(debug_assertions) {
            match self.places.after(req.fact::<Passed>().copied()) {
                Ok(None) => {}
                Ok(Some(passed)) => req.add_fact(passed),
                Err(error) => {
                    tracing::error!(%error, "a stack is built wrongly");
                    let reply = S::Response::refuse(Refusal::new(&error), &Asker::of(&req));
                    let call = Admitted::refuse(reply);
                    return OrderedFuture { call };
                }
            }
        }
        let call = Admitted::forward(self.inner.call(req), None);
        OrderedFuture { call }
    }
}

// === impl OrderedFuture ===

impl<F, A, E> Future for OrderedFuture<F, A::Reply, E>
where
    F: Future<Output = Result<A, E>>,
    A: Refuse,
{
    type Output = Result<A::Reply, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}

impl<F, R, E> fmt::Debug for OrderedFuture<F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrderedFuture").finish_non_exhaustive()
    }
}
