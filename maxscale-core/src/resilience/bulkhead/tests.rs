use http::Request;
use tokio::sync::Semaphore;
use tokio::time::advance;
use tower::util::ServiceExt as _;
use tower_layer::Layer as _;

use super::*;
use crate::resilience::ResilienceError;
use crate::resilience::upstream::{Reply, dropped_anywhere, upstream};

const SECOND: Duration = Duration::from_secs(1);

fn builder(places: usize) -> BulkheadBuilder {
    Bulkhead::builder("upstream", places).max_wait(SECOND)
}

fn keyed(builder: BulkheadBuilder) -> Bulkhead<u32> {
    builder.build_keyed().unwrap()
}

fn nothing_is_held<K: Hash + Eq + Clone>(bulkhead: &Bulkhead<K>) -> bool {
    (bulkhead.active(), bulkhead.waiting()) == (0, 0)
}

#[tokio::test(start_paused = true)]
async fn keys_do_not_take_places_from_each_other() {
    let bulkhead = keyed(builder(2).max_wait(Duration::ZERO));
    let first = [
        bulkhead.enter(&1, None).await.unwrap(),
        bulkhead.enter(&1, None).await.unwrap(),
    ];
    let error = bulkhead.enter(&1, None).await.unwrap_err();
    assert!(matches!(error, BulkheadError::Full { .. }));
    let other = bulkhead.enter(&2, None).await.unwrap();
    assert_eq!((bulkhead.active(), bulkhead.keys()), (3, 2));
    drop(first);
    assert_eq!(bulkhead.keys(), 1);
    drop(bulkhead.enter(&1, None).await.unwrap());
    drop(other);
    assert_eq!((bulkhead.active(), bulkhead.keys()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn only_so_many_keys_are_known_at_a_time() {
    let bulkhead = keyed(builder(1).max_keys(2));
    let held = [
        bulkhead.enter(&1, None).await.unwrap(),
        bulkhead.enter(&2, None).await.unwrap(),
    ];
    let error = bulkhead.enter(&3, None).await.unwrap_err();
    assert!(matches!(error, BulkheadError::Keys { .. }));
    drop(held);
    assert!(nothing_is_held(&bulkhead));
    for key in 0..1_000 {
        drop(bulkhead.enter(&key, None).await.unwrap());
    }
    assert_eq!(bulkhead.keys(), 0);
}

#[tokio::test(start_paused = true)]
async fn wait_ends_with_the_bulkheads_time_or_the_deadline() {
    let bulkhead = builder(1).build().unwrap();
    let held = bulkhead.enter(&(), None).await.unwrap();
    let now = Instant::now();
    let full = bulkhead.enter(&(), None).await;
    assert!(matches!(full, Err(BulkheadError::Full { .. })));
    assert_eq!(now.elapsed(), SECOND);

    let now = Instant::now();
    let deadline = Deadline::at(now + SECOND / 4);
    let full = bulkhead.enter(&(), Some(deadline)).await;
    assert!(matches!(full, Err(BulkheadError::Full { .. })));
    assert_eq!(now.elapsed(), SECOND / 4);

    let (entered, ()) = tokio::join!(bulkhead.enter(&(), None), async {
        advance(SECOND / 2).await;
        drop(held);
    });
    drop(entered.unwrap());
    assert!(nothing_is_held(&bulkhead));
}

fn user(name: &'static str) -> Request<()> {
    Request::builder().uri(name).body(()).unwrap()
}

fn by_path(request: &Request<()>) -> Option<String> {
    let path = request.uri().path();
    (path != "/free").then(|| path.to_owned())
}

#[tokio::test(start_paused = true)]
async fn request_without_a_place_in_time_is_a_503() {
    let bulkhead = builder(1).build_keyed::<String>().unwrap();
    let answers = Arc::new(Semaphore::new(0));
    let layer = BulkheadLayer::keyed(bulkhead.clone(), by_path);
    let service = layer.layer(upstream(answers.clone()));
    let ask = |name| tokio::spawn(service.clone().oneshot(user(name)));
    let held = ask("/a");
    tokio::task::yield_now().await;
    assert_eq!(bulkhead.active(), 1);
    let refused: Reply = service.clone().oneshot(user("/a")).await;
    assert_eq!(refused.unwrap().status(), 503);
    let mut others = Vec::new();
    for name in ["/b", "/free", "/free"] {
        others.push(ask(name));
    }
    let waits = ask("/a");
    tokio::task::yield_now().await;
    assert_eq!((bulkhead.active(), bulkhead.waiting()), (2, 1));
    answers.add_permits(5);
    for asked in others.into_iter().chain([held, waits]) {
        let reply: Reply = asked.await.unwrap();
        assert_eq!(reply.unwrap().status(), 200);
    }
    assert!(nothing_is_held(&bulkhead));
    assert_eq!(bulkhead.keys(), 0);
    let told = &bulkhead.0.told;
    let counts = [&told.passed, &told.waited, &told.refused].map(HotCounter::get);
    assert_eq!(counts, [2, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn dry_run_lets_all_through_at_once_and_counts() {
    let bulkhead = keyed(builder(1).max_keys(1).dry_run(true));
    let all = [
        bulkhead.enter(&1, None).await.unwrap(),
        bulkhead.enter(&1, None).await.unwrap(),
        bulkhead.enter(&2, None).await.unwrap(),
    ];
    assert_eq!(bulkhead.0.told.would_refuse.get(), 2);
    bulkhead.set_dry_run(false);
    assert!(bulkhead.enter(&2, None).await.is_err());
    drop(all);
    assert!(nothing_is_held(&bulkhead));
}

#[tokio::test(start_paused = true)]
async fn places_are_free_again_wherever_the_request_was_dropped() {
    let bulkhead = builder(1)
        .max_wait(SECOND * 3_600)
        .build_keyed::<String>()
        .unwrap();
    let answers = Arc::new(Semaphore::new(0));
    let layer = BulkheadLayer::keyed(bulkhead.clone(), by_path);
    let service = layer.layer(upstream(answers.clone()));
    for seed in 0..1_000 {
        let requests = (0..4).map(|_| service.clone().oneshot(user("/a")));
        dropped_anywhere(seed, requests, &answers, || {
            assert!(bulkhead.active() <= 1, "seed {seed}");
        });
        assert!(nothing_is_held(&bulkhead), "seed {seed}");
        assert_eq!(bulkhead.keys(), 0, "seed {seed}");
        let place = bulkhead.try_enter(&"/a".to_owned());
        assert!(matches!(place, Ok(Entry::Permit(_))), "seed {seed}");
        drop(place);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_more_are_let_through_than_there_are_places_whoever_comes_and_goes() {
    let bulkhead = keyed(builder(3).max_wait(60 * SECOND));
    let inside = Arc::new([(); 4].map(|()| std::sync::atomic::AtomicUsize::new(0)));
    let tasks = (0..64_u32).map(|task| {
        let (bulkhead, inside) = (bulkhead.clone(), inside.clone());
        tokio::spawn(async move {
            for turn in 0..50 {
                let key = (task + turn) % 4;
                let permit = bulkhead.enter(&key, None).await.unwrap();
                let inside = &inside[usize::try_from(key).unwrap()];
                assert!(inside.fetch_add(1, Ordering::SeqCst) < 3);
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                drop(permit);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert!(nothing_is_held(&bulkhead));
    assert_eq!(bulkhead.keys(), 0);
}

#[test]
fn values_that_cannot_be_are_named() {
    let cases = [
        ("places", builder(0)),
        ("places", builder(usize::MAX)),
        ("max_wait", builder(1).max_wait(Duration::MAX)),
        ("max_keys", builder(1).max_keys(0)),
    ];
    for (field, builder) in cases {
        let error = builder.build().unwrap_err();
        assert_eq!(error, ResilienceError::Bounds { field });
    }
}
