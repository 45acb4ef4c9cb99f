//! The map in its catalog: changed by one at a time, followed by all, kept on disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use maxscale_core::fact::VirtualShard;
use maxscale_shard::fleet::{ChangeError, FleetError, MapProblem, NodeSpec};
use maxscale_shard::{
    Engine, Epoch, Fleet, FleetConfig, Key, NodeId, ReloadError, Sql, Target, Topology, sql,
};
use maxscale_tests::{Cut, Proxy, eventually};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{LIMIT, Nodes, note, open};

on_both!(
    change_reaches_every_router,
    of_two_changes_of_one_map_the_first_has_won,
    change_to_a_node_without_an_entry_is_refused_and_not_stored,
    node_that_a_change_lists_is_made_ready_and_used,
    map_that_grows_older_is_refused_and_reported_until_it_is_lifted,
    another_map_of_the_same_epoch_is_refused_and_reported,
    start_prefers_the_copy_to_an_older_catalog,
    copy_of_another_fleet_is_passed_by,
    copy_of_a_fleet_that_is_gone_makes_no_catalog,
    every_map_is_kept,
    map_that_was_stored_before_bodies_is_read,
);

const SOON: Duration = Duration::from_millis(50);

/// The next map of `fleet`, in which one tenant is somewhere else.
fn diverted(fleet: &Fleet, tenant: &str) -> Topology {
    let next = fleet.router().topology().change();
    let to = Target::Shard(VirtualShard::new(3));
    next.divert(Key::from(tenant), to).build().unwrap()
}

fn epoch(fleet: &Fleet) -> u64 {
    fleet.router().topology().epoch().get()
}

/// The status follows the router's map within a look.
async fn reaches(fleet: &Fleet, wanted: u64) {
    eventually(LIMIT, async || {
        epoch(fleet) == wanted && fleet.map_status().epoch == Epoch::new(wanted)
    })
    .await;
}

async fn reports(fleet: &Fleet, wanted: Option<MapProblem>) {
    eventually(LIMIT, async || fleet.map_status().problem == wanted).await;
}

async fn forget_above(fleet: &Fleet, epoch: i64) {
    let forget = sql("DELETE FROM ms_map WHERE epoch > $1").bind(epoch);
    fleet.catalog().execute(forget).await.unwrap();
}

fn copy_in(folder: &TempDir) -> PathBuf {
    folder.path().join("map")
}

async fn kept(path: &Path, epoch: u64) {
    let told = format!("epoch {epoch}\n");
    eventually(LIMIT, async || {
        std::fs::read_to_string(path).is_ok_and(|text| text.contains(&told))
    })
    .await;
}

async fn change_reaches_every_router(engine: Engine) {
    let nodes = Nodes::fresh(engine, 2).await;
    // A server announces; a file has to be looked at.
    let poll = match engine {
        Engine::Sqlite => SOON,
        _ => Duration::from_secs(3600),
    };
    let ours = open(nodes.config().poll(poll)).await;
    let theirs = open(nodes.config().poll(poll)).await;
    for (number, by) in [(2, &ours), (3, &theirs), (4, &ours)] {
        let next = diverted(by, &format!("tenant-{number}"));
        by.change(next.clone()).await.unwrap();
        assert_eq!(*by.router().topology(), next);
        reaches(&ours, number).await;
        reaches(&theirs, number).await;
    }
    assert_eq!(ours.router().topology(), theirs.router().topology());
    assert_eq!(theirs.router().topology().overrides().count(), 3);
    reports(&theirs, None).await;
    assert!(theirs.map_status().confirmed.is_some());
}

async fn of_two_changes_of_one_map_the_first_has_won(engine: Engine) {
    let nodes = Nodes::fresh(engine, 1).await;
    let fleet = std::sync::Arc::new(open(nodes.config().poll(SOON)).await);
    for round in 0..5 {
        // All of the same map, before the first of them changes it.
        let next = [0, 1, 2, 3].map(|n| diverted(&fleet, &format!("tenant-{round}-{n}")));
        let mut changes = JoinSet::new();
        for next in next {
            let fleet = fleet.clone();
            changes.spawn(async move { fleet.change(next).await });
        }
        let told = changes.join_all().await;
        let won = told.iter().filter(|told| told.is_ok()).count();
        assert_eq!(won, 1, "{told:?}");
        let stale = |told: &Result<(), ChangeError>| match told {
            Err(ChangeError::Stale { current, given }) => current == given,
            _ => false,
        };
        assert_eq!(
            told.iter().filter(|told| stale(told)).count(),
            3,
            "{told:?}"
        );
    }
    assert_eq!(fleet.router().topology().overrides().count(), 5);
    assert_eq!(epoch(&fleet), 6);
}

