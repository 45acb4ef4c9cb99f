//! `keys.secret` is replaced, and no user notices.

use std::path::Path;
use std::time::Duration;

use maxscale_core::config::Secret;
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::{Fleet, FleetConfig};
use maxscale_tests::ProcessBuilder;
use platform::keyring::{Keyring, KeyringError};
use serde_json::json;

use crate::client::{Client, PASSWORD};
use crate::service::Service;
use crate::start_errors::refused;

const LIMIT: Duration = Duration::from_secs(60);
const FIRST: &str = "the first secret which is long enough";
const SECOND: &str = "the second secret is as long as that";

/// Keys that write and that only read, on files that two processes may share.
fn with(folder: &Path, writes: &str, reads: &str) -> ProcessBuilder {
    let builder = Service::builder(folder)
        .env("MAXSCALE__SHARDS__NODES", "sqlite://a.db,sqlite://b.db")
        .env("MAXSCALE__KEYS__OTHERS", reads);
    if writes.is_empty() {
        builder
    } else {
        builder.env("MAXSCALE__KEYS__SECRET", writes)
    }
}

async fn stop(service: Service) {
    service.process.terminate();
    assert!(service.process.wait(LIMIT).await.success());
}

/// Who signed up elsewhere has a session here, and an address that leads to the account.
async fn knows(service: &Service, client: &Client, email: &str) {
    let me = client.at(service.base()).get("/v1/me").await;
    assert_eq!(me.status, 200, "{email}: {me:?}");
    let stranger = service.client();
    let login = json!({ "email": email, "password": PASSWORD });
    let login = stranger.post("/v1/login", &login).await;
    assert_eq!(login.status, 200, "{email}: {login:?}");
    let again = json!({ "email": email, "password": PASSWORD, "name": "Eve" });
    let again = stranger.post("/v1/signup", &again).await;
    assert_eq!(again.status, 409, "{email}: {again:?}");
}

#[tokio::test]
async fn processes_before_and_after_the_change_know_each_others_users() {
    let folder = tempfile::tempdir().unwrap();
    let alone = Service::start(with(folder.path(), FIRST, "")).await;
    let ada = alone.client();
    ada.sign_up("ada@example.com").await;
    stop(alone).await;

    let before = Service::start(with(folder.path(), FIRST, SECOND)).await;
    let bob = before.client();
    bob.sign_up("bob@example.com").await;
    let after = Service::start(with(folder.path(), SECOND, FIRST)).await;
    let cem = after.client();
    cem.sign_up("cem@example.com").await;
    for service in [&before, &after] {
        knows(service, &ada, "ada@example.com").await;
        knows(service, &bob, "bob@example.com").await;
        knows(service, &cem, "cem@example.com").await;
    }
    stop(before).await;
    stop(after).await;

    let parts = [
        "cannot use the signing key",
        "keys.secret = *** (environment variable MAXSCALE__KEYS__SECRET)",
        "of this fleet is configured no more",
        "list it in keys.others",
    ];
    refused("second only", with(folder.path(), SECOND, ""), &parts).await;
    refused("first only", with(folder.path(), FIRST, ""), &parts).await;
}

#[tokio::test]
async fn key_that_the_first_start_drew_gives_way_to_a_configured_one() {
    let folder = tempfile::tempdir().unwrap();
    let drawn = Service::start(with(folder.path(), "", SECOND)).await;
    let ada = drawn.client();
    ada.sign_up("ada@example.com").await;
    let configured = Service::start(with(folder.path(), SECOND, "")).await;
    let bob = configured.client();
    bob.sign_up("bob@example.com").await;
    for service in [&drawn, &configured] {
        knows(service, &ada, "ada@example.com").await;
        knows(service, &bob, "bob@example.com").await;
    }
    stop(drawn).await;
    stop(configured).await;

    let parts = [
        "cannot use the signing key",
        "keys.secret is not set",
        "key 2 of this fleet is configured no more",
        "list it in keys.others",
    ];
    refused("drawn only", with(folder.path(), "", ""), &parts).await;
}

#[tokio::test]
async fn secret_writes_and_others_only_read_in_the_order_in_which_a_fleet_met_them() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/a.db", folder.path().display());
    let node = NodeSpec::parse(&url, 1).unwrap();
    let fleet = Fleet::open(FleetConfig::new(vec![node])).await.unwrap();
    let third = "the third secret is no shorter than those";
    let steps: [(&str, &[&str], &[u8]); 5] = [
        (FIRST, &[], &[1]),
        (FIRST, &[SECOND, FIRST], &[1, 2]),
        (SECOND, &[FIRST], &[2, 1]),
        (third, &[FIRST, SECOND], &[3, 1, 2]),
        (FIRST, &[third, SECOND], &[1, 2, 3]),
    ];
    for (writes, reads, versions) in steps {
        let reads: Vec<_> = reads.iter().map(|text| Secret::new(*text)).collect();
        let keyring = Keyring::new(Some(&Secret::new(writes)), &reads).unwrap();
        let ring = keyring.open(&fleet).await.unwrap();
        assert!(ring.versions().eq(versions.iter().copied()), "{ring:?}");
    }
    // A new one is not taken up while one that was used is missing.
    let other = Secret::new("a fourth secret that comes without them");
    let open = || Keyring::new(Some(&other), &[]).unwrap().open(&fleet);
    let missing = open().await;
    assert!(matches!(missing, Err(KeyringError::Missing { version: 1 })));
    assert_eq!(fleet.recall("key-4").await.unwrap(), None);
    fleet.close().await;
}
