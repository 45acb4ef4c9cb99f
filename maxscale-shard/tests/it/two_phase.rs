//! Transactions on two nodes.

#[path = "two_phase/held.rs"]
mod held;
#[path = "two_phase/lost.rs"]
mod lost;

use std::time::Duration;

use maxscale_core::clock::Clock;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::{Id, IdGenerator, KeyspaceTag};
use maxscale_shard::two_phase::{Resolved, TwoPhase, TwoPhaseError, TwoPhaseTx};
use maxscale_shard::{Engine, Fleet, Product, Recovery, ShardError, sql};
use maxscale_tests::{PostgresServer, eventually};

use self::held::Held;
use crate::support::{LIMIT, Nodes, SHARDS, config, note, open};

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
async fn what_a_dead_coordinator_left_is_ended_in_the_background() {
    let bench = Bench::new().await;
    Held::new(&bench).await.abandoned().await;
    assert_eq!(bench.prepared().await, 1);

    let recovering = Recovery::new(bench.fleet.router().clone())
        .two_phase(bench.two_phase.clone())
        .every(Duration::from_millis(50))
        .start();

    eventually(LIMIT, async || bench.prepared().await == 0).await;
    recovering.shutdown(LIMIT).await;
    assert!(!bench.both(1).await);
}
