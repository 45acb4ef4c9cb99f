//! The catalog in a database of its own, which goes away.

use std::path::Path;
use std::time::Duration;

use maxscale_shard::{Database, DatabaseOptions, sql};
use maxscale_tests::{Cut, PostgresServer, ProcessBuilder, Proxy, eventually};

use crate::service::Service;

const LIMIT: Duration = Duration::from_secs(60);

struct Place {
    nodes: [maxscale_tests::Database; 2],
    catalog: maxscale_tests::Database,
    way: Proxy,
}

impl Place {
    async fn new() -> Self {
        let server = PostgresServer::shared().await;
        let catalog = server.database().await;
        Self {
            way: Proxy::start(catalog.url()).await,
            nodes: [server.database().await, server.database().await],
            catalog,
        }
    }

    fn builder(&self, folder: &Path) -> ProcessBuilder {
        let nodes = self.nodes.each_ref().map(maxscale_tests::Database::url);
        Service::builder(folder)
            .env("MAXSCALE__SHARDS__NODES", nodes.join(","))
            .env("MAXSCALE__CATALOG__URL", self.way.url())
    }

    async fn forget_maps_above(&self, epoch: i64) {
        let options = DatabaseOptions::default();
        let catalog = Database::open("catalog", &self.catalog.url(), &options).unwrap();
        let forget = sql("DELETE FROM ms_map WHERE epoch > $1").bind(epoch);
        catalog.execute(forget).await.unwrap();
    }

    /// What the program prints when told to deal with the map.
    async fn map(&self, folder: &Path, what: &[&str]) -> String {
        let mut command = self.builder(folder).arg("map");
        for word in what {
            command = command.arg(word);
        }
        let process = command.start();
        assert!(process.wait(LIMIT).await.success(), "{:?}", process.lines());
        process.stdout().join("\n")
    }
}

#[tokio::test]
async fn users_notice_nothing_of_a_catalog_that_is_away_and_a_start_does_without() {
    let (folder, place) = (tempfile::tempdir().unwrap(), Place::new().await);
    let first = Service::start(place.builder(folder.path())).await;
    let client = first.client();
    client.sign_up("ada@example.com").await;
    let kept = folder.path().join(".maxscale/shard-map");
    eventually(LIMIT, async || {
        std::fs::read_to_string(&kept).is_ok_and(|text| text.contains(" objects\n"))
    })
    .await;

    place.way.refuse().await;
    place.way.cut(Cut::Close).await;
    first.check_is("shard map", "down", LIMIT).await;
    assert_eq!(client.get("/v1/me").await.status, 200);
    first.client().sign_up("grace@example.com").await;
    drop(first);

    let second = Service::start(place.builder(folder.path())).await;
    let client = client.at(second.base());
    assert_eq!(client.get("/v1/me").await.status, 200);
    client.project("Without the catalog").await;
    second.client().sign_up("alan@example.com").await;
    place.way.heal().await;
    second.check_is("shard map", "up", LIMIT).await;
}

#[tokio::test]
async fn map_of_a_restored_catalog_is_reported_and_lifted_by_command() {
    let (folder, place) = (tempfile::tempdir().unwrap(), Place::new().await);
    let map = async |what: &[&str]| place.map(folder.path(), what).await;
    assert!(
        place
            .builder(folder.path())
            .arg("migrate")
            .start()
            .wait(LIMIT)
            .await
            .success()
    );
    assert!(map(&[]).await.ends_with("confirmed by the catalog"));
    for epoch in [2, 3] {
        let lifted = map(&["lift"]).await;
        assert!(lifted.contains(&format!("epoch {epoch}\n")), "{lifted}");
    }
    place.forget_maps_above(1).await;
    let shown = map(&[]).await;
    assert!(
        shown.contains("epoch 3\n") && shown.contains("not confirmed"),
        "{shown}"
    );
    let lifted = map(&["lift"]).await;
    assert!(lifted.contains("epoch 4\n"), "{lifted}");
    assert!(map(&[]).await.ends_with("confirmed by the catalog"));
}
