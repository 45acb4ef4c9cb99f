//! An upstream of tests, which answers when it is told to.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use http_body_util::Empty;
use tokio::sync::Semaphore;
use tower::util::service_fn;
use tower_service::Service;

use crate::refusal::ReplyBody;

pub(super) type Body = Empty<bytes::Bytes>;
pub(super) type Reply = Result<Response<ReplyBody<Body>>, Infallible>;

/// Answers when it is given a permit to.
pub(super) fn upstream(
    answers: Arc<Semaphore>,
) -> impl Service<Request<()>, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    service_fn(move |_: Request<()>| {
        let answers = answers.clone();
        async move {
            answers.acquire().await.unwrap().forget();
            Ok::<_, Infallible>(Response::new(Body::new()))
        }
    })
}

/// Has requests go on, be answered, or be dropped wherever they are, as `seed` says, and
/// calls `check` after each step. None of them is left.
pub(super) fn dropped_anywhere<F: Future>(
    seed: usize,
    requests: impl Iterator<Item = F>,
    answers: &Semaphore,
    check: impl Fn(),
) {
    let mut context = Context::from_waker(Waker::noop());
    let mut requests: Vec<_> = requests.map(Box::pin).collect();
    for step in 0..seed % 16 {
        // Any of them goes on, or goes away.
        let at = (seed / 16 + step * 7) % requests.len().max(1);
        match (seed / 4 + step) % 5 {
            0 if !requests.is_empty() => drop(requests.remove(at)),
            1 => answers.add_permits(1),
            _ => {
                let polled = requests
                    .get_mut(at)
                    .map(|it| it.as_mut().poll(&mut context));
                if let Some(Poll::Ready(_)) = polled {
                    drop(requests.remove(at));
                }
            }
        }
        check();
    }
    drop(requests);
    answers.forget_permits(answers.available_permits());
}
