//! Sagas that are refused, dropped, killed and driven by several at once.

mod killed;
pub(crate) mod purses;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use maxscale_core::telemetry::Metrics;
use maxscale_shard::saga::{Phase, Saga, SagaError, Sagas, StepError};
use maxscale_shard::{Engine, Key, TxOptions, Work, sql};
use maxscale_tests::{Proxy, eventually};
use tokio::task::JoinSet;

use crate::dropped::{cut, random};
use crate::support::{LIMIT, config, open};
use purses::{Bench, Gift, START, add, gift, sagas, take};

on_both!(
    money_goes_from_one_node_to_another,
    refused_step_leaves_everything_as_it_was,
    saga_of_a_transaction_that_was_undone_never_was,
    saga_begun_twice_is_one,
    failing_step_is_given_up_after_its_tries,
    compensation_that_fails_is_told_and_can_be_retried,
    saga_that_nobody_knows_stays,
    two_drivers_do_no_step_twice,
    driver_that_comes_late_changes_nothing,
    saga_dropped_at_any_await_is_recovered,
    sagas_dropped_at_random_by_several_drivers_end_once,
    swept_saga_leaves_no_row,
);

async fn money_goes_from_one_node_to_another(engine: Engine) {
    let bench = Bench::new(engine).await;
    let gift = bench.gift(30);

    assert_eq!(bench.run(&gift).await, Phase::Done);

    assert_eq!(bench.held(&gift).await, (START - 30, START + 30));
    // Asked again, it is done already.
    let (shard, sagas) = (bench.home(&gift), sagas(&bench.fleet));
    assert_eq!(sagas.run(&shard, gift.id).await.unwrap(), Phase::Done);
    assert_eq!(bench.held(&gift).await, (START - 30, START + 30));
}

async fn refused_step_leaves_everything_as_it_was(engine: Engine) {
    let bench = Bench::new(engine).await;
    // The first step, which has nothing to undo, and the last one.
    let mut nobody = bench.gift(30);
    nobody.to = bench.ids.draw(nobody.to.shard());
    for gift in [bench.gift(START + 1), nobody] {
        assert_eq!(bench.run(&gift).await, Phase::Compensated);
        assert_eq!(bench.cents(gift.from).await, Some(START));
    }
    assert_eq!(bench.cents(nobody.to).await, None);
}

async fn saga_of_a_transaction_that_was_undone_never_was(engine: Engine) {
    let bench = Bench::new(engine).await;
    let given = bench.gift(30);
    let shard = bench.home(&given);
    let mut tx = shard.begin().await.unwrap();
    assert!(gift().begin(&mut tx, given.id, &given).await.unwrap());
    tx.rollback().await.unwrap();

    let run = sagas(&bench.fleet).run(&shard, given.id).await;
    assert!(matches!(run, Err(SagaError::NotFound { .. })), "{run:?}");

    let mut tx = shard.node().database().begin().await.unwrap();
    let nowhere = gift().begin(&mut tx, given.id, &given).await;
    assert!(matches!(nowhere, Err(SagaError::NoShard)), "{nowhere:?}");
}

async fn saga_begun_twice_is_one(engine: Engine) {
    let bench = Bench::new(engine).await;
    let given = bench.gift(30);
    for first in [true, false] {
        assert_eq!(bench.begin(&given).await, first);
    }
    let (sagas, shard) = (sagas(&bench.fleet), bench.home(&given));
    assert_eq!(sagas.run(&shard, given.id).await.unwrap(), Phase::Done);
    assert!(!bench.begin(&given).await);
    assert_eq!(bench.held(&given).await, (START - 30, START + 30));
}

