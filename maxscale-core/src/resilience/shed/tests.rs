use std::sync::atomic::AtomicUsize;

use http::{HeaderValue, Request};
use tokio::sync::Semaphore;
use tokio::time::advance;
use tower::util::ServiceExt as _;
use tower_layer::Layer as _;

use super::*;
use crate::clock::{Clock, Timestamp};
use crate::fact::{ClientIp, Subject};
use crate::resilience::ResilienceError;
use crate::resilience::upstream::{Reply, dropped_anywhere, upstream};

const MILLI: Duration = Duration::from_millis(1);

fn builder(places: usize) -> LoadShedderBuilder {
    let (clock, _) = Clock::manual(Timestamp::from_micros(0));
    LoadShedder::builder("service", places)
        .secret([7; 16])
        .clock(&clock)
}

fn entered(shedder: &LoadShedder, priority: Priority) -> Option<LoadShedPermit> {
    match shedder.try_enter(priority, || None) {
        Ok(Entry::Permit(permit)) => Some(permit),
        _ => None,
    }
}

fn filled(shedder: &LoadShedder, priority: Priority) -> Vec<LoadShedPermit> {
    std::iter::from_fn(|| entered(shedder, priority)).collect()
}

fn nothing_is_held(shedder: &LoadShedder) -> bool {
    (shedder.active(), shedder.waiting()) == (0, 0)
}

/// Sheds all that may be shed but a little: windows went by in which nobody found a
/// place.
async fn overloaded(shedder: &LoadShedder) -> Vec<LoadShedPermit> {
    let held = filled(shedder, Priority::LOW);
    for _ in 0..3 {
        for tier in [1, 2, 3, 4, 5].repeat(200) {
            let priority = Priority::of_tier(tier);
            // The queue is full: these do not wait.
            let _ = shedder.enter(priority, None, None).await;
        }
        advance(LoadShedder::DEFAULT_WINDOW).await;
    }
    held
}

#[tokio::test(start_paused = true)]
async fn reserve_is_for_what_is_critical_which_may_have_all() {
    let shedder = builder(10).reserve(0.2).build().unwrap();
    let others = filled(&shedder, Priority::HIGH);
    assert_eq!(others.len(), 8);
    let critical = filled(&shedder, Priority::CRITICAL);
    assert_eq!((critical.len(), shedder.active()), (2, 10));
    drop((others, critical));
    assert_eq!(filled(&shedder, Priority::CRITICAL).len(), 10);
    assert!(nothing_is_held(&shedder));
}

