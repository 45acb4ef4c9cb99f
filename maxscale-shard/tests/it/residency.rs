//! Keys that are kept to a region, and servers outside that hear nothing of them.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use maxscale_core::clock::Clock;
use maxscale_core::fact::{RegionId, VirtualShard};
use maxscale_core::id::{Id, IdGenerator, KeyspaceTag};
use maxscale_core::keys::{KeyRing, Secret};
use maxscale_core::refusal::{Class, Classify};
use maxscale_shard::fleet::{ChangeError, FleetError, NodeSpec};
use maxscale_shard::residency::{Pinned, Residency, ResidencyError};
use maxscale_shard::scatter::{KeyType, NodeRows, OnFailure, ScatterError};
use maxscale_shard::{
    ClaimError, Claims, Engine, Fleet, FleetConfig, Key, Migration, MigrationSet, NodeId,
    ReadPolicy, ReloadError, Router, ShardError, SlotMove, Statement, Target, TxOptions, Vindex,
    Watermark, Work, sql,
};
use maxscale_tests::{PostgresServer, eventually};

use crate::support::{LIMIT, Nodes, SHARDS, options};

const RECORDS: MigrationSet = MigrationSet {
    owner: "test-records",
    steps: &[Migration {
        version: 1,
        name: "records",
        postgres: "CREATE TABLE record (shard_id integer, who text, body text, PRIMARY KEY (shard_id, who))",
        sqlite: "CREATE TABLE record (shard_id INTEGER, who TEXT, body TEXT, PRIMARY KEY (shard_id, who))",
    }],
};

/// The first half of the keyspace lives in `eu`.
const HOMES: &str = "region:eu=0+8,us=8+8";

fn region(name: &str) -> RegionId {
    RegionId::new(name).unwrap()
}

fn europe() -> [RegionId; 2] {
    ["eu-west", "eu-central"].map(region)
}

/// It would live outside, but for a pin of its own.
const TENANT: &str = "tenant-with-a-contract";

fn pins() -> Residency {
    let us = region("us");
    Residency::new()
        .pin_home(region("eu"), europe())
        .pin_key(Key::from(TENANT).within(&us), europe())
        .pin_table("record", europe())
}

/// What a server was told, which it all writes down.
struct Told(PostgresServer);

impl Told {
    async fn everything(server: PostgresServer) -> Self {
        let url = server.url();
        let admin = maxscale_shard::Database::open("admin", &url, &options()).unwrap();
        for order in [
            "ALTER SYSTEM SET log_statement = 'all'",
            "SELECT pg_reload_conf()",
        ] {
            admin.execute(sql(order)).await.unwrap();
        }
        let told = Self(server);
        eventually(LIMIT, async || {
            admin.fetch_all(sql("SELECT 'it is on'")).await.unwrap();
            told.of("it is on")
        })
        .await;
        told
    }

    fn of(&self, text: &str) -> bool {
        let log = fs::read(self.0.folder().unwrap().join("log")).unwrap();
        String::from_utf8_lossy(&log).contains(text)
    }
}

/// `eu`: all inside. `us`: outside. `mixed`: a primary inside and a replica outside.
struct Scene {
    fleet: Fleet,
    /// Another program of the same service, which nobody told of the pins.
    careless: Fleet,
    inside: [PostgresServer; 3],
    _catalog: maxscale_tests::Database,
    outside: [Told; 2],
    ids: IdGenerator,
}

impl Scene {
    async fn new() -> Self {
        let start = PostgresServer::start;
        let (eu, us, mixed) = tokio::join!(start(), start(), start());
        let (eu_replica, mixed_replica) = tokio::join!(eu.replica(), mixed.replica());
        let entry = |node: &str, server: &PostgresServer, region: &str| {
            format!("{node}={}?region={region}", server.url())
        };
        let entries = [
            entry("us", &us, "us-east"),
            entry("eu", &eu, "eu-west"),
            entry("mixed", &mixed, "eu-west"),
        ];
        let mut nodes: Vec<NodeSpec> = (1..)
            .zip(&entries)
            .map(|(at, entry)| NodeSpec::parse(entry, at).unwrap())
            .collect();
        for (at, replica) in (1..).zip([
            entry("eu", &eu_replica, "eu-central"),
            entry("mixed", &mixed_replica, "us-east"),
        ]) {
            NodeSpec::attach(&mut nodes, &replica, at).unwrap();
        }
        // It holds the map, and with it each key that has an override.
        let catalog = eu.database().await;
        let config = config(nodes).catalog(catalog.url());
        let fleet = crate::support::open(config.clone().residency(pins())).await;
        let careless = crate::support::open(config).await;
        Self {
            fleet,
            careless,
            inside: [eu, eu_replica, mixed],
            _catalog: catalog,
            outside: [
                Told::everything(us).await,
                Told::everything(mixed_replica).await,
            ],
            ids: IdGenerator::new(Clock::system(), KeyspaceTag::default()),
        }
    }

