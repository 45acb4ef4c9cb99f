//! A layer whose places several processes share.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::{Request, Response, StatusCode};
use http_body_util::Empty;
use maxscale_core::limit::{HoldLayer, Holders};
use maxscale_tests::{RedisServer, eventually};
use tokio::sync::Notify;
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::holders::{LONG, held_in, of, process};
use crate::redis::{SOON, patient};

const PLACES: usize = 3;

/// What became of the requests.
#[derive(Debug, Default)]
struct Ends {
    now: AtomicUsize,
    most: AtomicUsize,
    answered: AtomicUsize,
    refused: AtomicUsize,
    /// Inside of the service.
    dropped: AtomicUsize,
}

/// One that is in the service, until it is dropped.
struct Inside(Arc<Ends>);

// === impl Ends ===

impl Ends {
    fn are_enough(&self) -> bool {
        [&self.answered, &self.refused, &self.dropped]
            .iter()
            .all(|ends| ends.load(Ordering::SeqCst) >= 20)
    }

    /// A request that is answered, dropped in the service, or dropped wherever it is
    /// after some turns, as `seed` says.
    async fn request(self: &Arc<Self>, holders: &Holders, seed: usize) {
        let entered = Arc::new(Notify::new());
        let (ends, enters) = (self.clone(), entered.clone());
        let service = service_fn(move |_: Request<()>| {
            let (inside, enters) = (Inside::new(&ends), enters.clone());
            async move {
                let _inside = inside;
                enters.notify_one();
                if seed % 3 == 1 {
                    pending::<()>().await;
                }
                yield_now().await;
                Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new()))
            }
        });
        let one = |_: &Request<()>| Some("one".to_owned());
        let layer = HoldLayer::new(holders.clone(), one);
        let call = layer.layer(service).oneshot(Request::new(()));
        let dropped = async {
            match seed % 3 {
                0 => pending().await,
                1 => {
                    entered.notified().await;
                    self.dropped.fetch_add(1, Ordering::SeqCst);
                }
                _ => {
                    for _ in 0..seed / 3 % 32 {
                        yield_now().await;
                    }
                }
            }
        };
        let answer = tokio::select! {
            answer = call => answer.unwrap(),
            () = dropped => return,
        };
        match answer.status() {
            StatusCode::OK => self.answered.fetch_add(1, Ordering::SeqCst),
            StatusCode::TOO_MANY_REQUESTS => self.refused.fetch_add(1, Ordering::SeqCst),
            status => panic!("{status}"),
        };
    }
}

// === impl Inside ===

impl Inside {
    fn new(ends: &Arc<Ends>) -> Self {
        let now = ends.now.fetch_add(1, Ordering::SeqCst) + 1;
        ends.most.fetch_max(now, Ordering::SeqCst);
        Self(ends.clone())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_end_wherever_they_are_and_no_place_is_left_behind() {
    let server = RedisServer::start().await;
    let redis = patient(&server).await;
    let most = PLACES.try_into().unwrap();
    let processes = [
        process(&server, of(most, LONG)).await,
        process(&server, of(most, LONG)).await,
    ];
    let ends = Arc::new(Ends::default());
    let mut tasks = JoinSet::new();
    for task in 0..16 {
        let (ends, holders) = (ends.clone(), processes[task % 2].clone());
        tasks.spawn(async move {
            let mut seed = task;
            while !ends.are_enough() {
                ends.request(&holders, seed).await;
                seed += 16;
            }
        });
    }
    timeout(LONG, tasks.join_all()).await.unwrap();
    let most = ends.most.load(Ordering::SeqCst);
    assert!((1..=PLACES).contains(&most), "{ends:?}");
    assert_eq!(ends.now.load(Ordering::SeqCst), 0);
    // Long before any lease is over.
    eventually(SOON, async || {
        let held = held_in(&redis).await;
        (held == Some(0)).then_some(()).ok_or(held)
    })
    .await;
    for holders in &processes {
        assert_eq!(holders.held_here("one"), 0);
    }
}
