//! A user whom the map sends elsewhere than the bits of the id say.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use maxscale_cache::Hub;
use maxscale_core::clock::Clock;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::{Id, IdGenerator, KeyspaceTag};
use maxscale_core::keys::{KeyRing, Keys, Secret};
use maxscale_queue::{JobState, Queue, Worker};
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::{Fleet, FleetConfig, Freshness, NodeId, Target, sql};
use maxscale_tests::eventually;
use platform::measure::Measurer;
use platform::newest::Newest;
use platform::objects::Objects;
use platform::project::Projects;
use platform::sweep;
use platform::track::{Tracks, Upload};

use crate::client::PLUCK;

const LIMIT: Duration = Duration::from_secs(60);
/// On the first of two nodes.
const OWN: VirtualShard = VirtualShard::new(3);
/// On the second.
const OTHER: VirtualShard = VirtualShard::new(12);

#[tokio::test(flavor = "multi_thread")]
async fn user_on_another_virtual_shard_has_every_row_there() {
    let places = places(|_| Target::Shard(OTHER)).await;

    assert_eq!(
        places,
        [(1, "project"), (1, "track"), (1, "job")].map(|at| (at, OTHER))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn user_on_another_node_has_every_row_there() {
    let places = places(|nodes| Target::Node(nodes[1].clone())).await;

    assert_eq!(
        places,
        [(1, "project"), (1, "track"), (1, "job")].map(|at| (at, OWN))
    );
}

/// Sends a user elsewhere, gives it a project and a measured track; tells on which
/// node and under which `shard_id` the rows lie.
async fn places(to: impl Fn(&[NodeId]) -> Target) -> Vec<((usize, &'static str), VirtualShard)> {
    let folder = tempfile::tempdir().unwrap();
    let nodes = [1, 2].map(|number| {
        let url = format!("sqlite:{}/{number}.db", folder.path().display());
        NodeSpec::parse(&url, number).unwrap()
    });
    let config = FleetConfig::new(nodes.to_vec())
        .shards(16)
        .migrations(maxscale_queue::MIGRATIONS)
        .migrations(platform::schema::MIGRATIONS);
    let fleet = Fleet::open(config).await.unwrap();
    let router = fleet.router();
    let clock = Clock::system();
    let ids = Arc::new(IdGenerator::new(clock.clone(), KeyspaceTag::default()));
    let user = ids.draw(OWN);
    let map = router.topology();
    let map = map.change().divert(user, to(map.nodes())).build().unwrap();
    router.reload(map, &nodes).unwrap();

    let queue = Queue::new(router.clone(), ids.clone());
    let tracks = Tracks::new(router.clone(), queue.clone(), ids.clone(), clock.clone());
    let projects = Projects::new(ids, clock.clone(), &Hub::builder().build());
    let objects = objects(folder.path()).await;
    let measurer = Measurer {
        router: router.clone(),
        tracks: tracks.clone(),
        objects: objects.clone(),
    };
    let worker = Worker::builder(queue.clone()).register(measurer).start();
    let worker = worker.unwrap();

    let shard = Freshness::new(clock.clone()).on(&router.shard(user).unwrap());
    let project = projects.create(&shard, user, "Moved").await.unwrap().id;
    assert!(
        projects
            .find(&shard, (user, project), None)
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(projects.list(&shard, user, None).await.unwrap().len(), 1);
    let keys = Keys::new(KeyRing::new(1, Secret::new([1; 32])).unwrap());
    let newest = Newest::new(router.clone(), keys).page(10, None).await;
    let newest: Vec<Id> = newest.unwrap().projects.iter().map(|p| p.id).collect();
    assert_eq!(newest, [project]);
    let track = upload(&tracks, &objects, user, project).await;
    // To the sweep, an object whose row is looked for elsewhere is an orphan.
    sweep::once(&objects, &tracks, &clock, Duration::ZERO).await;
    let job = eventually(LIMIT, async || {
        let track = tracks.find(user, project, track).await.unwrap().unwrap();
        track.measured.ok_or("not measured").map(|_| track.job)
    });
    let job = job.await;
    let status = queue.status_for(user, job.into()).await.unwrap().unwrap();
    assert_eq!(status.state, JobState::Done);
    assert_eq!(tracks.list(&shard, project).await.unwrap().len(), 1);
    worker.shutdown(LIMIT).await;

    let mut found = Vec::new();
    for (node, place) in router.nodes().iter().zip(0..) {
        let rows = sql("SELECT 'project' AS kind, shard_id FROM project
             UNION ALL SELECT 'track', shard_id FROM track
             UNION ALL SELECT 'job', shard_id FROM ms_job");
        for row in node.database().fetch_all(rows).await.unwrap() {
            let kind: String = row.get("kind").unwrap();
            let kind = ["project", "track", "job"]
                .into_iter()
                .find(|name| **name == kind);
            let shard: i64 = row.get("shard_id").unwrap();
            let shard = VirtualShard::new(u32::try_from(shard).unwrap());
            found.push(((place, kind.unwrap()), shard));
        }
    }
    found
}

async fn objects(folder: &Path) -> Objects {
    let root = format!("file://{}/objects", folder.display());
    Objects::at(&root).await.unwrap()
}

async fn upload(tracks: &Tracks, objects: &Objects, user: Id, project: Id) -> Id {
    let track = tracks.draw(user).unwrap();
    let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(PLUCK))]);
    let key = sweep::key(user, project, track);
    let stored = objects.put(&key, body, u64::MAX).await.unwrap();
    let upload = Upload {
        user,
        project,
        track,
        name: "a.wav",
        stored: &stored,
    };
    let freshness = Freshness::new(Clock::system());
    tracks.create(&freshness, upload).await.unwrap();
    track
}