async fn change_to_a_node_without_an_entry_is_refused_and_not_stored(engine: Engine) {
    let nodes = Nodes::fresh(engine, 1).await;
    let fleet = open(nodes.config()).await;
    let stranger = NodeId::new("stranger").unwrap();
    let next = fleet.router().topology().change().list(stranger.clone());
    let refused = fleet.change(next.build().unwrap()).await.unwrap_err();
    assert!(
        matches!(&refused, ChangeError::Reload(ReloadError::NoEntry(id)) if *id == stranger),
        "{refused:?}"
    );
    assert_eq!(fleet.history(10).await.unwrap().len(), 1);
    let other = Topology::even(vec![stranger], 7).unwrap();
    assert!(fleet.change(other).await.is_err());
}

/// What `nodes` would be if the last of them were not listed yet.
fn with_a_spare(nodes: &Nodes) -> FleetConfig {
    let last = nodes.urls.len();
    let urls: Vec<&str> = nodes.urls[..last - 1].iter().map(String::as_str).collect();
    let spare = NodeSpec::parse(&nodes.urls[last - 1], last).unwrap();
    crate::support::config(&urls).spare(spare).poll(SOON)
}

async fn node_that_a_change_lists_is_made_ready_and_used(engine: Engine) {
    let nodes = Nodes::fresh(engine, 2).await;
    let (ours, theirs) = (
        open(with_a_spare(&nodes)).await,
        open(with_a_spare(&nodes)).await,
    );
    assert_eq!(ours.router().nodes().len(), 1);
    let spare = NodeId::new("node-2").unwrap();
    let map = ours.router().topology();
    let listed = map.change().list(spare.clone()).build().unwrap();
    ours.change(listed.clone()).await.unwrap();
    reaches(&theirs, 2).await;
    for fleet in [&ours, &theirs] {
        eventually(LIMIT, async || fleet.router().nodes()[1].is_ready()).await;
    }
    // Nothing is stored yet, so nothing has to be moved.
    let plan = listed.plan(listed.nodes()).unwrap();
    ours.change(listed.change().apply(&plan).build().unwrap())
        .await
        .unwrap();
    reaches(&theirs, 3).await;
    let moved = VirtualShard::new(15);
    let shard = theirs.router().virtual_shard(plan.last().unwrap().shard);
    let shard = shard.unwrap();
    assert_eq!(*shard.node().id(), spare, "{moved}");
    shard.execute(note(1, 1)).await.unwrap();
    // A start with both in the list is one of the same fleet.
    open(nodes.config()).await;
}

async fn map_that_grows_older_is_refused_and_reported_until_it_is_lifted(engine: Engine) {
    let nodes = Nodes::fresh(engine, 2).await;
    let config = || nodes.config().poll(SOON);
    let (ours, theirs) = (open(config()).await, open(config()).await);
    for tenant in ["a", "b"] {
        ours.change(diverted(&ours, tenant)).await.unwrap();
    }
    reaches(&theirs, 3).await;
    // As if yesterday's backup had been restored.
    forget_above(&ours, 1).await;
    let older = MapProblem::Older {
        catalog: Epoch::new(1),
        used: Epoch::new(3),
    };
    for fleet in [&ours, &theirs] {
        reports(fleet, Some(older.clone())).await;
        assert_eq!(epoch(fleet), 3);
        fleet.router().virtual_shard(VirtualShard::new(0)).unwrap();
    }
    let refused = ours.change(diverted(&ours, "c")).await.unwrap_err();
    assert!(matches!(refused, ChangeError::Stale { .. }), "{refused:?}");

    assert_eq!(theirs.lift().await.unwrap(), Epoch::new(4));
    for fleet in [&ours, &theirs] {
        reaches(fleet, 4).await;
        reports(fleet, None).await;
    }
    assert_eq!(ours.router().topology().overrides().count(), 2);
    ours.change(diverted(&ours, "c")).await.unwrap();
}

async fn another_map_of_the_same_epoch_is_refused_and_reported(engine: Engine) {
    let nodes = Nodes::fresh(engine, 1).await;
    let config = || nodes.config().poll(SOON);
    let (ours, theirs) = (open(config()).await, open(config()).await);
    ours.change(diverted(&ours, "a")).await.unwrap();
    reaches(&theirs, 2).await;
    let body = diverted(&ours, "b")
        .to_string()
        .replace("epoch 3", "epoch 2");
    let forge = sql("UPDATE ms_map SET body = $1 WHERE epoch = 2").bind(body);
    ours.catalog().execute(forge).await.unwrap();
    reports(&theirs, Some(MapProblem::Other(Epoch::new(2)))).await;
    assert_eq!(theirs.router().topology().overrides().count(), 1);
}

