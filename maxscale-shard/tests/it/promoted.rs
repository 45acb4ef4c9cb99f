//! A primary is promoted elsewhere: it is followed, and doubts refuse writes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use maxscale_core::fact::VirtualShard;
use maxscale_core::id::KeyspaceTag;
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::{
    DatabaseOptions, Keyspace, Outcome, Router, Shard, ShardError, Topology, TxOptions, Vindex,
    WritesRefused, sql,
};
use maxscale_tests::{Database, Lateness, PostgresServer, Proxy, Way, eventually};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::support::{LIMIT, note, options};

/// A promotion is followed in that time.
const FOLLOWED: Duration = Duration::from_secs(5);

/// A node with a primary and its replica.
struct Scene {
    primary: PostgresServer,
    replica: PostgresServer,
    database: Database,
    router: Router,
    /// Writes that were acknowledged.
    written: AtomicUsize,
}

impl Scene {
    async fn new() -> Self {
        let primary = PostgresServer::start().await;
        let database = primary.database().await;
        let replica = primary.replica().await;
        let router = router(&[&database.url(), &replica.url_of(&database)]);
        let scene = Self {
            primary,
            replica,
            database,
            router,
            written: AtomicUsize::new(0),
        };
        let table = sql("CREATE TABLE note (n bigint, part bigint)");
        scene.shard().execute(table).await.unwrap();
        scene
    }

    fn shard(&self) -> Shard {
        self.router.virtual_shard(VirtualShard::new(0)).unwrap()
    }

    async fn write(&self) -> Result<u64, ShardError> {
        let written = self.shard().execute(note(1, 1)).await?;
        self.written.fetch_add(1, Ordering::Relaxed);
        Ok(written)
    }

    async fn refused(&self, why: WritesRefused) {
        eventually(LIMIT, async || match self.write().await {
            Err(ShardError::WritesRefused { why: told, .. }) if told == why => Ok(()),
            other => Err(other),
        })
        .await;
        // Reads go on, as long as the server is there.
        let node = &self.router.nodes()[0];
        assert_eq!(node.database().health().writes_refused(), Some(why));
    }

    /// Until the replica has what was written.
    async fn copied(&self) {
        let written = self.primary.wal_position().await;
        self.replica.wait_for_replay(written, LIMIT).await;
    }

    /// How many of the acknowledged writes the replica has.
    async fn stored(&self) -> usize {
        let (url, options) = (
            self.replica.url_of(&self.database),
            DatabaseOptions::default(),
        );
        let replica = maxscale_shard::Database::open("replica", &url, &options).unwrap();
        let notes = sql("SELECT n FROM note WHERE n = 1");
        replica.fetch_all(notes).await.unwrap().len()
    }
}

fn router(urls: &[&str]) -> Router {
    router_with(urls, DatabaseOptions::default())
}

/// As a process that has just started, on a machine that may be busy.
fn fresh(urls: &[&str]) -> Router {
    let mut patient = options();
    patient.check_timeout = FOLLOWED;
    router_with(urls, patient)
}

fn router_with(urls: &[&str], options: DatabaseOptions) -> Router {
    let mut nodes = vec![NodeSpec::parse(urls[0], 1).unwrap()];
    for (at, url) in (1..).zip(&urls[1..]) {
        NodeSpec::attach(&mut nodes, &format!("node-1={url}"), at).unwrap();
    }
    let map = Topology::even(vec![nodes[0].id().clone()], 1).unwrap();
    let keyspace = Keyspace::new(KeyspaceTag::default(), 1, Vindex::Id).unwrap();
    Router::open(keyspace, map, &nodes, options).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promotion_is_followed_under_load_and_two_primaries_take_no_writes() {
    let scene = Scene::new().await;
    scene.write().await.unwrap();
    let mut load = JoinSet::new();
    for _ in 0..4 {
        let shard = scene.shard();
        load.spawn(async move {
            let mut pace = interval(Duration::from_millis(10));
            loop {
                pace.tick().await;
                let _ = shard.execute(note(2, 2)).await;
            }
        });
    }
    scene.copied().await;

    scene.replica.promote().await;
    scene.primary.kill().await;
    let (lost, late) = (Instant::now(), Lateness::watch());
    eventually(LIMIT, async || scene.write().await).await;
    let took = lost.elapsed();
    eprintln!("followed after {took:?}");
    assert!(took < FOLLOWED + late.total(), "{took:?}, {late:?}");

    scene.primary.restart().await;
    scene.refused(WritesRefused::TwoPrimaries).await;
    scene
        .shard()
        .fetch_all(sql("SELECT n FROM note"))
        .await
        .unwrap();

    scene.primary.stop().await;
    eventually(LIMIT, async || scene.write().await).await;
    drop(load);
    assert_eq!(scene.stored().await, scene.written.load(Ordering::Relaxed));
}

/// What it took would be lost when the other one is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn former_primary_alone_takes_no_writes() {
    let scene = Scene::new().await;
    scene.copied().await;
    scene.primary.kill().await;
    scene.replica.promote().await;
    eventually(LIMIT, async || scene.write().await).await;

    scene.replica.stop().await;
    scene.primary.restart().await;
    scene.refused(WritesRefused::FormerPrimary).await;

    scene.primary.stop().await;
    scene.replica.restart().await;
    eventually(LIMIT, async || scene.write().await).await;
}

