//! A primary is promoted elsewhere: it is followed, and doubts refuse writes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use maxscale_core::fact::VirtualShard;
use maxscale_core::id::KeyspaceTag;
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::{
    DatabaseOptions, Keyspace, Router, Shard, ShardError, Topology, Vindex, WritesRefused, sql,
};
use maxscale_tests::{Database, PostgresServer, Proxy, eventually};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::support::{LIMIT, note};

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
    let mut nodes = vec![NodeSpec::parse(urls[0], 1).unwrap()];
    for (at, url) in (1..).zip(&urls[1..]) {
        NodeSpec::attach(&mut nodes, &format!("node-1={url}"), at).unwrap();
    }
    let map = Topology::even(vec![nodes[0].id().clone()], 1).unwrap();
    let keyspace = Keyspace::new(KeyspaceTag::default(), 1, Vindex::Id).unwrap();
    Router::open(keyspace, map, &nodes, DatabaseOptions::default()).unwrap()
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
    let lost = Instant::now();
    eventually(LIMIT, async || scene.write().await).await;
    let took = lost.elapsed();
    eprintln!("followed after {took:?}");
    assert!(took < FOLLOWED, "{took:?}");

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