    fn router(&self) -> &Router {
        self.fleet.router()
    }

    fn id(&self, shard: u32) -> Id {
        self.ids.draw(VirtualShard::new(shard))
    }

    async fn spoil(&self) {
        spoil(&self.careless, &self.fleet, ["us", "mixed"]).await;
    }

    fn nobody_outside_heard_of(&self, text: &str) {
        for (name, server) in ["us", "the replica of mixed"].iter().zip(&self.outside) {
            assert!(!server.of(text), "{name} heard of {text}");
        }
    }
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn moved(shard: u32, from: &str, to: &str) -> SlotMove {
    SlotMove {
        shard: VirtualShard::new(shard),
        from: node(from),
        to: node(to),
    }
}

/// Moves 4 and 5 to the first node, 6 and 7 to the second, as a program does that
/// knows of no pins.
async fn spoil(careless: &Fleet, fleet: &Fleet, to: [&str; 2]) {
    let plan: Vec<_> = (4..8)
        .map(|number| moved(number, "eu", to[usize::from(number >= 6)]))
        .collect();
    let next = fleet.router().topology().change().apply(&plan);
    let next = next.build().unwrap();
    let epoch = next.epoch();
    careless.change(next).await.unwrap();
    eventually(LIMIT, async || fleet.router().topology().epoch() == epoch).await;
}

fn config(nodes: Vec<NodeSpec>) -> FleetConfig {
    FleetConfig::new(nodes)
        .shards(SHARDS)
        .vindex(HOMES.parse::<Vindex>().unwrap())
        .options(options())
        .wait(LIMIT)
        .poll(Duration::from_millis(200))
        .migrations(RECORDS)
}

fn write(shard: VirtualShard, who: &str, marker: &'static str) -> Statement {
    let text = match marker {
        "pinned" => {
            "INSERT INTO record (shard_id, who, body) VALUES ($1, $2, 'written-pinned') ON CONFLICT DO NOTHING"
        }
        _ => {
            "INSERT INTO record (shard_id, who, body) VALUES ($1, $2, 'written-free') ON CONFLICT DO NOTHING"
        }
    };
    sql(text).bind(shard).bind(who)
}

const READ: &str =
    "SELECT body, 'read-pinned' AS marker FROM record WHERE shard_id = $1 AND who = $2";
const ASK: &str =
    "SELECT who, 'asked-pinned' AS marker FROM record WHERE who = $1 AND shard_id = ANY($shards)";

/// Writes and reads what concerns `key`, in every way there is.
async fn use_it<'k>(
    router: &Router,
    key: impl Into<Key<'k>>,
    who: &str,
) -> Vec<Result<(), ShardError>> {
    let key = key.into();
    let mut all = Vec::new();
    let written = router.write(key, TxOptions::new().with_watermark(), |tx| {
        let shard = tx.shard().unwrap();
        Work::new(async move { tx.execute(write(shard, who, "pinned")).await })
    });
    let written: Result<_, ShardError> = written.await;
    let mark = written.as_ref().ok().and_then(|done| done.watermark);
    all.push(written.map(drop));
    let max_lag = LIMIT;
    for policy in [
        ReadPolicy::Primary,
        ReadPolicy::Replica { max_lag },
        ReadPolicy::Nearest { max_lag },
        ReadPolicy::AtLeast(mark.unwrap_or(Watermark::new(1, 1))),
    ] {
        let read = router.read(key, TxOptions::new().policy(policy), |tx| {
            let shard = tx.shard().unwrap();
            Work::new(async move { tx.fetch_all(sql(READ).bind(shard).bind(who)).await })
        });
        let read: Result<_, ShardError> = read.await;
        all.push(read.map(drop));
        let single = async {
            let shard = router.shard(key)?;
            let source = shard.source(policy).await;
            source.fetch_all(sql(READ).bind(shard.id()).bind(who)).await
        };
        all.push(single.await.map(drop));
    }
    all
}

