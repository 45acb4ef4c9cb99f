//! A coordinator that is dropped or killed, or loses a connection or an answer, at
//! each of its steps.

use std::pin::Pin;
use std::task::Poll;

use maxscale_shard::two_phase::TwoPhaseError;
use maxscale_tests::{Cut, Proxy, Way, eventually};
use tokio::task::JoinSet;

use super::{Bench, begun, coordinator, ids, users};
use crate::dropped::{cut, random};
use crate::killed::{order, was_killed};
use crate::support::{LIMIT, config, note, notes, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_dropped_at_any_await_ends_whole() {
    let bench = Bench::new().await;
    let (mut n, mut committed) = (0, 0);
    // On a busy machine answers come in few polls: then it is done once more.
    while n <= 3 {
        for at_once in [false, true] {
            for polls in 0.. {
                n += 1;
                let both = bench.begun(n).await;
                let done = cut(polls, at_once, both.commit()).await;
                bench.recovered().await;
                let stored = bench.both(n).await;
                committed += i64::from(stored);
                if let Some(done) = done {
                    done.unwrap();
                    assert!(stored);
                    break;
                }
            }
        }
    }
    // Some before the decision, some after it.
    assert!(n > 3 && (1..n).contains(&committed), "{committed} of {n}");
}

const ORDER: &str = "MAXSCALE_TEST_TWO_PHASE";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that is killed; started by the test below"]
async fn worker() {
    // Run by name with the other long ones, it has nothing to do.
    let Some(order) = order(ORDER) else { return };
    let (polls, n, first, second): (u64, i64, String, String) =
        serde_json::from_str(&order).unwrap();
    let fleet = open(config(&[&first, &second])).await;
    let both = begun(&coordinator(&fleet), &ids(), n).await;
    if cut(polls, true, both.commit()).await.is_none() {
        crate::killed::kill_self();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coordinator_killed_at_any_await_leaves_nothing_in_doubt() {
    let bench = Bench::new().await;
    let (mut n, mut committed) = (0, 0);
    while n <= 3 {
        for polls in 1_u64.. {
            n += 1;
            let [first, second] = [0, 1].map(|at: usize| bench.nodes.urls[at].clone());
            let order = serde_json::to_string(&(polls, n, first, second)).unwrap();
            let killed = was_killed("two_phase::lost::worker", (ORDER, order)).await;
            bench.recovered().await;
            let stored = bench.both(n).await;
            committed += i64::from(stored);
            if !killed {
                assert!(stored);
                break;
            }
        }
    }
    assert!(n > 3 && (1..n).contains(&committed), "{committed} of {n}");
}

/// What happens to the connections to a node between two polls.
#[derive(Clone, Copy, Debug)]
enum Fault {
    LostAnswer,
    Cut,
    Swallowed,
}

/// Polls a commit so often, and then lets it wait.
async fn polled<T>(polls: u64, mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let mut polled = 0;
    std::future::poll_fn(|cx| {
        if polled == polls {
            return Poll::Ready(None);
        }
        polled += 1;
        work.as_mut().poll(cx).map(Some)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answer_lost_at_any_step_leaves_nothing_in_doubt() {
    let bench = Bench::new().await;
    let proxies = [
        Proxy::start(&bench.nodes.urls[0]).await,
        Proxy::start(&bench.nodes.urls[1]).await,
    ];
    let urls = proxies.each_ref().map(Proxy::url);
    let fleet = open(config(&urls.each_ref().map(String::as_str))).await;
    let (two_phase, mut n) = (coordinator(&fleet), 0);
    let (mut committed, mut aborted, mut in_doubt) = (0, 0, 0);
    let faults = [Fault::LostAnswer, Fault::Cut, Fault::Swallowed];
    // Answers that come at once leave few steps to lose them at.
    let mut rounds = 0..20;
    while (committed <= 5 || aborted <= 5) && rounds.next().is_some() {
        for fault in &faults {
            for (proxy, other) in [(&proxies[0], &proxies[1]), (&proxies[1], &proxies[0])] {
                for polls in 1.. {
                    n += 1;
                    let both = eventually(LIMIT, async || {
                        let users = users(&bench.ids);
                        let mut both = two_phase.begin(bench.ids.draw(users[0].shard()));
                        for (user, part) in users.into_iter().zip(1..) {
                            both.on(user).await?.execute(note(n, part)).await?;
                        }
                        Ok::<_, TwoPhaseError>(both)
                    })
                    .await;
                    let commit = both.commit();
                    tokio::pin!(commit);
                    let whole = polled(polls, commit.as_mut()).await;
                    let end = whole.is_some();
                    let done = match whole {
                        Some(done) => done,
                        None => {
                            match fault {
                                Fault::LostAnswer => proxy.drop_reply(),
                                Fault::Cut => proxy.cut(Cut::Reset).await,
                                Fault::Swallowed => {
                                    proxy.black_hole(Way::ToServer);
                                    proxy.cut(Cut::Reset).await;
                                    proxy.heal().await;
                                }
                            }
                            commit.await
                        }
                    };
                    proxy.heal().await;
                    other.heal().await;
                    bench.recovered().await;
                    let stored = bench.both(n).await;
                    match done {
                        Ok(_) => {
                            committed += 1;
                            assert!(stored, "{fault:?} after {polls} polls");
                        }
                        Err(TwoPhaseError::Aborted { .. }) => {
                            aborted += 1;
                            assert!(!stored, "{fault:?} after {polls} polls");
                        }
                        Err(TwoPhaseError::InDoubt { decision, .. }) => {
                            in_doubt += 1;
                            let told = bench.two_phase.outcome(&decision).await.unwrap();
                            assert_eq!(stored, told);
                        }
                        Err(error) => panic!("{error:?}"),
                    }
                    if end {
                        break;
                    }
                }
            }
        }
    }
    assert!(
        committed > 5 && aborted > 5,
        "{committed} {aborted} {in_doubt}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_drops_beside_recovery_leave_nothing_by_halves() {
    const EACH: i64 = 30;
    let bench = Bench::new().await;
    let mut tasks = JoinSet::new();
    for task in 0..3 {
        let two_phase = bench.two_phase.clone();
        tasks.spawn(async move {
            let (ids, mut acknowledged) = (ids(), Vec::new());
            for n in (0..EACH).map(|n| n * 3 + task) {
                let both = begun(&two_phase, &ids, n).await;
                // Some to their end, however many polls that takes beside others.
                let polls = match random().is_multiple_of(4) {
                    true => u64::MAX,
                    false => random() % 16,
                };
                let done = cut(polls, random().is_multiple_of(2), both.commit()).await;
                match done {
                    Some(Ok(_)) => acknowledged.push(n),
                    None => {}
                    Some(Err(error)) => panic!("{error:?}"),
                }
            }
            acknowledged
        });
    }
    let recovering = bench.two_phase.clone();
    let recovering = tokio::spawn(async move {
        loop {
            recovering.recover().await;
        }
    });
    let acknowledged: Vec<i64> = tasks.join_all().await.into_iter().flatten().collect();
    recovering.abort();
    let _ = recovering.await;
    bench.recovered().await;
    for n in 0..3 * EACH {
        let stored = bench.both(n).await;
        assert!(stored || !acknowledged.contains(&n), "{n}");
    }
    assert!(!acknowledged.is_empty());
    assert!(notes(&bench.nodes).await.len() >= acknowledged.len());
}
