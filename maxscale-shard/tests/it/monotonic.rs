//! What one user has seen or written is seen from then on, wherever it is read.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Response};
use maxscale_core::clock::Clock;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::KeyspaceTag;
use maxscale_core::keys::{KeyRing, Keys, Secret};
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::layer::FreshnessLayer;
use maxscale_shard::{
    FreshShard, Freshness, Keyspace, ReadPolicy, Router, Shard, ShardError, Topology, TxOptions,
    Vindex, Work, sql,
};
use maxscale_tests::{PostgresServer, eventually};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tower::{Layer, ServiceExt, service_fn};

use crate::replicas::{SEEN, over, visit};
use crate::support::{LIMIT, options};

const OPTIONS: TxOptions = TxOptions::new();
const ANY: ReadPolicy = ReadPolicy::Replica { max_lag: LIMIT };

/// A primary and two replicas, of which the second is half a second behind.
struct Three {
    router: Router,
    _primary: PostgresServer,
    near: PostgresServer,
    far: PostgresServer,
}

impl Three {
    async fn new() -> Self {
        let primary = PostgresServer::start().await;
        let (near, far) = (primary.replica().await, primary.replica().await);
        let (router, _) = over(&primary, &[&near, &far]).await;
        far.delay_replay(Duration::from_millis(500)).await;
        let three = Self {
            router,
            _primary: primary,
            near,
            far,
        };
        three.write(0).await;
        // Both are known, and have the table.
        let mut by_both = std::collections::BTreeSet::new();
        eventually(LIMIT, async || {
            let source = three.shard().source(ANY).await;
            if source.fetch_all(sql(SEEN).bind(1_i64)).await.is_ok() {
                by_both.insert(source.name().to_owned());
            }
            by_both.contains("node-1#2") && by_both.contains("node-1#3")
        })
        .await;
        three
    }

    fn shard(&self) -> Shard {
        self.router.virtual_shard(VirtualShard::new(1)).unwrap()
    }

    async fn write(&self, n: i64) {
        self.shard().execute(visit(1, n)).await.unwrap();
    }

    /// Somebody else writes all the time, until the flag is set.
    fn others(self: &Arc<Self>) -> (Arc<AtomicBool>, JoinHandle<()>) {
        let (three, over) = (self.clone(), Arc::new(AtomicBool::new(false)));
        let ends = over.clone();
        let writer = tokio::spawn(async move {
            let mut n = 0;
            while !ends.load(Ordering::Relaxed) {
                n += 1;
                three.write(n).await;
                sleep(Duration::from_millis(1)).await;
            }
        });
        (over, writer)
    }
}

fn user() -> Freshness {
    Freshness::new(Clock::system())
}

/// What is there, and whether a replica said so.
async fn seen(shard: &FreshShard) -> (i64, bool) {
    let read = shard.read(OPTIONS, |tx| {
        Work::new(async move { tx.fetch_one(sql(SEEN).bind(1_i64)).await })
    });
    let row: Result<_, ShardError> = read.await;
    let row = row.unwrap();
    (row.get("n").unwrap(), row.get("by_replica").unwrap())
}

