use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::Refuse;

pin_project! {
    /// A call that holds a place until the head of its answer, one that waits for a
    /// place, or the refusal of one.
    #[project = AdmittedP]
    pub(crate) enum Admitted<F, P, R, E> {
        Forward { #[pin] inner: F, place: Option<P> },
        Wait { answer: Pin<Box<dyn Future<Output = Result<R, E>> + Send>> },
        Refuse { reply: Option<R> },
    }
}

// === impl Admitted ===

impl<F, P, R, E> Admitted<F, P, R, E> {
    pub(crate) const fn forward(inner: F, place: Option<P>) -> Self {
        Self::Forward { inner, place }
    }

    pub(crate) fn wait(answer: impl Future<Output = Result<R, E>> + Send + 'static) -> Self {
        let answer = Box::pin(answer);
        Self::Wait { answer }
    }

    pub(crate) const fn refuse(reply: R) -> Self {
        let reply = Some(reply);
        Self::Refuse { reply }
    }
}

impl<F, P, A, E> Future for Admitted<F, P, A::Reply, E>
where
    F: Future<Output = Result<A, E>>,
    A: Refuse,
{
    type Output = Result<A::Reply, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            AdmittedP::Forward { inner, place } => {
                let answer = ready!(inner.poll(cx));
                // Free now, and not when the future is dropped.
                drop(place.take());
                Poll::Ready(answer.map(Refuse::pass))
            }
            AdmittedP::Wait { answer } => answer.as_mut().poll(cx),
            AdmittedP::Refuse { reply } => {
                let reply = reply.take().expect("polled after it was ready");
                Poll::Ready(Ok(reply))
            }
        }
    }
}