async fn failing_step_is_given_up_after_its_tries(engine: Engine) {
    let bench = Bench::new(engine).await;
    let tries = Arc::new(AtomicI64::new(0));
    let counted = tries.clone();
    let failing = Saga::<Gift>::new("gift")
        .step("take", |gift| Key::from(gift.from), take, purses::back)
        .last(
            "give",
            |gift| Key::from(gift.to),
            move |_, _| match counted.fetch_add(1, Ordering::SeqCst) {
                0 => panic!("a bug in a step"),
                1 => Work::new(async { panic!("a bug in a step's work") }),
                _ => Work::new(async { Err(StepError::failed("not today")) }),
            },
        );
    let sagas = Sagas::new(bench.fleet.router().clone())
        .with(&failing)
        .tries(3)
        .pauses(Duration::from_millis(1), Duration::from_millis(2));
    let gift = bench.gift(30);
    bench.begin(&gift).await;

    let shard = bench.home(&gift);
    assert_eq!(sagas.run(&shard, gift.id).await.unwrap(), Phase::Forward);
    bench.recovered(&sagas).await;

    assert_eq!(tries.load(Ordering::SeqCst), 3);
    let phase = sagas.phase(&shard, gift.id).await.unwrap();
    assert_eq!(phase, Phase::Compensated);
    assert_eq!(bench.held(&gift).await, (START, START));
}

async fn compensation_that_fails_is_told_and_can_be_retried(engine: Engine) {
    let bench = Bench::new(engine).await;
    let broken = Arc::new(AtomicBool::new(true));
    let breaks = broken.clone();
    let stuck = Saga::<Gift>::new("gift")
        .step(
            "take",
            |gift| Key::from(gift.from),
            take,
            move |tx, gift| {
                if breaks.load(Ordering::SeqCst) {
                    return Work::new(async { Err(StepError::refused("the purse is locked")) });
                }
                purses::back(tx, gift)
            },
        )
        .last(
            "give",
            |gift| Key::from(gift.to),
            |_, _| Work::new(async { Err(StepError::refused("no")) }),
        );
    let metrics = Metrics::new();
    let sagas = Sagas::new(bench.fleet.router().clone())
        .with(&stuck)
        .meter(&metrics.meter("test"));
    let gift = bench.gift(30);
    bench.begin(&gift).await;
    let shard = bench.home(&gift);

    assert_eq!(sagas.run(&shard, gift.id).await.unwrap(), Phase::Stuck);

    let told = sagas.stuck(shard.node(), 10).await.unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].id, told[0].step), (gift.id, 0));
    let why = told[0].problem.as_deref().unwrap();
    assert!(why.contains("the purse is locked"), "{why}");
    let page = metrics.exposition().unwrap();
    let stuck = r#"maxscale_saga_ended_total{outcome="stuck"} 1"#;
    assert!(page.contains(stuck), "{page}");
    assert_eq!(bench.held(&gift).await, (START - 30, START));

    broken.store(false, Ordering::SeqCst);
    // Nobody does so by himself.
    assert_eq!(sagas.run(&shard, gift.id).await.unwrap(), Phase::Stuck);
    let retried = sagas.retry(&shard, gift.id).await.unwrap();
    assert_eq!(retried, Phase::Compensated);
    assert_eq!(bench.held(&gift).await, (START, START));
    assert!(sagas.stuck(shard.node(), 10).await.unwrap().is_empty());
}

async fn saga_that_nobody_knows_stays(engine: Engine) {
    let bench = Bench::new(engine).await;
    let gift = bench.gift(30);
    bench.begin(&gift).await;
    let shard = bench.home(&gift);
    let none = Sagas::new(bench.fleet.router().clone()).lease(Duration::from_millis(1));

    let run = none.run(&shard, gift.id).await;
    assert!(matches!(run, Err(SagaError::Unknown { .. })), "{run:?}");
    let phase = none.phase(&shard, gift.id).await.unwrap();
    assert_eq!(phase, Phase::Forward);

    bench.recovered(&sagas(&bench.fleet)).await;
    assert_eq!(bench.held(&gift).await, (START - 30, START + 30));
}

async fn two_drivers_do_no_step_twice(engine: Engine) {
    let bench = Bench::new(engine).await;
    let sagas = sagas(&bench.fleet);
    for gifts in 1..=10 {
        let gift = bench.gift(7);
        bench.begin(&gift).await;
        let mut drivers = JoinSet::new();
        for _ in 0..4 {
            let (sagas, shard) = (sagas.clone(), bench.home(&gift));
            // As if the lease ended at once, so that all are at it side by side.
            bench.expire(&gift).await;
            drivers.spawn(async move { sagas.run(&shard, gift.id).await });
        }
        drivers.join_all().await;
        bench.recovered(&sagas).await;
        let held = bench.held(&gift).await;
        assert_eq!(held, (START - 7 * gifts, START + 7 * gifts));
    }
}

