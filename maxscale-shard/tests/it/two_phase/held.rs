//! Recovery beside a coordinator that is in the middle of it.

use std::time::Duration;

use maxscale_core::telemetry::Metrics;
use maxscale_shard::Fleet;
use maxscale_shard::two_phase::{Decided, TwoPhase, TwoPhaseError};
use maxscale_tests::{Cut, Proxy, Way, eventually};
use sqlx::postgres::PgPool;
use tokio::task::JoinHandle;

use super::{Bench, begun, coordinator};
use crate::support::{LIMIT, config, open};

/// A commit whose second participant is prepared, which its coordinator has yet
/// to hear.
pub(super) struct Held {
    two_phase: TwoPhase,
    proxies: [Proxy; 2],
    commit: JoinHandle<Result<Decided, TwoPhaseError>>,
    _fleet: Fleet,
}

impl Held {
    pub(super) async fn new(bench: &Bench) -> Self {
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

    /// The coordinator dies before it hears of it, and so before it decides.
    pub(super) async fn abandoned(self) {
        self.commit.abort();
        assert!(self.commit.await.unwrap_err().is_cancelled());
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
    Held::new(&bench).await.abandoned().await;
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