/// The same in one statement without a transaction.
async fn seen_at_once(shard: &FreshShard) -> (i64, bool) {
    let row = shard.fetch_optional(sql(SEEN).bind(1_i64)).await.unwrap();
    let row = row.unwrap();
    (row.get("n").unwrap(), row.get("by_replica").unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_one_user_never_go_back_in_time() {
    never_back(400).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: twenty thousand reads; run by name with --ignored"]
async fn reads_of_one_user_never_go_back_in_time_twenty_thousand_times() {
    never_back(20_000).await;
}

async fn never_back(reads: u32) {
    let three = Arc::new(Three::new().await);
    let (over, writer) = three.others();
    let keys = KeyRing::new(1, Secret::new([7; 32])).unwrap();
    let shard = three.shard();
    let mut text = user().to_text(&keys);
    let (mut last, mut by_replica) = (0, 0);
    let (mut control, mut back) = (0, 0);
    let (began, mut still) = (tokio::time::Instant::now(), false);
    // On a machine that is busy replicas lag more, and are read from less.
    let (wanted, went_back) = (reads / 3, reads / 10);
    for turn in 0.. {
        if turn >= reads && by_replica > wanted && back > went_back {
            break;
        }
        let told = || format!("{by_replica} of {turn} by a replica; ungated {back} went back");
        assert!(turn < reads || began.elapsed() < 2 * LIMIT, "{}", told());
        // The nearer one stands still for a while, and others overtake it.
        let stands = (100..160).contains(&(began.elapsed().as_millis() % 400));
        match (still, stands) {
            (false, true) => three.near.pause_replay().await,
            (true, false) => three.near.resume_replay().await,
            _ => {}
        }
        still = stands;
        // Each in a request of its own.
        let user = Freshness::from_text(&text, &keys, Clock::system()).unwrap();
        let fresh = user.on(&shard);
        let (found, replica) = match turn % 2 {
            0 => seen(&fresh).await,
            _ => seen_at_once(&fresh).await,
        };
        assert!(found >= last, "{found} after {last}");
        last = found;
        by_replica += u32::from(replica);
        text = user.to_text(&keys);

        // Who is as content with old data, and carries nothing.
        let any = shard.source(ANY).await;
        let row = any.fetch_optional(sql(SEEN).bind(1_i64)).await.unwrap();
        let found: i64 = row.unwrap().get("n").unwrap();
        back += u32::from(found < control);
        control = found;
    }
    over.store(true, Ordering::Relaxed);
    timeout(LIMIT, writer).await.unwrap().unwrap();
    // What the control shows: without the note it would go back often.
    eprintln!("{by_replica} by a replica; ungated {back} went back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_who_has_seen_the_primary_stays_there_until_a_replica_is_as_far() {
    let three = Three::new().await;
    let (shard, user) = (three.shard(), user());
    three.near.pause_replay().await;
    three.far.pause_replay().await;
    three.write(7).await;
    // Nobody knows what was written: the primary is read from, this once.
    user.wrote(&shard, None);
    let fresh = user.on(&shard);
    assert_eq!(seen(&fresh).await, (7, false));
    assert!(matches!(user.policy(&shard), ReadPolicy::AtLeast(_)));
    assert_eq!(seen_at_once(&fresh).await, (7, false));
    three.far.resume_replay().await;
    eventually(LIMIT, async || seen(&fresh).await == (7, true)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_sees_what_a_single_statement_wrote() {
    let three = Three::new().await;
    let (shard, user) = (three.shard(), user());
    let fresh = user.on(&shard);
    for n in 1..=20 {
        fresh.execute(visit(1, n)).await.unwrap();
        assert!(matches!(user.policy(&shard), ReadPolicy::AtLeast(_)));
        assert_eq!(seen(&fresh).await.0, n);
    }
    eventually(LIMIT, async || seen(&fresh).await == (20, true)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answer_to_a_read_never_takes_the_place_of_one_to_a_write() {
    let three = Three::new().await;
    let keys = Keys::new(KeyRing::new(1, Secret::new([7; 32])).unwrap());
    let shard = three.shard();
    let serve = async |write: bool| {
        let shard = shard.clone();
        let inner = service_fn(move |request: Request<()>| {
            let fresh = (request.extensions().get::<Freshness>()).map(|user| user.on(&shard));
            async move {
                let fresh = fresh.unwrap();
                match write {
                    true => drop(fresh.execute(visit(1, 1)).await.unwrap()),
                    false => drop(seen(&fresh).await),
                }
                Ok::<_, Infallible>(Response::new(()))
            }
        });
        let layer = FreshnessLayer::new(keys.clone(), Clock::system());
        let reply = layer.layer(inner).oneshot(Request::new(())).await.unwrap();
        let set = reply.headers()["set-cookie"].to_str().unwrap();
        set.split('=').next().unwrap().to_owned()
    };
    assert_eq!(serve(true).await, "__Host-maxscale-fresh");
    assert_eq!(serve(false).await, "__Host-maxscale-fresh-seen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_seen_by_work_that_failed_is_noted_too() {
    #[derive(Debug)]
    struct Absent(i64);
    impl From<ShardError> for Absent {
        fn from(error: ShardError) -> Self {
            panic!("{error}")
        }
    }
    let three = Three::new().await;
    let shard = three.shard();
    three.far.pause_replay().await;
    three.write(7).await;
    let fresh = user().on(&shard);
    // Until it was the replica that has it.
    eventually(LIMIT, async || {
        let fresh = user().on(&shard);
        seen(&fresh).await == (7, true)
    })
    .await;
    eventually(LIMIT, async || {
        let read = fresh.read(OPTIONS, |tx| {
            Work::new(async move {
                let row = tx.fetch_one(sql(SEEN).bind(1_i64)).await?;
                Err::<(), _>(Absent(row.get("n").unwrap()))
            })
        });
        read.await.unwrap_err().0 == 7
    })
    .await;
    for _ in 0..20 {
        assert_eq!(seen(&fresh).await.0, 7);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_in_doubt_is_read_from_the_primary() {
    let three = Three::new().await;
    let shard = three.shard();
    three.near.pause_replay().await;
    three.far.pause_replay().await;
    let fresh = user().on(&shard);
    assert!(seen(&fresh).await.1);
    let written = &Notify::new();
    let write = fresh.write(OPTIONS, |tx| {
        Work::new(async move {
            tx.execute(visit(2, 1)).await?;
            written.notify_one();
            std::future::pending::<Result<(), ShardError>>().await
        })
    });
    tokio::select! {
        done = write => panic!("it never ends: {done:?}"),
        () = written.notified() => {}
    }
    assert!(!seen(&fresh).await.1, "nobody knows whether it was made");

    let fresh = user().on(&shard);
    assert!(
        fresh
            .execute(sql("INSERT INTO nothing VALUES (1)"))
            .await
            .is_err()
    );
    assert!(!seen(&fresh).await.1, "somebody may have come across it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_with_one_server_needs_no_text() {
    let primary = PostgresServer::shared().await;
    let database = primary.database().await;
    let entries = [NodeSpec::parse(&database.url(), 1).unwrap()];
    let map = Topology::even(vec![entries[0].id().clone()], 16).unwrap();
    let keyspace = Keyspace::new(KeyspaceTag::default(), 16, Vindex::Id);
    let router = Router::open(keyspace.unwrap(), map, &entries, options()).unwrap();
    let user = user();
    let fresh = user.on(&router.virtual_shard(VirtualShard::new(1)).unwrap());
    fresh
        .execute(sql(
            "CREATE TABLE visit (shard_id integer, id bigint PRIMARY KEY, n bigint)",
        ))
        .await
        .unwrap();
    let write = fresh.write(OPTIONS, |tx| {
        let row = sql("INSERT INTO visit VALUES (1, 1, 3)");
        Work::new(async move { tx.execute(row).await })
    });
    let written: Result<_, ShardError> = write.await;
    written.unwrap();
    assert_eq!(
        (seen(&fresh).await, seen_at_once(&fresh).await),
        ((3, false), (3, false))
    );
    assert!(!user.has_changed());
}