/// It was taken for dead, and what it was about to do was given up meanwhile.
async fn driver_that_comes_late_changes_nothing(engine: Engine) {
    let bench = Bench::new(engine).await;
    let gift = bench.gift(30);
    bench.begin(&gift).await;
    let (reached, waits) = mpsc::channel();
    let (goes_on, late) = mpsc::channel::<()>();
    let late = std::sync::Mutex::new(late);
    let frozen = Saga::<Gift>::new("gift")
        .step(
            "take",
            move |gift| {
                // Before its transaction: as a process that is stopped.
                reached.send(()).unwrap();
                late.lock().unwrap().recv_timeout(LIMIT).unwrap();
                Key::from(gift.from)
            },
            take,
            purses::back,
        )
        .last("give", |gift| Key::from(gift.to), purses::give);
    let shard = bench.home(&gift);
    let config = purses::fleet_of(&bench.nodes);
    // A runtime of its own, since all of it stands still.
    let slow = std::thread::spawn(move || {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let fleet = open(config).await;
            let shard = fleet.router().shard(gift.from).unwrap();
            let sagas = Sagas::new(fleet.router().clone()).with(&frozen);
            sagas.run(&shard, gift.id).await
        })
    });
    tokio::task::block_in_place(|| waits.recv_timeout(LIMIT)).unwrap();

    // Another one gives the step up.
    bench.expire(&gift).await;
    let refusing = Saga::<Gift>::new("gift")
        .step(
            "take",
            |gift| Key::from(gift.from),
            |_, _| Work::new(async { Err(StepError::refused("no")) }),
            purses::back,
        )
        .last("give", |gift| Key::from(gift.to), purses::give);
    let other = Sagas::new(bench.fleet.router().clone()).with(&refusing);
    let phase = other.run(&shard, gift.id).await.unwrap();
    assert_eq!(phase, Phase::Compensated);

    goes_on.send(()).unwrap();
    let late = tokio::task::block_in_place(|| slow.join().unwrap());
    assert_eq!(late.unwrap(), Phase::Compensated);
    assert_eq!(bench.held(&gift).await, (START, START));
}

async fn saga_dropped_at_any_await_is_recovered(engine: Engine) {
    let bench = Bench::new(engine).await;
    let sagas = sagas(&bench.fleet);
    let mut ends = [0, 0];
    // One that is done, and one whose last step is refused.
    for refused in [false, true] {
        // On a busy machine answers come in few polls: then it is done once more.
        while ends[usize::from(refused)] <= 10 {
            ends[usize::from(refused)] += dropped_after_each_poll(&bench, &sagas, refused).await;
        }
    }
    assert!(ends.iter().all(|ends| *ends > 10), "{ends:?}");
    let (_, to) = bench.held(&bench.gift(1)).await;
    assert_eq!(to, START + ends[0]);
}

/// Drops the driver ever later, until one was not dropped; how many sagas that were.
async fn dropped_after_each_poll(bench: &Bench, sagas: &Sagas, refused: bool) -> i64 {
    let mut ends = 0;
    for at_once in [false, true] {
        for polls in 0.. {
            let mut gift = bench.gift(1);
            if refused {
                gift.to = bench.ids.draw(gift.to.shard());
            }
            bench.begin(&gift).await;
            let before = bench.cents(gift.from).await.unwrap();
            let shard = bench.home(&gift);
            let whole = cut(polls, at_once, sagas.run(&shard, gift.id)).await;

            bench.recovered(sagas).await;

            let end = sagas.phase(&shard, gift.id).await.unwrap();
            let after = bench.cents(gift.from).await.unwrap();
            let expected = match refused {
                false => (Phase::Done, before - 1),
                true => (Phase::Compensated, before),
            };
            assert_eq!((end, after), expected, "dropped after {polls} polls");
            ends += 1;
            if whole.is_some() {
                break;
            }
        }
    }
    ends
}

