use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};

use crate::fact::Deadline;
use crate::refusal::{Asker, Class, Refusal, Refuse};

pin_project! {
    /// Response future of [`Deadlined`](super::Deadlined).
    #[derive(Debug)]
    pub struct DeadlineFuture<F> {
        #[pin]
        inner: Option<F>,
        // What is answered at once needs none.
        #[pin]
        sleep: Option<Sleep>,
        deadline: Deadline,
        asker: Asker,
    }
}

// === impl DeadlineFuture ===

impl<F> DeadlineFuture<F> {
    pub(super) fn new(inner: Option<F>, deadline: Deadline, asker: Asker) -> Self {
        Self {
            inner,
            sleep: None,
            deadline,
            asker,
        }
    }
}

impl<F, A, E> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<A, E>>,
    A: Refuse,
{
    type Output = Result<A::Reply, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(inner) = this.inner.as_mut().as_pin_mut() {
            // The answer first: one that is ready at the deadline still counts.
            if let Poll::Ready(answer) = inner.poll(cx) {
                return Poll::Ready(answer.map(Refuse::pass));
            }
            if this.sleep.is_none() {
                let sleep = sleep_until(this.deadline.instant());
                this.sleep.set(Some(sleep));
            }
            if let Some(sleep) = this.sleep.as_pin_mut() {
                ready!(sleep.poll(cx));
            }
        }
        // Whatever the inner future holds is freed now, not when the answer is sent.
        this.inner.set(None);
        let refusal = Refusal::of(Class::Timeout).detail("the request took too long");
        Poll::Ready(Ok(A::refuse(refusal, this.asker)))
    }
}
