//! Transactions by key while the map changes.

use std::time::Duration;

use maxscale_core::clock::Clock;
use maxscale_core::fact::{Deadline, VirtualShard};
use maxscale_core::id::{Id, IdGenerator, KeyspaceTag};
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::{
    Database, Engine, Keyspace, NodeId, Router, ShardError, SlotMove, SlotState, Topology,
    TxOptions, Vindex, Work, sql,
};
use maxscale_tests::{Lateness, eventually};
use tokio::time::{Instant, timeout};

use crate::support::{LIMIT, Nodes, SHARDS, options};

on_both!(
    write_to_a_key_that_is_frozen_for_a_moment_is_late_and_no_error,
    write_to_a_key_that_stays_frozen_ends_at_the_deadline,
    write_follows_a_key_that_moved_while_a_connection_was_waited_for,
    read_sees_what_was_written_where_the_key_lies_now,
);

const SHARD: VirtualShard = VirtualShard::new(1);

struct Scene {
    router: Router,
    entries: Vec<NodeSpec>,
    tenant: Id,
    _nodes: Nodes,
}

impl Scene {
    /// Virtual shards 0 to 7 on `node-1`, the others on `node-2`; one connection to each.
    async fn new(engine: Engine) -> Self {
        let nodes = Nodes::fresh(engine, 2).await;
        let entries: Vec<NodeSpec> = (1..)
            .zip(&nodes.urls)
            .map(|(at, url)| NodeSpec::parse(url, at).unwrap())
            .collect();
        let names = entries.iter().map(|entry| entry.id().clone()).collect();
        let map = Topology::even(names, SHARDS).unwrap();
        let keyspace = Keyspace::new(KeyspaceTag::default(), SHARDS, Vindex::Id).unwrap();
        let mut one = options();
        one.connections = 1;
        let router = Router::open(keyspace, map, &entries, one).unwrap();
        for node in router.nodes().iter() {
            node.database().reach().await.unwrap();
            let table = "CREATE TABLE visit (shard_id integer NOT NULL, n bigint NOT NULL)";
            node.database().execute(sql(table)).await.unwrap();
        }
        let ids = IdGenerator::new(Clock::system(), KeyspaceTag::default());
        Self {
            tenant: ids.draw(SHARD),
            router,
            entries,
            _nodes: nodes,
        }
    }

    fn node(&self, at: usize) -> Database {
        self.router.nodes()[at].database().clone()
    }

    fn set(&self, state: SlotState) {
        let one = SHARD.get()..SHARD.get() + 1;
        let next = self.router.topology().change().state(one, state);
        self.router
            .reload(next.build().unwrap(), &self.entries)
            .unwrap();
    }

    fn move_it(&self) {
        let name = |at: usize| NodeId::new(&format!("node-{at}")).unwrap();
        let step = SlotMove {
            shard: SHARD,
            from: name(1),
            to: name(2),
        };
        let next = self.router.topology().change().apply([&step]);
        self.router
            .reload(next.build().unwrap(), &self.entries)
            .unwrap();
    }

    async fn visit(&self, options: TxOptions) -> Result<u32, ShardError> {
        let mut runs = 0;
        let visit = self.router.write(self.tenant, options, |tx| {
            runs += 1;
            Work::new(async move {
                let shard = tx.shard().unwrap();
                let visit = sql("INSERT INTO visit (shard_id, n) VALUES ($1, 1)");
                tx.execute(visit.bind(shard)).await
            })
        });
        visit.await.map(|_| runs)
    }
}

async fn visits(node: &Database) -> i64 {
    let count = sql("SELECT count(*) AS n FROM visit");
    let row = node.fetch_optional(count).await.unwrap().unwrap();
    row.get("n").unwrap()
}

async fn write_to_a_key_that_is_frozen_for_a_moment_is_late_and_no_error(engine: Engine) {
    let scene = Scene::new(engine).await;
    scene.set(SlotState::Frozen);
    assert!(matches!(
        scene.router.shard(scene.tenant),
        Err(ShardError::Frozen { .. })
    ));
    let mut write = Box::pin(scene.visit(TxOptions::new()));
    assert!(
        timeout(Duration::from_millis(100), &mut write)
            .await
            .is_err()
    );
    scene.move_it();
    assert_eq!(timeout(LIMIT, write).await.unwrap().unwrap(), 1);
    assert_eq!(
        (visits(&scene.node(0)).await, visits(&scene.node(1)).await),
        (0, 1)
    );
}

async fn write_to_a_key_that_stays_frozen_ends_at_the_deadline(engine: Engine) {
    let scene = Scene::new(engine).await;
    scene.set(SlotState::Frozen);
    for (deadline, least, most) in [(Some(1_000), 900, 4_000), (None, 1_900, 10_000)] {
        let options = deadline.map_or(TxOptions::new(), |ms| {
            TxOptions::new().deadline(Deadline::at(Instant::now() + Duration::from_millis(ms)))
        });
        let (start, late) = (Instant::now(), Lateness::watch());
        let refused = scene.visit(options).await.unwrap_err();
        assert!(matches!(refused, ShardError::Frozen { .. }), "{refused:?}");
        let took = start.elapsed();
        let most = Duration::from_millis(most) + late.total();
        let bounds = Duration::from_millis(least)..most;
        assert!(bounds.contains(&took), "{took:?}, {late:?}");
    }
}

async fn write_follows_a_key_that_moved_while_a_connection_was_waited_for(engine: Engine) {
    let scene = Scene::new(engine).await;
    let held = scene.node(0).writer().await.unwrap();
    let mut write = Box::pin(scene.visit(TxOptions::new()));
    assert!(
        timeout(Duration::from_millis(50), &mut write)
            .await
            .is_err()
    );
    scene.move_it();
    drop(held);
    // The closure ran once: nothing was done on the node where the key lay before.
    assert_eq!(timeout(LIMIT, write).await.unwrap().unwrap(), 1);
    assert_eq!(
        (visits(&scene.node(0)).await, visits(&scene.node(1)).await),
        (0, 1)
    );
}

async fn read_sees_what_was_written_where_the_key_lies_now(engine: Engine) {
    let scene = Scene::new(engine).await;
    scene.visit(TxOptions::new()).await.unwrap();
    let seen = async || {
        let read = scene.router.read(scene.tenant, TxOptions::new(), |tx| {
            Work::new(async move {
                let own = sql("SELECT n FROM visit WHERE shard_id = $1");
                let own = own.bind(tx.shard().unwrap());
                Ok::<_, ShardError>(tx.fetch_all(own).await?.len())
            })
        });
        read.await.unwrap()
    };
    assert_eq!(seen().await, 1);
    scene.move_it();
    assert_eq!(seen().await, 0);
    eventually(LIMIT, async || visits(&scene.node(0)).await == 1).await;
}
