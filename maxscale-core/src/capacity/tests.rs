use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::{Instant, timeout};

use super::*;
use crate::clock::Timestamp;

const LIMIT: Duration = Duration::from_secs(3_600);

/// A resource of 100 whose use the test sets.
fn resource(capacity: &Capacity) -> Arc<AtomicU64> {
    let used = Arc::new(AtomicU64::new(0));
    let now = used.clone();
    let read = move || Some(now.load(Ordering::SeqCst) as f64);
    capacity.register("disk", read, || Some(100.0));
    used
}

fn capacity() -> Capacity {
    Capacity::builder(Clock::system()).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn change_is_told_after_three_readings() {
    let capacity = capacity();
    let mut changes = capacity.subscribe();
    let used = resource(&capacity);
    used.store(80, Ordering::SeqCst);
    let start = Instant::now();
    let change = timeout(LIMIT, changes.recv()).await.unwrap().unwrap();
    assert_eq!((&*change.name, change.from), ("disk", Level::Normal));
    assert_eq!((change.to, change.ratio), (Level::Warning, 0.8));
    assert!(start.elapsed() >= 2 * Capacity::DEFAULT_INTERVAL);
    assert_eq!(capacity.report()[0].level, Level::Warning);

    used.store(95, Ordering::SeqCst);
    let change = timeout(LIMIT, changes.recv()).await.unwrap().unwrap();
    assert_eq!(change.to, Level::Critical);
    used.store(10, Ordering::SeqCst);
    let change = timeout(LIMIT, changes.recv()).await.unwrap().unwrap();
    assert_eq!((change.from, change.to), (Level::Critical, Level::Normal));
    assert_eq!(changes.try_recv(), Err(TryRecvError::Empty));
}

/// Waits until the resource was read so often.
async fn read(reads: &AtomicU64, times: u64) {
    let reads = async {
        while reads.load(Ordering::SeqCst) < times {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(LIMIT, reads).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn time_until_it_is_full_is_by_the_injected_clock() {
    let (clock, time) = Clock::manual(Timestamp::from_micros(0));
    let capacity = Capacity::builder(clock).build().unwrap();
    let reads = Arc::new(AtomicU64::new(0));
    let count = reads.clone();
    let used = move || {
        // One unit in each of the clock's minutes.
        time.advance(Duration::from_secs(60));
        Some(count.fetch_add(1, Ordering::SeqCst) as f64)
    };
    capacity.register("disk", used, || Some(100.0));
    read(&reads, 10).await;
    let reading = capacity.report().remove(0);
    let left = (100.0 - reading.ratio.unwrap() * 100.0) * 60.0;
    let foreseen = reading.exhausted_in.unwrap().as_secs_f64();
    assert!((foreseen - left).abs() < 1.0, "{foreseen} for {left}");
}

#[tokio::test(start_paused = true)]
async fn reading_that_is_missing_or_nonsense_changes_nothing() {
    let capacity = capacity();
    let reads = Arc::new(AtomicU64::new(0));
    for (name, used, limit) in [
        ("none", None, Some(100.0)),
        ("zero", Some(1.0), Some(0.0)),
        ("negative", Some(1.0), Some(-1.0)),
        ("no number", Some(f64::NAN), Some(1.0)),
        ("endless", Some(f64::INFINITY), Some(1.0)),
    ] {
        let count = reads.clone();
        let used = move || {
            count.fetch_add(1, Ordering::SeqCst);
            used
        };
        capacity.register(name, used, move || limit);
    }
    read(&reads, 5 * 4).await;
    for reading in capacity.report() {
        assert_eq!(
            (reading.ratio, reading.level),
            (None, Level::Normal),
            "{reading:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn closure_that_panics_costs_its_own_reading_only() {
    let capacity = capacity();
    let mut changes = capacity.subscribe();
    capacity.register("broken", || panic!("a defect in the closure"), || Some(1.0));
    resource(&capacity).store(90, Ordering::SeqCst);
    let change = timeout(LIMIT, changes.recv()).await.unwrap().unwrap();
    assert_eq!((&*change.name, change.to), ("disk", Level::Critical));
}

#[tokio::test(start_paused = true)]
async fn reading_stops_with_the_last_handle() {
    let capacity = capacity();
    let used = resource(&capacity);
    assert_eq!(Arc::strong_count(&used), 2);
    drop(capacity);
    let freed = async {
        while Arc::strong_count(&used) > 1 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(LIMIT, freed).await.unwrap();
}

#[test]
fn values_that_cannot_be_are_refused_by_the_name_of_their_setter() {
    let builder = || Capacity::builder(Clock::system());
    for (refused, wanted) in [
        (builder().warning(75.0).build(), "warning"),
        (builder().critical(0.5).build(), "critical"),
        (builder().interval(Duration::ZERO).build(), "interval"),
    ] {
        let Err(CapacityError::Bounds { field }) = refused else {
            panic!("{wanted} passes");
        };
        assert_eq!(field, wanted);
    }
}