async fn sagas_dropped_at_random_by_several_drivers_end_once(engine: Engine) {
    const SAGAS: i64 = 60;
    let bench = Bench::new(engine).await;
    let mut gifts = Vec::new();
    for cents in 1..=SAGAS {
        let mut gift = bench.gift(cents);
        if random().is_multiple_of(3) {
            gift.to = bench.ids.draw(gift.to.shard());
        }
        bench.begin(&gift).await;
        gifts.push(gift);
    }
    let sagas = sagas(&bench.fleet);
    let mut drivers = JoinSet::new();
    for _ in 0..4 {
        let (sagas, fleet, gifts) = (sagas.clone(), bench.fleet.clone(), gifts.clone());
        drivers.spawn(async move {
            for _ in 0..2 * SAGAS {
                let at = usize::try_from(random()).unwrap() % gifts.len();
                let gift = gifts[at];
                let shard = fleet.router().shard(gift.from).unwrap();
                purses::expire(&shard, gift.id).await;
                let run = sagas.run(&shard, gift.id);
                let _ = cut(random() % 60, random().is_multiple_of(2), run).await;
            }
        });
    }
    drivers.join_all().await;
    bench.recovered(&sagas).await;

    let to = bench.gift(0).to;
    let mut moved = 0;
    for (gift, cents) in gifts.iter().zip(1..) {
        let phase = sagas.phase(&bench.home(gift), gift.id).await.unwrap();
        let good = gift.to == to;
        assert_eq!(phase == Phase::Done, good, "{phase:?}");
        assert_eq!(phase == Phase::Compensated, !good, "{phase:?}");
        moved += if good { cents } else { 0 };
    }
    assert_eq!(
        bench.held(&bench.gift(0)).await,
        (START - moved, START + moved)
    );
}

async fn swept_saga_leaves_no_row(engine: Engine) {
    let bench = Bench::new(engine).await;
    let (done, refused) = (bench.gift(30), bench.gift(START + 1));
    bench.run(&done).await;
    bench.run(&refused).await;
    let (sagas, nodes) = (sagas(&bench.fleet), bench.fleet.router().nodes());
    let sweep = async |keep| {
        let mut removed = 0;
        for node in nodes.iter() {
            removed += sagas.sweep(node, keep).await.unwrap();
        }
        removed
    };
    assert_eq!(sweep(Duration::from_secs(60)).await, 0);
    eventually(LIMIT, async || sweep(Duration::ZERO).await == 2).await;

    for node in nodes.iter() {
        for rows in ["SELECT 1 FROM ms_saga", "SELECT 1 FROM ms_saga_effect"] {
            let rows = node.database().fetch_all(sql(rows)).await.unwrap();
            assert!(rows.is_empty());
        }
    }
}

/// What passes by itself uses up no tries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn saga_waits_for_a_node_that_is_away() {
    let bench = Bench::new(Engine::Postgres).await;
    let proxy = Proxy::start(&bench.nodes.urls[1]).await;
    let urls = [&*bench.nodes.urls[0], &*proxy.url()];
    let fleet = open(config(&urls).migrations(purses::PURSES)).await;
    let sagas = sagas(&fleet).tries(1);
    let gift = bench.gift(30);
    bench.begin(&gift).await;
    proxy.refuse().await;
    proxy.cut(maxscale_tests::Cut::Reset).await;

    let shard = fleet.router().shard(gift.from).unwrap();
    for _ in 0..3 {
        bench.expire(&gift).await;
        let phase = sagas.run(&shard, gift.id).await.unwrap();
        assert_eq!(phase, Phase::Forward);
    }
    proxy.heal().await;
    bench.recovered(&sagas).await;
    assert_eq!(bench.held(&gift).await, (START - 30, START + 30));
}

/// The caller's own rows and the saga are there together, or neither is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn saga_is_begun_in_a_closure_that_runs_again() {
    let bench = Bench::new(Engine::Postgres).await;
    let given = bench.gift(30);
    let saga = gift();
    let saga = &saga;
    let begun = bench
        .fleet
        .router()
        .write(given.from, TxOptions::new(), |tx| {
            Work::new(async move {
                add(tx, given.from, 1).await?;
                saga.begin(tx, given.id, &given).await
            })
        });
    let begun: Result<_, SagaError> = begun.await;
    assert!(begun.unwrap().value);
    bench.recovered(&sagas(&bench.fleet)).await;
    assert_eq!(bench.held(&given).await, (START - 29, START + 30));
}