/// Who waits for a place gets the next one, of whichever kind if he is critical.
#[tokio::test(start_paused = true)]
async fn critical_request_waits_for_either_kind_of_place() {
    let shedder = builder(2).reserve(0.5).build().unwrap();
    for reserved in [true, false] {
        let mut held = [Priority::CRITICAL, Priority::HIGH].map(|it| entered(&shedder, it));
        assert!(held.iter().all(Option::is_some));
        let (permit, ()) = tokio::join!(shedder.enter(Priority::CRITICAL, None, None), async {
            tokio::task::yield_now().await;
            assert_eq!(shedder.waiting(), 1);
            held[usize::from(!reserved)] = None;
        });
        drop(permit.unwrap());
        assert_eq!(shedder.waiting(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn queue_has_an_end_and_a_wait_too() {
    let shedder = builder(1).reserve(0.0).queue(1).max_wait(20 * MILLI);
    let shedder = shedder.build().unwrap();
    let held = entered(&shedder, Priority::HIGH).unwrap();
    let enter = |priority, deadline| shedder.enter(priority, None, deadline);
    let now = Instant::now();
    let (waits, full, critical) = tokio::join!(
        async { (enter(Priority::HIGH, None).await, now.elapsed()) },
        async { (enter(Priority::HIGH, None).await, now.elapsed()) },
        async {
            let deadline = Deadline::at(now + 5 * MILLI);
            let critical = enter(Priority::CRITICAL, Some(deadline)).await;
            (critical, now.elapsed())
        },
    );
    for ((refused, waited), after) in [(waits, 20), (full, 0), (critical, 5)] {
        assert!(matches!(refused, Err(Overloaded::Full { .. })));
        assert_eq!(waited, after * MILLI);
    }
    drop(held);
    assert!(nothing_is_held(&shedder));
}

#[tokio::test(start_paused = true)]
async fn what_matters_least_is_shed_and_what_is_critical_never() {
    let shedder = builder(10).queue(0).build().unwrap();
    assert!((shedder.tiers() - 6.0).abs() < 1e-9);
    let held = overloaded(&shedder).await;
    assert!(shedder.tiers() < 2.0, "{}", shedder.tiers());
    drop(held);
    for tier in 2..=5 {
        let shed = shedder
            .enter(Priority::of_tier(tier), Some("a"), None)
            .await;
        assert!(matches!(shed, Err(Overloaded::Shed { .. })), "{tier}");
    }
    assert_eq!(filled(&shedder, Priority::CRITICAL).len(), 10);
    assert!(shedder.0.told[2].shed.get() > 0);
    assert_eq!(shedder.0.told[0].shed.get(), 0);
}

/// Or who came first after a quiet night would be refused for what was in the evening.
#[tokio::test(start_paused = true)]
async fn load_is_over_when_nobody_comes_for_a_window() {
    let shedder = builder(10).queue(0).build().unwrap();
    drop(overloaded(&shedder).await);
    advance(LoadShedder::DEFAULT_WINDOW).await;
    drop(shedder.enter(Priority::LOWEST, None, None).await.unwrap());
    assert!((shedder.tiers() - 6.0).abs() < 1e-9);
}

#[tokio::test(start_paused = true)]
async fn users_of_a_tier_are_shed_whole_and_take_turns() {
    let shedder = builder(10).queue(0).build().unwrap();
    drop(overloaded(&shedder).await);
    let cut = Shedding::COHORTS / 2;
    let users: Vec<_> = (0..200).map(|it| format!("user-{it}")).collect();
    let shed = |now| {
        let rank = |who: &String| shedder.0.cohorts.rank(Priority::HIGH, Some(who), now) >= cut;
        users.iter().map(rank).collect::<Vec<_>>()
    };
    let now = shed(0);
    let count = now.iter().filter(|it| **it).count();
    assert!((70..130).contains(&count), "{count}");
    assert_eq!(shed(1_000_000), now, "a second later they are the same");
    let half = u64::try_from(LoadShedder::DEFAULT_TURN.as_micros() / 2).unwrap();
    let others = shed(half).iter().zip(&now).filter(|(a, b)| a != b).count();
    assert_eq!(others, 200, "half a turn later they are the others");
}

#[tokio::test(start_paused = true)]
async fn request_is_refused_by_its_fact_and_never_by_a_header() {
    let shedder = builder(10).queue(0).build().unwrap();
    drop(overloaded(&shedder).await);
    let answers = Arc::new(Semaphore::new(1));
    let service = LoadShedderLayer::new(shedder).layer(upstream(answers));
    let mut request = Request::new(());
    let header = HeaderValue::from_static("u=0");
    request.headers_mut().insert("priority", header);
    let reply: Reply = service.clone().oneshot(request.clone()).await;
    let reply = reply.unwrap();
    assert_eq!(
        (reply.status().as_u16(), &reply.headers()["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    request.extensions_mut().insert(Priority::CRITICAL);
    let reply: Reply = service.oneshot(request).await;
    assert_eq!(reply.unwrap().status(), 200);
}

#[test]
fn callers_are_told_apart_by_subject_then_by_network() {
    let mut request = Request::new(());
    let who = |request: &Request<()>| ByCaller.who(request).map(Cow::into_owned);
    assert_eq!(who(&request), None);
    for (ip, expected) in [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
    ] {
        request
            .extensions_mut()
            .insert(ClientIp(ip.parse().unwrap()));
        assert_eq!(who(&request).as_deref(), Some(expected));
    }
    request.extensions_mut().insert(Subject::new("ann"));
    assert_eq!(who(&request).as_deref(), Some("ann"));
    let key = |request: &Request<()>| Some(request.uri().path().to_owned());
    assert_eq!(key.who(&request).as_deref(), Some("/"));
}

#[tokio::test(start_paused = true)]
async fn callers_are_not_asked_for_while_nobody_has_to_wait() {
    let shedder = builder(2).reserve(0.0).build().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let key = {
        let asked = asked.clone();
        move |_: &Request<()>| {
            asked.fetch_add(1, Ordering::Relaxed);
            None
        }
    };
    let answers = Arc::new(Semaphore::new(100));
    let layer = LoadShedderLayer::new(shedder.clone()).keyed_by(key);
    let service = layer.layer(upstream(answers));
    for _ in 0..10 {
        service.clone().oneshot(Request::new(())).await.unwrap();
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    let held = filled(&shedder, Priority::NORMAL);
    let wait = MILLI;
    let waits = tokio::time::timeout(wait, service.clone().oneshot(Request::new(())));
    assert!(waits.await.is_err());
    drop(held);
    service.oneshot(Request::new(())).await.unwrap();
    assert!(asked.load(Ordering::Relaxed) > 0);
    assert!(nothing_is_held(&shedder));
}

#[tokio::test(start_paused = true)]
async fn dry_run_lets_all_through_at_once_and_counts() {
    let shedder = builder(10).dry_run(true).build().unwrap();
    let held = [(); 9].map(|()| entered(&shedder, Priority::LOW));
    assert_eq!(shedder.active(), 9);
    for _ in 0..3 {
        let now = Instant::now();
        for tier in [1, 2, 4].repeat(100) {
            let priority = Priority::of_tier(tier);
            drop(shedder.enter(priority, None, None).await.unwrap());
        }
        assert_eq!(now.elapsed(), Duration::ZERO);
        advance(LoadShedder::DEFAULT_WINDOW).await;
    }
    let would = |tier: usize| shedder.0.told[tier].would_shed.get();
    assert!(would(4) >= 100, "{}", would(4));
    assert_eq!(would(0), 0);
    shedder.set_dry_run(false);
    let shed = shedder.enter(Priority::LOW, None, None).await;
    assert!(matches!(shed, Err(Overloaded::Shed { .. })));
    drop(held);
    assert!(nothing_is_held(&shedder));
}

#[tokio::test(start_paused = true)]
async fn places_are_free_again_wherever_the_request_was_dropped() {
    let wait = Duration::from_secs(3_600);
    let shedder = builder(2).reserve(0.5).max_wait(wait).build().unwrap();
    let answers = Arc::new(Semaphore::new(0));
    let service = LoadShedderLayer::new(shedder.clone()).layer(upstream(answers.clone()));
    for seed in 0..1_000 {
        let requests = (0..6_u8).map(|number| {
            let mut request = Request::new(());
            let priority = Priority::of_tier(number % 2);
            request.extensions_mut().insert(priority);
            service.clone().oneshot(request)
        });
        dropped_anywhere(seed, requests, &answers, || {
            assert!(shedder.active() <= 2, "seed {seed}");
        });
        assert!(nothing_is_held(&shedder), "seed {seed}");
        assert_eq!(filled(&shedder, Priority::CRITICAL).len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_more_are_let_through_than_there_are_places_whoever_comes_and_goes() {
    let wait = Duration::from_secs(60);
    let shedder = builder(4).reserve(0.25).queue(1_000).max_wait(wait);
    let shedder = shedder.target(wait / 2, wait).build().unwrap();
    let inside = Arc::new([(); 2].map(|()| AtomicUsize::new(0)));
    let tasks = (0..64_u8).map(|task| {
        let (shedder, inside) = (shedder.clone(), inside.clone());
        tokio::spawn(async move {
            let priority = Priority::of_tier(task % 2);
            for _ in 0..100 {
                let permit = shedder.enter(priority, None, None).await.unwrap();
                let [all, others] = &*inside;
                assert!(all.fetch_add(1, Ordering::SeqCst) < 4);
                let other = usize::from(task % 2);
                assert!(others.fetch_add(other, Ordering::SeqCst) + other <= 3);
                tokio::task::yield_now().await;
                others.fetch_sub(other, Ordering::SeqCst);
                all.fetch_sub(1, Ordering::SeqCst);
                drop(permit);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert!(nothing_is_held(&shedder));
}

#[test]
fn values_that_cannot_be_are_named() {
    let day = Duration::from_secs(86_401);
    let cases = [
        ("places", builder(0)),
        ("places", builder(usize::MAX)),
        ("reserve", builder(10).reserve(1.0)),
        ("reserve", builder(10).reserve(0.96)),
        ("reserve", builder(10).reserve(-0.1)),
        ("reserve", builder(10).reserve(f64::NAN)),
        ("target", builder(10).target(Duration::ZERO, MILLI)),
        ("target", builder(10).target(MILLI, MILLI)),
        ("target", builder(10).target(MILLI, day)),
        ("max_wait", builder(10).max_wait(Duration::MAX)),
        ("turn", builder(10).turn(Duration::ZERO)),
        ("turn", builder(10).turn(day)),
    ];
    for (field, builder) in cases {
        let error = builder.build().unwrap_err();
        assert_eq!(error, ResilienceError::Bounds { field });
    }
    assert!(!format!("{:?}", builder(1)).contains('7'));
}