async fn start_prefers_the_copy_to_an_older_catalog(engine: Engine) {
    let (nodes, folder) = (Nodes::fresh(engine, 2).await, TempDir::new().unwrap());
    let config = || nodes.config().poll(SOON).map_copy(copy_in(&folder));
    let fleet = open(config()).await;
    fleet.change(diverted(&fleet, "a")).await.unwrap();
    kept(&copy_in(&folder), 2).await;
    forget_above(&fleet, 1).await;
    fleet.close().await;

    let again = open(config()).await;
    assert_eq!(epoch(&again), 2);
    assert!(matches!(
        again.map_status().problem,
        Some(MapProblem::Older { .. })
    ));
    again.lift().await.unwrap();
    reports(&again, None).await;
    kept(&copy_in(&folder), 3).await;
}

async fn copy_of_another_fleet_is_passed_by(engine: Engine) {
    let folder = TempDir::new().unwrap();
    let (old, new) = (Nodes::fresh(engine, 1).await, Nodes::fresh(engine, 1).await);
    let fleet = open(old.config().map_copy(copy_in(&folder))).await;
    for tenant in ["a", "b"] {
        fleet.change(diverted(&fleet, tenant)).await.unwrap();
    }
    kept(&copy_in(&folder), 3).await;
    let fresh = open(new.config().map_copy(copy_in(&folder))).await;
    assert_eq!(epoch(&fresh), 1);
    kept(&copy_in(&folder), 1).await;
}

/// Its home is empty, and another node belongs to the fleet that is there now.
async fn copy_of_a_fleet_that_is_gone_makes_no_catalog(engine: Engine) {
    let folder = TempDir::new().unwrap();
    let (gone, there) = (Nodes::fresh(engine, 2).await, Nodes::fresh(engine, 2).await);
    let fresh = Nodes::fresh(engine, 1).await;
    let named = |first: &str, second: &str| {
        crate::support::config(&[&format!("node-1={first}"), &format!("node-2={second}")])
    };
    let old = named(&gone.urls[0], &gone.urls[1]).map_copy(copy_in(&folder));
    let fleet = open(old).await;
    kept(&copy_in(&folder), 1).await;
    fleet.close().await;
    open(named(&there.urls[0], &there.urls[1]))
        .await
        .close()
        .await;

    let mixed = named(&fresh.urls[0], &there.urls[1]).map_copy(copy_in(&folder));
    let refused = Fleet::open(mixed).await.unwrap_err();
    assert!(
        matches!(refused, FleetError::WrongNode { .. }),
        "{refused:?}"
    );
    let row = fresh
        .database()
        .await
        .fetch_all(sql("SELECT 1 AS one FROM ms_keyspace"))
        .await;
    assert!(row.is_err());
}

async fn every_map_is_kept(engine: Engine) {
    let nodes = Nodes::fresh(engine, 1).await;
    let fleet = open(nodes.config()).await;
    let mut maps = vec![Topology::clone(&fleet.router().topology())];
    for tenant in ["a", "b", "c"] {
        let next = diverted(&fleet, tenant);
        fleet.change(next.clone()).await.unwrap();
        maps.insert(0, next);
    }
    assert_eq!(fleet.history(10).await.unwrap(), maps);
    assert_eq!(fleet.history(2).await.unwrap(), maps[..2]);
}

async fn map_that_was_stored_before_bodies_is_read(engine: Engine) {
    let nodes = Nodes::fresh(engine, 2).await;
    let fleet = open(nodes.config()).await;
    let catalog = fleet.catalog();
    let slots: Vec<u8> = (0..16).flat_map(|slot| [0, u8::from(slot >= 8)]).collect();
    let old = sql("UPDATE ms_map SET body = NULL, slots = $1").bind(slots);
    catalog.execute(old).await.unwrap();
    for (position, name) in [(0, "node-1"), (1, "node-2")] {
        let row = sql("INSERT INTO ms_fleet_node (position, name) VALUES ($1, $2)");
        catalog
            .execute(row.bind(position).bind(name))
            .await
            .unwrap();
    }
    let map = fleet.router().topology();
    fleet.close().await;
    let again = open(nodes.config()).await;
    assert_eq!(again.router().topology(), map);
    again.change(diverted(&again, "a")).await.unwrap();
}

