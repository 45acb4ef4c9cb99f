use std::time::Duration;

use maxscale_core::fact::VirtualShard;
use maxscale_shard::{Tx, sql};
use maxscale_tests::PostgresServer;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{ALONE, Bench, PATIENCE, median, p99};

/// How many jobs are offered each second, a tenth at a time.
const OFFERED: u32 = 2_000;

/// What became of the jobs that were offered.
struct Run {
    offered: u32,
    done: usize,
    claims: Vec<Duration>,
}

/// Offers jobs for so long, and works on them meanwhile and, once one is done, not a
/// moment longer.
async fn run(bench: &Bench, time: Duration) -> Run {
    let end = Instant::now() + time;
    let offer = async {
        let mut ticks = interval(Duration::from_millis(100));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut offered = 0;
        while Instant::now() < end {
            ticks.tick().await;
            bench.fill(OFFERED / 10, None).await;
            offered += OFFERED / 10;
        }
        offered
    };
    let work = async {
        let (mut done, mut claims) = (0, Vec::new());
        // A machine that stands still may need longer for the first ones.
        while Instant::now() < end || (done == 0 && Instant::now() < end + PATIENCE) {
            let (claimed, took) = bench.claim().await;
            claims.push(took);
            if claimed.is_empty() {
                sleep(Duration::from_millis(5)).await;
                continue;
            }
            bench.settle(&claimed).await;
            done += claimed.len();
        }
        claims.sort_unstable();
        (done, claims)
    };
    let (offered, (done, claims)) = tokio::join!(offer, work);
    Run {
        offered,
        done,
        claims,
    }
}

/// A transaction that sees what there is now, for as long as it is open.
async fn pin(bench: &Bench) -> Tx {
    let shard = bench.fleet.router().virtual_shard(VirtualShard::new(0));
    let mut tx = shard.unwrap().begin().await.unwrap();
    for text in [
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET LOCAL idle_in_transaction_session_timeout = 0",
    ] {
        tx.execute(sql(text)).await.unwrap();
    }
    tx.fetch_one(sql("SELECT count(*) AS jobs FROM ms_job"))
        .await
        .unwrap();
    tx
}

/// The same load without a pinned transaction and then with one.
async fn compare(free: Duration, pinned: Duration) -> (Run, Run) {
    let _turn = ALONE.lock().await;
    let server = PostgresServer::start().await;
    let bench = Bench::start(&server).await;
    let free = run(&bench, free).await;
    let pin = pin(&bench).await;
    let pinned = run(&bench, pinned).await;
    pin.rollback().await.unwrap();
    for (name, run) in [("free", &free), ("pinned", &pinned)] {
        println!(
            "{name}: {} of {} done, {} claims, p50 {:?}, p99 {:?}",
            run.done,
            run.offered,
            run.claims.len(),
            median(&run.claims),
            p99(&run.claims),
        );
    }
    (free, pinned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pinned_transaction_stops_no_claims() {
    let (_, pinned) = compare(Duration::from_secs(1), Duration::from_secs(2)).await;
    assert!(pinned.done > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute; CONTRIBUTING.md has the command"]
async fn pinned_transaction_of_a_minute_keeps_the_rate() {
    let (free, pinned) = compare(Duration::from_secs(15), Duration::from_secs(60)).await;
    assert!(pinned.done * 100 >= pinned.offered as usize * 95);
    let (free, pinned) = (p99(&free.claims), p99(&pinned.claims));
    assert!(pinned <= 3 * free, "{free:?}, {pinned:?}");
}

/// What lanes will be measured by: nothing is judged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes ten minutes; CONTRIBUTING.md has the command"]
async fn pinned_transaction_of_ten_minutes_is_printed() {
    compare(Duration::from_secs(15), Duration::from_mins(10)).await;
}
