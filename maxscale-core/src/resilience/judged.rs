use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::judge::{Judge, Outcome};
use crate::refusal::Refuse;

/// What a call holds while it is under way, and is told how it ended. Dropped before, the
/// call was given up.
pub(super) trait Held {
    fn end(self, outcome: Outcome);
}

pin_project! {
    /// A call whose answer is judged for what it holds, or the refusal of one.
    #[derive(Debug)]
    #[project = JudgedP]
    pub(super) enum Judged<F, R, J, H> {
        Forward { #[pin] inner: F, held: Option<H>, judge: J },
        Refuse { reply: Option<R> },
    }
}

// === impl Judged ===

impl<F, R, J, H> Judged<F, R, J, H> {
    pub(super) const fn forward(inner: F, held: H, judge: J) -> Self {
        let held = Some(held);
        Self::Forward { inner, held, judge }
    }

    pub(super) const fn refuse(reply: R) -> Self {
        let reply = Some(reply);
        Self::Refuse { reply }
    }
}

impl<F, A, E, J, H> Future for Judged<F, A::Reply, J, H>
where
    F: Future<Output = Result<A, E>>,
    A: Refuse,
    J: Judge<A, E>,
    H: Held,
{
    type Output = Result<A::Reply, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            JudgedP::Forward { inner, held, judge } => {
                let answer = ready!(inner.poll(cx));
                if let Some(held) = held.take() {
                    held.end(judge.outcome(&answer));
                }
                Poll::Ready(answer.map(Refuse::pass))
            }
            JudgedP::Refuse { reply } => {
                let reply = reply.take().expect("polled after it was ready");
                Poll::Ready(Ok(reply))
            }
        }
    }
}