/// The catalog apart, behind something that can be cut, and two nodes.
struct Apart {
    nodes: Nodes,
    proxy: Proxy,
    folder: TempDir,
}

impl Apart {
    async fn new() -> Self {
        let nodes = Nodes::fresh(Engine::Postgres, 3).await;
        let proxy = Proxy::start(&nodes.urls[2]).await;
        let folder = TempDir::new().unwrap();
        Self {
            nodes,
            proxy,
            folder,
        }
    }

    fn config(&self) -> FleetConfig {
        let urls: Vec<&str> = self.nodes.urls[..2].iter().map(String::as_str).collect();
        let config = crate::support::config(&urls).catalog(self.proxy.url());
        config.poll(SOON).map_copy(copy_in(&self.folder))
    }

    async fn writes(fleet: &Fleet, n: i64) {
        for shard in 0..16 {
            let shard = fleet
                .router()
                .virtual_shard(VirtualShard::new(shard))
                .unwrap();
            let row = note(n, i64::from(shard.id().get()));
            shard.execute(row).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routing_goes_on_without_the_catalog_and_so_does_a_start() {
    let apart = Apart::new().await;
    let fleet = open(apart.config()).await;
    fleet.change(diverted(&fleet, "a")).await.unwrap();
    fleet.remember("colour", b"blue").await.unwrap();
    kept(&copy_in(&apart.folder), 2).await;
    eventually(LIMIT, async || {
        let text = std::fs::read_to_string(copy_in(&apart.folder)).unwrap();
        text.contains("memory 626c7565 colour\n")
    })
    .await;
    apart.proxy.refuse().await;
    apart.proxy.cut(Cut::Close).await;
    let away = |fleet: &Fleet| matches!(fleet.map_status().problem, Some(MapProblem::Away(_)));
    eventually(LIMIT, async || away(&fleet)).await;
    Apart::writes(&fleet, 1).await;

    let again = timeout(LIMIT, open(apart.config())).await.unwrap();
    assert_eq!(again.router().topology(), fleet.router().topology());
    assert!(away(&again));
    assert_eq!(again.map_status().confirmed, None);
    Apart::writes(&again, 2).await;
    let colour = again.remember("colour", b"red").await.unwrap();
    assert_eq!(colour, b"blue");
    assert!(again.recall("shape").await.unwrap_err().is_unreachable());
    let refused = again.change(diverted(&again, "b")).await.unwrap_err();
    assert!(matches!(refused, ChangeError::Fleet(_)), "{refused:?}");

    apart.proxy.heal().await;
    for fleet in [&fleet, &again] {
        reports(fleet, None).await;
    }
    again.change(diverted(&again, "b")).await.unwrap();
    reaches(&fleet, 3).await;
}

#[tokio::test]
async fn start_without_the_catalog_and_without_a_whole_copy_is_refused() {
    let apart = Apart::new().await;
    let fleet = open(apart.config()).await;
    kept(&copy_in(&apart.folder), 1).await;
    fleet.close().await;
    apart.proxy.refuse().await;
    let text = std::fs::read_to_string(copy_in(&apart.folder)).unwrap();
    std::fs::write(copy_in(&apart.folder), text.replace("node-1", "node-3")).unwrap();
    let config = apart.config().wait(Duration::from_millis(300));
    let refused = Fleet::open(config).await.unwrap_err();
    assert!(
        matches!(refused, FleetError::NoCatalog { .. }),
        "{refused:?}"
    );
}

#[tokio::test]
async fn list_that_differs_from_the_copy_is_refused_without_the_catalog_too() {
    let apart = Apart::new().await;
    let fleet = open(apart.config()).await;
    kept(&copy_in(&apart.folder), 1).await;
    fleet.close().await;
    apart.proxy.refuse().await;
    let shorter = crate::support::config(&[&apart.nodes.urls[0]]);
    let shorter = shorter
        .catalog(apart.proxy.url())
        .map_copy(copy_in(&apart.folder));
    let refused = Fleet::open(shorter).await.unwrap_err();
    assert!(matches!(refused, FleetError::Differs(_)), "{refused:?}");
}

#[tokio::test]
async fn another_fleets_catalog_is_reported_and_not_followed() {
    let apart = Apart::new().await;
    let fleet = open(apart.config()).await;
    let steal = Sql::both("UPDATE ms_keyspace SET cluster = $1");
    let steal = steal.statement().bind(uuid::Uuid::from_u128(7));
    fleet.catalog().execute(steal).await.unwrap();
    reports(&fleet, Some(MapProblem::Foreign)).await;
    Apart::writes(&fleet, 1).await;
}
