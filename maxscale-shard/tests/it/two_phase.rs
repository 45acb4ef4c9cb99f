//! Transactions on two nodes whose coordinator, connection or answer is lost at
//! each of its steps.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use maxscale_core::clock::Clock;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::{Id, IdGenerator, KeyspaceTag};
use maxscale_core::telemetry::Metrics;
use maxscale_shard::two_phase::{Decided, Resolved, TwoPhase, TwoPhaseError, TwoPhaseTx};
use maxscale_shard::{Engine, Fleet, Product, ShardError, sql};
use maxscale_tests::{Cut, PostgresServer, Proxy, Way, eventually};
use sqlx::postgres::PgPool;
use tokio::task::{JoinHandle, JoinSet};

use crate::dropped::{cut, random};
use crate::killed::{order, was_killed};
use crate::support::{LIMIT, Nodes, SHARDS, config, note, notes, open};

/// Two nodes, and what is prepared there.
struct Bench {
    fleet: Fleet,
    two_phase: TwoPhase,
    ids: IdGenerator,
    nodes: Nodes,
}

/// A key on each node.
fn users(ids: &IdGenerator) -> [Id; 2] {
    [0, SHARDS - 1].map(|shard| ids.draw(VirtualShard::new(shard)))
}

fn ids() -> IdGenerator {
    IdGenerator::new(Clock::system(), KeyspaceTag::default())
}

/// Ends what is prepared however young it is.
fn coordinator(fleet: &Fleet) -> TwoPhase {
    let coordinator = TwoPhase::new(fleet.router().clone(), "test").unwrap();
    coordinator.age(Duration::ZERO)
}

/// A transaction that notes `n` on both nodes, not yet committed.
async fn begun(two_phase: &TwoPhase, ids: &IdGenerator, n: i64) -> TwoPhaseTx {
    let users = users(ids);
    let mut both = two_phase.begin(ids.draw(users[0].shard()));
    for (user, part) in users.into_iter().zip(1..) {
        let tx = both.on(user).await.unwrap();
        assert_eq!(tx.shard(), Some(user.shard()));
        tx.execute(note(n, part)).await.unwrap();
    }
    both
}

async fn written(two_phase: &TwoPhase, ids: &IdGenerator, n: i64) -> Result<(), TwoPhaseError> {
    let decided = begun(two_phase, ids, n).await.commit().await?;
    assert_eq!(decided.unfinished, 0);
    Ok(())
}

impl Bench {
    async fn new() -> Self {
        let nodes = Nodes::fresh(Engine::Postgres, 2).await;
        let fleet = open(nodes.config()).await;
        Self {
            two_phase: coordinator(&fleet),
            fleet,
            ids: ids(),
            nodes,
        }
    }

    async fn begun(&self, n: i64) -> TwoPhaseTx {
        begun(&self.two_phase, &self.ids, n).await
    }

    /// How many are prepared on both nodes.
    async fn prepared(&self) -> usize {
        self.rows("SELECT 1 FROM pg_prepared_xacts WHERE database = current_database()")
            .await
    }

    async fn rows(&self, text: &'static str) -> usize {
        let mut rows = 0;
        for node in self.fleet.router().nodes().iter() {
            rows += node.database().fetch_all(sql(text)).await.unwrap().len();
        }
        rows
    }

    /// Recovers until nothing is in doubt and no decision is open: what a dead
    /// coordinator sent may reach a server only now.
    async fn recovered(&self) {
        eventually(LIMIT, async || {
            let passed = self.two_phase.recover().await;
            assert_eq!((passed.young, passed.foreign), (0, 0), "{passed:?}");
            let open = self.rows("SELECT 1 FROM ms_decision WHERE NOT finished");
            let busy = "SELECT 1 FROM pg_stat_activity
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
            let left = (open.await, self.prepared().await, self.rows(busy).await);
            if left == (0, 0, 0) { Ok(()) } else { Err(left) }
        })
        .await;
    }

