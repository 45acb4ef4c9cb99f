//! What an upload that was cut off leaves, and who removes it.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream;
use maxscale_auth::{Client, SignedUp};
use maxscale_core::clock::Clock;
use maxscale_core::id::Id;
use maxscale_core::meter::span::Sampler;
use maxscale_core::telemetry::Metrics;
use maxscale_shard::Freshness;
use platform::assembly::Platform;
use platform::settings::{self, Settings};
use platform::sweep;
use platform::track::Upload;

use crate::client::PLUCK;

/// A platform without workers, and a user with a project in it.
async fn platform(data: &Path, objects: &Path) -> (Platform, Id, Id) {
    let objects = format!("file://{}", objects.display());
    let set = [
        ("data.dir", data.to_str().unwrap()),
        ("objects.url", &objects),
        ("worker.concurrency", "0"),
    ];
    let set = set.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let settings = Settings::read(&settings::load(None, set.into()).unwrap()).unwrap();
    let meter = Metrics::new().meter("platform");
    let platform = Platform::assemble(&settings, settings.listen, &meter, Sampler::NONE)
        .await
        .unwrap();
    let app = &platform.app;

    let email = "ada@example.com";
    let client = Client::new("192.0.2.1");
    let ada = app
        .accounts
        .sign_up(email, "correct horse battery staple", "Ada", &client);
    let SignedUp::LoggedIn(ada) = ada.await.unwrap() else {
        panic!("not logged in");
    };
    let ada = ada.user.id;
    let shard = Freshness::new(Clock::system()).on(&platform.router.shard(ada).unwrap());
    let project = app.projects.create(&shard, ada, "Swept").await.unwrap().id;
    (platform, ada, project)
}

#[tokio::test]
async fn sweep_removes_old_objects_without_a_row_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let objects = folder.path().join("objects");
    let (platform, user, project) = platform(&folder.path().join("data"), &objects).await;
    let app = &platform.app;
    let ours = std::fs::read_dir(&objects).unwrap().next().unwrap();
    let ours = ours.unwrap().path();
    // Stored as an upload does it; `with_row` as one that came to its end.
    let put = async |with_row: bool| {
        let track = app.tracks.draw(user).unwrap();
        let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(PLUCK))]);
        let key = sweep::key(user, project, track);
        let stored = app.objects.put(&key, body, u64::MAX).await.unwrap();
        if with_row {
            let upload = Upload {
                user,
                project,
                track,
                name: "a.wav",
                stored: &stored,
            };
            let freshness = Freshness::new(Clock::system());
            app.tracks.create(&freshness, upload).await.unwrap();
        }
        (stored.url, ours.join(key))
    };
    let (owned, owned_file) = put(true).await;
    let (orphan, orphan_file) = put(false).await;
    let (young, _) = put(false).await;
    // The temporary file of an upload that was killed, and a file of somebody else's.
    let stale_file = orphan_file.with_extension("wav#1");
    let foreign_file = ours.join("README");
    for file in [&stale_file, &foreign_file] {
        File::create(file).unwrap();
    }
    for file in [&owned_file, &orphan_file, &stale_file, &foreign_file] {
        age(file, sweep::OLDER_THAN + Duration::from_secs(60));
    }

    sweep::once(
        &app.objects,
        &app.tracks,
        &Clock::system(),
        sweep::OLDER_THAN,
    )
    .await;

    assert!(
        app.objects.open(&owned).await.is_ok(),
        "the row's object is gone"
    );
    assert!(
        app.objects.open(&orphan).await.is_err(),
        "the orphan is there"
    );
    assert!(
        app.objects.open(&young).await.is_ok(),
        "a running upload's object is gone"
    );
    assert!(!stale_file.exists() && foreign_file.exists());
    platform.close().await;
}

/// To databases that do not know them, all objects look like orphans.
#[tokio::test]
async fn sweep_leaves_the_objects_of_other_databases_alone() {
    let folder = tempfile::tempdir().unwrap();
    let objects = folder.path().join("objects");
    let (theirs, user, project) = platform(&folder.path().join("theirs"), &objects).await;
    let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(PLUCK))]);
    let key = sweep::key(user, project, theirs.app.tracks.draw(user).unwrap());
    let stored = theirs.app.objects.put(&key, body, u64::MAX).await.unwrap();

    let (ours, _, _) = platform(&folder.path().join("ours"), &objects).await;
    let in_an_hour = Clock::system().now().after(Duration::from_secs(3600));
    let app = &ours.app;
    let (later, _time) = Clock::manual(in_an_hour);
    let removed = sweep::once(&app.objects, &app.tracks, &later, Duration::ZERO).await;

    assert_eq!(removed, 0);
    assert!(theirs.app.objects.open(&stored.url).await.is_ok());
    theirs.close().await;
    ours.close().await;
}

#[expect(
    clippy::disallowed_methods,
    reason = "what the file system says of a file"
)]
fn age(file: &Path, by: Duration) {
    let file = File::options().write(true).open(file).unwrap();
    file.set_modified(SystemTime::now() - by).unwrap();
}