#[tokio::test]
async fn nobody_watches_a_node_whose_router_is_gone() {
    let server = PostgresServer::start().await;
    let proxy = Proxy::start(server.url()).await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let router = router(&[&proxy.url(), &proxy.url()]);
    assert_eq!(tasks(), before);
    let _ = router.nodes()[0].database();
    eventually(LIMIT, async || proxy.open_connections() == 2).await;
    drop(router);
    eventually(LIMIT, async || tasks() == before).await;
}

/// A process that has just started knows nothing of what happened before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_write_of_a_fresh_process_does_not_go_to_a_former_primary() {
    let scene = Scene::new().await;
    scene.copied().await;
    // Nothing told the former primary.
    scene.replica.promote().await;
    let [former, new] = [scene.database.url(), scene.replica.url_of(&scene.database)];
    let proxy = Proxy::start(&new).await;
    proxy.delay(Duration::from_millis(50));

    let fresh = fresh(&[&former, &proxy.url()]);
    let shard = fresh.virtual_shard(VirtualShard::new(0)).unwrap();
    let first = shard.execute(note(7, 7)).await;

    let Err(ShardError::WritesRefused { why, .. }) = &first else {
        panic!("{first:?}");
    };
    assert_eq!(*why, WritesRefused::TwoPrimaries);
    let former = maxscale_shard::Database::open("former", &former, &options()).unwrap();
    let stored = former.fetch_all(sql("SELECT n FROM note WHERE n = 7"));
    assert!(stored.await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_write_waits_for_a_server_that_hangs_no_longer_than_for_a_look() {
    let scene = Scene::new().await;
    let replica = scene.replica.url_of(&scene.database);
    let proxy = Proxy::start(&replica).await;
    proxy.black_hole(Way::ToServer);
    let (began, late) = (Instant::now(), Lateness::watch());

    let fresh = fresh(&[&scene.database.url(), &proxy.url()]);
    let shard = fresh.virtual_shard(VirtualShard::new(0)).unwrap();
    shard.execute(note(1, 1)).await.unwrap();

    let took = began.elapsed();
    assert!(took < FOLLOWED * 2 + late.total(), "{took:?}, {late:?}");
}

/// Whoever holds only the database of a node writes all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_look_is_made_though_the_router_is_gone() {
    let scene = Scene::new().await;
    let replica = scene.replica.url_of(&scene.database);
    let fresh = fresh(&[&scene.database.url(), &replica]);
    let database = fresh.nodes()[0].database().clone();
    drop(fresh);

    database.execute(note(1, 1)).await.unwrap();
}

/// To find out is to read, and so goes on while two primaries take no writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outcome_is_told_by_the_server_that_knows_while_nothing_is_written() {
    let scene = Scene::new().await;
    let mut tx = scene
        .shard()
        .begin_with(&TxOptions::new().with_id())
        .await
        .unwrap();
    tx.execute(note(1, 1)).await.unwrap();
    let id = tx.id().unwrap().clone();
    tx.commit().await.unwrap();
    scene.copied().await;
    scene.replica.promote().await;
    scene.refused(WritesRefused::TwoPrimaries).await;

    let node = &scene.router.nodes()[0];
    let asked = async |place: usize| {
        let database = node.endpoints()[place].database();
        database.outcome(&id, LIMIT).await.unwrap()
    };
    assert_eq!(asked(0).await, Outcome::Committed);
    assert_eq!(asked(1).await, Outcome::Unknown);
}

/// As it is with an engine that has no such functions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_say_nothing_of_themselves_are_written_to() {
    let scene = Scene::new().await;
    let silent = "CREATE ROLE silent LOGIN; GRANT INSERT ON note TO silent;
        REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC";
    for command in silent.split(';') {
        scene.shard().execute(sql(command)).await.unwrap();
    }
    scene.copied().await;
    let as_silent = |url: String| format!("{url}?user=silent");
    let urls = [
        as_silent(scene.database.url()),
        as_silent(scene.replica.url_of(&scene.database)),
    ];

    let fresh = fresh(&urls.each_ref().map(String::as_str));
    let shard = fresh.virtual_shard(VirtualShard::new(0)).unwrap();
    shard.execute(note(1, 1)).await.unwrap();
}

#[test]
fn write_to_a_node_that_nobody_could_look_at_is_refused_and_does_not_hang() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(PostgresServer::start());
    let node = router(&[&server.url(), &server.url()]);
    // Outside a runtime there is nobody to look.
    let database = node.nodes()[0].database().clone();

    let refused = runtime.block_on(database.execute(sql("SELECT 1")));

    let Err(ShardError::WritesRefused { why, .. }) = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(*why, WritesRefused::Unseen);
    runtime.block_on(server.stop());
}
