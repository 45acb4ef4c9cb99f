//! Futures that are dropped wherever they wait.

use std::pin::pin;
use std::task::Waker;

use super::*;

/// Is ready, and answers, after being polled so often.
#[derive(Clone)]
struct Slow {
    ready_after: u32,
    answers_after: u32,
    status: u16,
}

/// Is ready when it was polled so often.
async fn after(mut polls: u32) {
    future::poll_fn(|_| {
        polls = polls.saturating_sub(1);
        if polls == 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

impl Service<Request<()>> for Slow {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.ready_after == 0 {
            return Poll::Ready(Ok(()));
        }
        self.ready_after -= 1;
        Poll::Pending
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        let (polls, status) = (self.answers_after, self.status);
        Box::pin(async move {
            after(polls).await;
            let answer = Response::builder().status(status);
            Ok(answer.body(Body::new()).unwrap())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn places_of_probes_are_free_again_wherever_the_request_was_dropped() {
    for seed in 0..1_000_u32 {
        let circuit = opened(builder().probes(2));
        advance(SECOND).await;
        let inner = Slow {
            ready_after: seed % 4,
            answers_after: 1 + seed / 4 % 4,
            status: [200, 429, 500][usize::try_from(seed % 3).unwrap()],
        };
        let layer = CircuitBreakerLayer::new(circuit.clone());
        let polls = seed / 16 % 8;
        let mut ended = false;
        {
            let mut request = pin!(layer.layer(inner.clone()).oneshot(request()));
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..polls {
                ended = request.as_mut().poll(&mut context).is_ready();
                if ended {
                    break;
                }
            }
        }
        // What counts for something has its place no more; all others have none.
        let free = match (ended, inner.status) {
            (true, 200) => 1,
            (true, 500) => 0,
            _ => 2,
        };
        let places = [(); 3].map(|()| circuit.pass());
        let passed = places.iter().filter(|it| it.is_ok()).count();
        assert_eq!(passed, free, "seed {seed}, ended: {ended}");
    }
}