fn is_refused(error: &ShardError) -> bool {
    assert_eq!(error.class(), Class::Internal, "{error:?}");
    matches!(error, ShardError::Residency(_))
}

/// The first value whose directory stands inside.
async fn claim(claims: &Claims, owner: Id) -> (String, maxscale_shard::Claim) {
    let mut refused = 0;
    for n in 0..200 {
        let value = format!("anna-{n}-{owner}@pinned.example");
        match claims.reserve(&value, owner).await {
            Ok(claim) if refused > 0 => return (value, claim),
            Ok(claim) => claims.release(&claim).await.unwrap(),
            Err(ClaimError::Shard(error)) => {
                assert!(is_refused(&error));
                refused += 1;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("no value has its directory inside");
}

/// Claims a value for `well`, and one for somebody whose shard lies outside.
async fn claimed_inside(scene: &Scene, well: Id) {
    let router = scene.router();
    let keys = Arc::new(KeyRing::new(1, Secret::new([1; 32])).unwrap());
    // A directory holds the owner's id: this one is kept inside too.
    let claims = Claims::new(router.table("record"), keys, "email");
    let (value, held) = claim(&claims, well).await;
    let shard = router.shard(well).unwrap();
    let mut tx = shard.begin().await.unwrap();
    claims.write_in(&mut tx, &held).await.unwrap();
    tx.commit().await.unwrap();
    claims.confirm(&held).await.unwrap();
    assert_eq!(claims.find(&value).await.unwrap(), Some(well));
    // Its owner's shard is asked what became of it, unless it stands outside.
    let away = scene.id(4);
    let (_, half) = claim(&claims, away).await;
    let Err(ClaimError::Shard(error)) = claims.resolve(&half).await else {
        panic!("an owner outside was asked");
    };
    assert!(is_refused(&error));
    scene.nobody_outside_heard_of(&away.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_outside_hear_nothing_of_pinned_keys_whatever_the_map_says() {
    let scene = Box::pin(Scene::new()).await;
    let router = scene.router();
    // The first map heeds the pins, although `us` is listed first.
    let home = |number| {
        router
            .route(scene.id(number))
            .unwrap()
            .node()
            .id()
            .to_string()
    };
    assert!((0..8).all(|number| home(number) == "eu"));

    // Well placed, they are served; by every policy, and every server of `eu`.
    let well = scene.id(1);
    for done in use_it(router, well, "anna-well").await {
        done.unwrap();
    }
    let eu = region("eu");
    let us = region("us");
    for key in [
        Key::from("anna-by-text").within(&eu),
        Key::from(TENANT).within(&us),
    ] {
        for done in use_it(router, key, "anna-by-text").await {
            done.unwrap();
        }
    }

    scene.spoil().await;
    for number in 4..8 {
        let id = scene.id(number);
        let who = format!("anna-{id}");
        for done in use_it(router, id, &who).await {
            assert!(is_refused(&done.unwrap_err()), "{number}");
        }
        let shard = router.virtual_shard(VirtualShard::new(number));
        assert!(is_refused(&shard.unwrap_err()));
        let explained = router.explain(id).unwrap().to_string();
        assert!(explained.contains("what lives in eu is kept to eu-west, eu-central"));
        assert!(explained.contains("is not asked on"), "{explained}");
    }
    // Of the others nobody notices anything.
    for done in use_it(router, well, "anna-well").await {
        done.unwrap();
    }
    let free = scene.id(9);
    router.shard(free).unwrap();

    claimed_inside(&scene, well).await;

    for text in [
        "anna",
        TENANT,
        "pinned",
        &*well.to_string(),
        "written-pinned",
        "read-pinned",
    ] {
        scene.nobody_outside_heard_of(text);
    }
    // What is free does reach them, and they tell.
    eventually(LIMIT, async || {
        for number in 8..16 {
            let Ok(shard) = router.shard(scene.id(number)) else {
                continue;
            };
            shard
                .execute(write(shard.id(), "bob", "free"))
                .await
                .unwrap();
            let source = shard.source(ReadPolicy::Replica { max_lag: LIMIT }).await;
            let read = sql("SELECT body, 'read-free' AS marker FROM record WHERE shard_id = $1");
            source.fetch_all(read.bind(shard.id())).await.unwrap();
        }
        let [us, replica] = &scene.outside;
        us.of("bob") && us.of("written-free") && replica.of("read-free")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scatter_about_what_is_pinned_is_refused_before_any_leg_is_sent() {
    let scene = Box::pin(Scene::new()).await;
    let router = scene.router();
    let [eu, ..] = &scene.inside;
    let id = scene.id(1);
    let who = format!("anna-{id}");
    for done in use_it(router, id, &who).await {
        done.unwrap();
    }
    let ask = || sql(ASK).bind(&*who);
    let refused = |result: Result<_, ScatterError>| match result {
        Err(ScatterError::Shard(error)) => is_refused(&error),
        other => panic!("{other:?}"),
    };
    assert!(refused(router.scatter(ask()).about(id).rows().await));
    assert!(refused(router.scatter(ask()).table("record").rows().await));
    assert!(refused(router.table("record").scatter(ask()).rows().await));
    let us = region("us");
    let tenant = Key::from(TENANT).within(&us);
    assert!(refused(router.scatter(ask()).about(tenant).rows().await));
    let log = fs::read(eu.folder().unwrap().join("log")).unwrap();
    assert!(!String::from_utf8_lossy(&log).contains("asked-pinned"));

    let rows = |nodes: &[NodeRows]| -> Vec<(String, usize)> {
        let node = nodes
            .iter()
            .map(|node| (node.node.to_string(), node.rows.len()));
        node.collect()
    };
    let inside = router.scatter(ask()).about(id).table("record");
    let found = inside.clone().within(europe()).rows().await.unwrap();
    assert_eq!(rows(&found.value), [("eu".to_owned(), 1)]);
    let among = (0..8).map(VirtualShard::new);
    let found = inside.among(among).rows().await.unwrap();
    assert_eq!(rows(&found.value), [("eu".to_owned(), 1)]);
    for text in ["anna", "asked-pinned"] {
        scene.nobody_outside_heard_of(text);
    }

    // What is about nothing pinned still asks all.
    let free =
        || sql("SELECT who, 'asked-free' AS marker FROM record WHERE shard_id = ANY($shards)");
    let found = router.scatter(free()).rows().await.unwrap();
    assert_eq!(rows(&found.value).len(), 3);
    assert!(scene.outside[0].of("asked-free"));

    scatter_does_not_name_a_pinned_key_where_it_is_left_out(&scene).await;

    // A virtual shard that lies outside is one that is missing.
    scene.spoil().await;
    let found = router
        .scatter(free())
        .on_failure(OnFailure::BestEffort { min_ok: 1 });
    let found = found.rows().await.unwrap();
    assert_eq!(rows(&found.value), [("eu".to_owned(), 1)]);
    assert_eq!(found.failures.len(), 2);
    assert!(
        found
            .failures
            .iter()
            .all(|failure| is_refused(&failure.source))
    );
}

/// A scatter excludes a key that has a node of its own where its virtual shard lies.
async fn scatter_does_not_name_a_pinned_key_where_it_is_left_out(scene: &Scene) {
    let router = scene.router();
    // Its own virtual shard lies outside, and it by itself inside.
    let map = router.topology();
    let outside = |shard: &u32| map.locate(VirtualShard::new(*shard)) == Some(0);
    let id = scene.id((8..SHARDS).find(outside).unwrap());
    let next = map.change().divert(id, Target::Node(node("eu")));
    scene.fleet.change(next.build().unwrap()).await.unwrap();
    let asked = |router: &Router| {
        let rows = sql("SELECT shard_id, who FROM record WHERE shard_id = ANY($shards)");
        let all = router.scatter(rows).key("who", KeyType::Text);
        all.on_failure(OnFailure::BestEffort { min_ok: 1 }).rows()
    };
    router.pin(&pins().pin_key(id, europe())).unwrap();
    let found = asked(router).await.unwrap();
    assert_eq!(found.failures.len(), 1);
    assert!(is_refused(&found.failures[0].source));
    scene.nobody_outside_heard_of(&id.to_string());
    // Without its pin it is named there.
    router.pin(&pins()).unwrap();
    assert_eq!(asked(router).await.unwrap().failures.len(), 0);
    assert!(scene.outside[0].of(&id.to_string()));
    let next = router.topology().change().restore(id);
    scene.fleet.change(next.build().unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_that_would_put_something_outside_is_not_stored() {
    let databases = Nodes::fresh(Engine::Postgres, 4).await;
    let entry = |name: &str, at: usize, region: &str| {
        let url = &databases.urls[at];
        let more = if url.contains('?') { '&' } else { '?' };
        format!("{name}={url}{more}region={region}")
    };
    let nodes = [
        ("eu", "eu-central"),
        ("us", "us-east"),
        ("mixed", "eu-west"),
    ];
    let parse = |(at, (name, region))| NodeSpec::parse(&entry(name, at, region), at + 1).unwrap();
    let mut nodes: Vec<NodeSpec> = nodes.into_iter().enumerate().map(parse).collect();
    NodeSpec::attach(&mut nodes, &entry("mixed", 3, "us-east"), 1).unwrap();
    // Nothing is moved there, so nobody looks at its servers.
    let mixed = nodes.pop().unwrap();
    let config = config(nodes).spare(mixed);
    let fleet = crate::support::open(config.clone().residency(pins())).await;
    let careless = crate::support::open(config).await;
    let router = fleet.router();
    let ids = IdGenerator::new(Clock::system(), KeyspaceTag::default());
    let id = ids.draw(VirtualShard::new(3));
    let map = router.topology();
    let with_mixed = map.change().list(node("mixed"));
    let outside = [
        map.change().apply(&[moved(3, "eu", "us")]),
        with_mixed.apply(&[moved(3, "eu", "mixed")]),
        map.change().divert(id, Target::Node(node("us"))),
        map.change().divert(id, Target::Shard(VirtualShard::new(9))),
    ];
    for next in outside {
        let refused = fleet.change(next.build().unwrap()).await.unwrap_err();
        let ChangeError::Reload(ReloadError::Residency(outside)) = &refused else {
            panic!("{refused:?}");
        };
        assert_eq!(*outside.pinned(), Pinned::Home(region("eu")));
    }
    assert_eq!(fleet.history(9).await.unwrap().len(), 1);
    assert_eq!(*router.topology(), *map);

    // What is wrong already is put right step by step.
    spoil(&careless, &fleet, ["us", "us"]).await;
    let next = router.topology().change();
    let next = next.apply(&[moved(4, "us", "eu")]).build().unwrap();
    fleet.change(next).await.unwrap();
    router.virtual_shard(VirtualShard::new(4)).unwrap();
    assert!(router.virtual_shard(VirtualShard::new(5)).is_err());
    let next = router.topology().change();
    let next = next.apply(&[moved(4, "eu", "us")]).build().unwrap();
    assert!(fleet.change(next).await.is_err());
}

#[tokio::test]
async fn pins_that_cannot_be_end_the_start_before_anybody_is_asked() {
    let nodes = || vec![NodeSpec::parse("postgres://u@127.0.0.1:1/d?region=eu-west", 1).unwrap()];
    let refused = |residency| async {
        Fleet::open(config(nodes()).residency(residency))
            .await
            .unwrap_err()
    };
    let slip = Residency::new().pin_home(region("eu"), [region("eu-wset")]);
    let refused_slip = refused(slip).await;
    assert!(
        matches!(&refused_slip, FleetError::Residency(ResidencyError::NoServer { region, .. }) if region.as_str() == "eu-wset"),
        "{refused_slip:?}"
    );
    let empty = refused(Residency::new().pin_home(region("us"), [])).await;
    assert!(matches!(
        empty,
        FleetError::Residency(ResidencyError::NoRegion(_))
    ));
}
