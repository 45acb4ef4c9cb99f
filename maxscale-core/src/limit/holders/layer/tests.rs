use std::convert::Infallible;

use http::{Request, Response, StatusCode};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, yield_now};
use tower::util::{ServiceExt as _, service_fn};

use super::*;
use crate::clock::Clock;
use crate::fact::Subject;
use crate::limit::{BySubject, Concurrency, Limits, LocalLimits};
use crate::refusal::ReplyBody;

type Reply = Response<ReplyBody<()>>;

/// A layer with two places for each subject, and a service that answers when it is told to.
struct Scene {
    layer: HoldLayer<BySubject>,
    answers: Arc<Semaphore>,
    /// What the service keeps of each request, as a stream would.
    kept: mpsc::UnboundedSender<Option<Held>>,
    streams: mpsc::UnboundedReceiver<Option<Held>>,
}

// === impl Scene ===

impl Scene {
    fn new() -> Self {
        let limits = Limits::local(LocalLimits::new(Clock::system()));
        let two = Concurrency::new(2).unwrap();
        let holders = Holders::new("streams", two, &limits).unwrap();
        let (kept, streams) = mpsc::unbounded_channel();
        Self {
            layer: HoldLayer::new(holders, BySubject::new()),
            answers: Arc::new(Semaphore::new(0)),
            kept,
            streams,
        }
    }

    fn with(self, change: impl FnOnce(HoldLayer<BySubject>) -> HoldLayer<BySubject>) -> Self {
        let layer = change(self.layer);
        Self { layer, ..self }
    }

    /// Begins a request, and waits until it is refused or in the service.
    async fn ask(&mut self, who: &str) -> JoinHandle<Reply> {
        let mut request = Request::new(());
        request.add_fact(Subject::new(who));
        self.send(request).await
    }

    async fn send(&mut self, request: Request<()>) -> JoinHandle<Reply> {
        let (answers, kept) = (self.answers.clone(), self.kept.clone());
        let service = service_fn(move |request: Request<()>| {
            let answers = answers.clone();
            kept.send(request.fact::<Held>().cloned()).unwrap();
            async move {
                answers.acquire().await.unwrap().forget();
                Ok::<_, Infallible>(Response::new(()))
            }
        });
        let call = self.layer.layer(service).oneshot(request);
        let asked = tokio::spawn(async { call.await.unwrap() });
        while !asked.is_finished() && self.streams.is_empty() {
            yield_now().await;
        }
        asked
    }

    /// What the service kept of the last request; the place of a stream.
    fn stream(&mut self) -> Option<Held> {
        self.streams.try_recv().unwrap()
    }

    /// Begins a request that comes as far as the service, which keeps nothing of it.
    async fn passes(&mut self, who: &str) -> JoinHandle<Reply> {
        let asked = self.ask(who).await;
        drop(self.stream());
        asked
    }

    async fn is_refused(&mut self, who: &str) {
        let reply = self.ask(who).await.await.unwrap();
        assert_eq!(reply.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(reply.headers()["retry-after"], "1");
        assert!(self.streams.is_empty(), "it went no further");
    }

    fn held(&self, who: &str) -> usize {
        let principal = BySubject::principal(&Subject::new(who));
        self.layer.holders.held_here(&principal)
    }
}

#[tokio::test]
async fn request_over_its_principals_places_is_refused_until_one_has_its_answer() {
    let mut scene = Scene::new();
    let first = scene.passes("ann").await;
    let second = scene.passes("ann").await;
    scene.is_refused("ann").await;
    let other = scene.passes("bob").await;
    assert_eq!((scene.held("ann"), scene.held("bob")), (2, 1));
    scene.answers.add_permits(1);
    assert_eq!(first.await.unwrap().status(), StatusCode::OK);
    let third = scene.passes("ann").await;
    scene.is_refused("ann").await;
    scene.answers.add_permits(3);
    for asked in [second, other, third] {
        assert_eq!(asked.await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!((scene.held("ann"), scene.held("bob")), (0, 0));
}

#[tokio::test]
async fn call_of_grpc_is_refused_in_its_words() {
    let mut scene = Scene::new();
    let _held = [scene.passes("ann").await, scene.passes("ann").await];
    let mut request = Request::new(());
    request.add_fact(Subject::new("ann"));
    let grpc = "application/grpc".parse().unwrap();
    request.headers_mut().insert("content-type", grpc);
    let reply = scene.send(request).await.await.unwrap();
    assert_eq!(reply.headers()["grpc-status"], "8", "{reply:?}");
}

#[tokio::test]
async fn request_that_is_dropped_frees_its_place() {
    let mut scene = Scene::new();
    let held = [scene.passes("ann").await, scene.passes("ann").await];
    for asked in held {
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
    }
    assert_eq!(scene.held("ann"), 0);
}

#[tokio::test]
async fn stream_keeps_the_place_after_its_head() {
    let mut scene = Scene::new();
    scene.answers.add_permits(9);
    let (first, first_stream) = (scene.ask("ann").await, scene.stream());
    let (second, second_stream) = (scene.ask("ann").await, scene.stream());
    for asked in [first, second] {
        assert_eq!(asked.await.unwrap().status(), StatusCode::OK);
    }
    assert!(first_stream.is_some() && second_stream.is_some());
    assert_eq!(scene.held("ann"), 2);
    scene.is_refused("ann").await;
    drop(first_stream);
    assert_eq!(scene.held("ann"), 1);
}

#[tokio::test]
async fn fact_of_an_inner_layer_keeps_the_places_of_all() {
    let (outer, mut inner) = (Scene::new(), Scene::new());
    inner.answers.add_permits(1);
    let mut request = Request::new(());
    request.add_fact(Subject::new("ann"));
    let asked = outer.layer.holders.acquire("sub:ann").await;
    drop(outer.layer.admit(asked, &mut request).unwrap());
    assert!(inner.send(request).await.await.is_ok());
    let stream = inner.stream();
    assert_eq!((outer.held("ann"), inner.held("ann")), (1, 1));
    drop(stream);
    assert_eq!((outer.held("ann"), inner.held("ann")), (0, 0));
}

#[tokio::test]
async fn shadow_lets_pass_what_it_would_refuse_without_a_place() {
    let mut scene = Scene::new().with(|layer| layer.shadow(true));
    let _asked = [scene.passes("ann").await, scene.passes("ann").await];
    let third = scene.ask("ann").await;
    assert!(scene.stream().is_none(), "it holds nothing");
    assert_eq!(scene.held("ann"), 2);
    scene.answers.add_permits(3);
    assert_eq!(third.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn request_without_a_key_is_our_fault_unless_it_may_have_none() {
    let mut scene = Scene::new();
    let reply = scene.send(Request::new(())).await.await.unwrap();
    assert_eq!(reply.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(scene.streams.is_empty());
    let mut scene = scene.with(|layer| layer.missing_key(MissingKey::Skip));
    scene.answers.add_permits(1);
    let reply = scene.send(Request::new(())).await.await.unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
    assert!(scene.stream().is_none());
}