    /// Whether `n` is on both nodes; it must not be on one.
    async fn both(&self, n: i64) -> bool {
        let mut found = 0;
        for node in self.fleet.router().nodes().iter() {
            let parts = sql("SELECT part FROM note WHERE n = $1").bind(n);
            found += node.database().fetch_all(parts).await.unwrap().len();
        }
        assert_ne!(found, 1, "{n} is on one node");
        found == 2
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_nodes_are_committed() {
    let bench = Bench::new().await;
    for n in 0..20 {
        written(&bench.two_phase, &bench.ids, n).await.unwrap();
        assert!(bench.both(n).await);
    }
    assert_eq!(bench.prepared().await, 0);
    assert_eq!(
        bench.rows("SELECT 1 FROM ms_decision WHERE finished").await,
        20
    );

    let forgetful = bench.two_phase.clone().keep(Duration::ZERO);
    assert_eq!(forgetful.recover().await, Resolved::default());
    assert_eq!(bench.rows("SELECT 1 FROM ms_decision").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_committed_is_nowhere() {
    let bench = Bench::new().await;
    drop(bench.begun(1).await);
    bench.begun(2).await.rollback().await;
    // The last statement of one node fails.
    let mut both = bench.begun(3).await;
    let tx = both.on(users(&bench.ids)[1]).await.unwrap();
    tx.execute(note(3, 2)).await.unwrap_err();
    let failed = both.commit().await;
    assert!(
        matches!(
            &failed,
            Err(TwoPhaseError::Aborted {
                source: ShardError::Aborted { .. }
            })
        ),
        "{failed:?}"
    );
    bench.recovered().await;
    for n in 1..=3 {
        assert!(!bench.both(n).await);
    }
}

/// What PostgreSQL checks only at the end of a transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn participant_that_cannot_prepare_undoes_the_others() {
    let bench = Bench::new().await;
    let mut both = bench.begun(1).await;
    let tx = both.on(users(&bench.ids)[1]).await.unwrap();
    // What needs the session cannot be prepared.
    tx.execute(sql("CREATE TEMPORARY TABLE mine (n bigint)"))
        .await
        .unwrap();

    let failed = both.commit().await;

    assert!(
        matches!(&failed, Err(TwoPhaseError::Aborted { .. })),
        "{failed:?}"
    );
    assert!(!bench.both(1).await);
    assert_eq!(bench.prepared().await, 0);
    // The connections are as good as before.
    written(&bench.two_phase, &bench.ids, 2).await.unwrap();
}

/// One participant, or two keys of one node, need no second phase.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_is_a_plain_commit() {
    let bench = Bench::new().await;
    let here = [0, 1].map(|shard| bench.ids.draw(VirtualShard::new(shard)));
    let mut both = bench.two_phase.begin(here[0]);
    for (user, part) in here.into_iter().zip(1..) {
        let tx = both.on(user).await.unwrap();
        assert_eq!(tx.shard(), Some(user.shard()));
        tx.execute(note(1, part)).await.unwrap();
    }
    both.commit().await.unwrap();
    assert!(bench.both(1).await);
    assert_eq!(bench.rows("SELECT 1 FROM ms_decision").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_are_called_once_all_is_committed() {
    let bench = Bench::new().await;
    let (rings, rung) = std::sync::mpsc::channel();
    for commits in [true, false] {
        let mut both = bench.begun(i64::from(commits)).await;
        for user in users(&bench.ids) {
            let rings = rings.clone();
            let tx = both.on(user).await.unwrap();
            tx.after_commit(move || rings.send(()).unwrap());
        }
        if commits {
            both.commit().await.unwrap();
        } else {
            both.rollback().await;
        }
    }
    assert_eq!(rung.try_iter().count(), 2);
}

#[tokio::test]
async fn node_that_prepares_nothing_is_refused() {
    let nodes = Nodes::fresh(Engine::Sqlite, 1).await;
    let server = PostgresServer::start().await;
    for (url, product) in [
        (nodes.urls[0].clone(), Product::Sqlite),
        (server.url(), Product::Postgres),
    ] {
        let fleet = open(config(&[&url])).await;
        let ids = ids();
        let mut both = coordinator(&fleet).begin(users(&ids)[0]);
        let refused = both.on(users(&ids)[0]).await.unwrap_err();
        let told = refused.to_string();
        assert!(told.contains("max_prepared_transactions above 0"), "{told}");
        assert!(
            matches!(refused, TwoPhaseError::Unsupported { product: p, .. } if p == product),
            "{refused:?}"
        );
        assert_eq!(coordinator(&fleet).recover().await, Resolved::default());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_dropped_at_any_await_ends_whole() {
    let bench = Bench::new().await;
    let (mut n, mut committed) = (0, 0);
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
    // Some before the decision, some after it.
    assert!(
        n > 10 && (4..n - 4).contains(&committed),
        "{committed} of {n}"
    );
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
    loop {
        n += 1;
        let [first, second] = [0, 1].map(|at: usize| bench.nodes.urls[at].clone());
        let order = serde_json::to_string(&(n, n, first, second)).unwrap();
        let killed = was_killed("two_phase::worker", (ORDER, order)).await;
        bench.recovered().await;
        let stored = bench.both(n).await;
        committed += i64::from(stored);
        if !killed {
            assert!(stored);
            break;
        }
    }
    assert!(n > 5 && (2..n).contains(&committed), "{committed} of {n}");
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
    for fault in [Fault::LostAnswer, Fault::Cut, Fault::Swallowed] {
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
    assert!(
        committed > 5 && aborted > 5,
        "{committed} {aborted} {in_doubt}"
    );
}

/// A commit whose second participant is prepared, which its coordinator has yet
/// to hear.
struct Held {
    two_phase: TwoPhase,
    proxies: [Proxy; 2],
    commit: JoinHandle<Result<Decided, TwoPhaseError>>,
    _fleet: Fleet,
}

impl Held {
    async fn new(bench: &Bench) -> Self {
        let proxies = [
            Proxy::start(&bench.nodes.urls[0]).await,
            Proxy::start(&bench.nodes.urls[1]).await,
        ];
        let urls = proxies.each_ref().map(Proxy::url);
        let fleet = open(config(&urls.each_ref().map(String::as_str))).await;
        let two_phase = coordinator(&fleet);
        let both = begun(&two_phase, &bench.ids, 1).await;
        proxies[1].black_hole(Way::ToClient);
        let commit = tokio::spawn(both.commit());
        eventually(LIMIT, async || bench.prepared().await == 1).await;
        Self {
            two_phase,
            proxies,
            commit,
            _fleet: fleet,
        }
    }
}

/// While the deciding node is away nobody knows, and it is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doubt_is_told_until_the_deciding_node_is_back() {
    let bench = Bench::new().await;
    let Held {
        two_phase,
        proxies,
        commit,
        _fleet,
    } = Held::new(&bench).await;
    let metrics = Metrics::new();
    let two_phase = two_phase.meter(&metrics.meter("test"));
    proxies[0].black_hole(Way::ToClient);
    proxies[1].heal().await;
    let decided = "SELECT 1 FROM ms_decision";
    eventually(LIMIT, async || bench.rows(decided).await == 1).await;
    proxies[0].refuse().await;
    proxies[0].cut(Cut::Reset).await;

    let lost = commit.await.unwrap();

    let Err(TwoPhaseError::InDoubt { decision, .. }) = lost else {
        panic!("{lost:?}");
    };
    let passed = two_phase.recover().await;
    assert_eq!((passed.in_doubt, passed.away), (1, 1), "{passed:?}");
    assert!(passed.oldest > Duration::ZERO);
    let page = metrics.exposition().unwrap();
    assert!(page.contains("maxscale_two_phase_in_doubt 1"), "{page}");
    assert_eq!(bench.prepared().await, 1);

    proxies[0].heal().await;
    eventually(LIMIT, async || {
        let passed = two_phase.recover().await;
        if passed.committed == 1 {
            Ok(())
        } else {
            Err(passed)
        }
    })
    .await;
    assert!(two_phase.outcome(&decision).await.unwrap());
    assert!(bench.both(1).await);
    let page = metrics.exposition().unwrap();
    assert!(page.contains("maxscale_two_phase_in_doubt 0"), "{page}");
}

/// A pass never takes the decision out of a living coordinator's hands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coordinator_at_work_is_not_overtaken() {
    let bench = Bench::new().await;
    let held = Held::new(&bench).await;
    // Waits for the coordinator's own transaction, no longer than for any lock.
    let passed = bench.two_phase.recover().await;
    assert_eq!((passed.in_doubt, passed.rolled_back), (1, 0), "{passed:?}");

    held.proxies[1].heal().await;
    held.commit.await.unwrap().unwrap();
    assert!(bench.both(1).await);
}

/// Somebody else's, and what is too young, are left alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_ours_and_old_enough_is_ended() {
    let bench = Bench::new().await;
    let held = Held::new(&bench).await;
    held.commit.abort();
    let _ = held.commit.await;
    let direct = PgPool::connect(&bench.nodes.urls[0]).await.unwrap();
    let run = async |text: &'static str| sqlx::raw_sql(text).execute(&direct).await.unwrap();
    run("BEGIN; CREATE TABLE theirs (); PREPARE TRANSACTION 'ms:theirs'").await;
    run("BEGIN; CREATE TABLE others (); PREPARE TRANSACTION 'others'").await;

    let patient = bench.two_phase.clone().age(Duration::from_secs(3_600));
    let passed = patient.recover().await;
    assert_eq!((passed.young, passed.foreign), (1, 1), "{passed:?}");
    let ended = async || bench.two_phase.recover().await.rolled_back == 1;
    eventually(LIMIT, ended).await;
    assert_eq!(bench.prepared().await, 2);

    run("ROLLBACK PREPARED 'ms:theirs'").await;
    run("ROLLBACK PREPARED 'others'").await;
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
                let done = cut(random() % 16, random().is_multiple_of(2), both.commit()).await;
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
