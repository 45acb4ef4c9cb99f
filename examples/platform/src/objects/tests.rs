use std::convert::Infallible;
use std::fs;
use std::future::poll_fn;
use std::io::Read as _;
use std::path::Path;
use std::task::Poll;
use std::time::Duration;

use futures_util::stream;
use maxscale_core::clock::Clock;
use maxscale_core::refusal::{Class, Classify};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;

const LIMIT: u64 = 10 * 1024 * 1024;

#[tokio::test]
async fn what_was_put_is_opened_by_its_url() {
    let (_folder, objects) = objects().await;
    // Several parts, none of a round size.
    let chunks: Vec<Vec<u8>> = (0..20_u8).map(|n| vec![n; 70_001]).collect();

    let stored = put(&objects, "tracks/a-1/take_2.wav", &chunks, LIMIT)
        .await
        .unwrap();

    assert_eq!(stored.url, "file://tracks/a-1/take_2.wav");
    assert_eq!(stored.size, 20 * 70_001);
    assert_eq!(read(&objects, &stored.url).await, chunks.concat());
}

#[tokio::test]
async fn urls_stay_true_when_the_folder_moves() {
    let (folder, objects) = objects().await;
    let stored = put(&objects, "tracks/a", &[b"sound"], LIMIT).await.unwrap();

    let moved = folder.path().join("moved");
    fs::rename(root(&folder), &moved).unwrap();
    let objects = Objects::at(&url(&moved)).await.unwrap();

    assert_eq!(read(&objects, &stored.url).await, b"sound");
}

#[tokio::test]
async fn put_replaces_what_was_there() {
    let (_folder, objects) = objects().await;
    put(&objects, "a", &[b"older and longer"], LIMIT)
        .await
        .unwrap();
    let stored = put(&objects, "a", &[b"new"], LIMIT).await.unwrap();

    assert_eq!(read(&objects, &stored.url).await, b"new");
}

#[tokio::test]
async fn body_over_the_limit_leaves_nothing() {
    let (folder, objects) = objects().await;
    let chunks = vec![vec![0; PART_BYTES]; 3];
    let size = 3 * PART_BYTES as u64;

    let error = put(&objects, "tracks/a", &chunks, size - 1)
        .await
        .unwrap_err();

    assert!(matches!(error, ObjectsError::TooLarge { limit } if limit == size - 1));
    assert_eq!(error.class(), Class::TooLarge);
    assert_eq!(files(&root(&folder)), Vec::<String>::new());
    assert!(put(&objects, "tracks/a", &chunks, size).await.is_ok());
}

#[tokio::test]
async fn body_that_breaks_off_leaves_nothing() {
    let (folder, objects) = objects().await;
    let body = stream::iter([Ok(Bytes::from(vec![0; 2 * PART_BYTES])), Err("line cut")]);

    let error = objects.put("tracks/a", body, LIMIT).await.unwrap_err();

    assert!(matches!(&error, ObjectsError::Body { source } if source.to_string() == "line cut"));
    assert_eq!(files(&root(&folder)), Vec::<String>::new());
}

/// The rename comes last: until the body ends there is only a temporary file.
#[tokio::test]
async fn object_is_not_visible_before_its_body_ends() {
    let (folder, objects) = objects().await;
    let (end, ended) = oneshot::channel::<Infallible>();
    let put = tokio::spawn(unfinished_put(objects.clone(), ended));

    until(|| files(&root(&folder)) == ["tracks/a#1"]).await;
    assert!(matches!(
        objects.open("file://tracks/a").await,
        Err(ObjectsError::Missing { .. })
    ));

    drop(end);
    let stored = put.await.unwrap().unwrap();
    assert_eq!(files(&root(&folder)), ["tracks/a"]);
    assert_eq!(read(&objects, &stored.url).await, vec![7; 2 * PART_BYTES]);
}

#[tokio::test]
async fn dropped_put_leaves_nothing() {
    let (folder, objects) = objects().await;
    let (_end, ended) = oneshot::channel::<Infallible>();
    let put = tokio::spawn(unfinished_put(objects, ended));
    until(|| files(&root(&folder)) == ["tracks/a#1"]).await;

    put.abort();

    until(|| files(&root(&folder)).is_empty()).await;
}

/// Wherever the future is dropped, a visible object is a whole one.
#[tokio::test]
async fn put_dropped_anywhere_leaves_the_whole_object_or_none() {
    let (folder, objects) = objects().await;
    let root = root(&folder);
    for round in 0..50_u32 {
        let body = stream::iter([Ok::<_, Infallible>(Bytes::from(vec![7; 2 * PART_BYTES]))]);
        let key = format!("tracks/{round}");
        let mut put = pin!(objects.put(&key, body, LIMIT));
        // Creating, writing and saving are each waited for, unless they are quick.
        let mut polls_left = round % 5;
        poll_fn(|cx| {
            if polls_left == 0 {
                return Poll::Ready(());
            }
            polls_left -= 1;
            put.as_mut().poll(cx).map(drop)
        })
        .await;
    }

    until(|| files(&root).iter().all(|name| !name.contains('#'))).await;
    let mut whole = files(&root);
    whole.retain(|name| !name.contains('#'));
    assert!((1..50).contains(&whole.len()), "{whole:?}");
    for name in whole {
        let size = fs::metadata(root.join(&name)).unwrap().len();
        assert_eq!(size, 2 * PART_BYTES as u64, "{name}");
    }
}

/// The one switch on which "on disk after `Ok`" hangs; no test here can cut the power.
#[tokio::test]
async fn store_syncs_files_and_folders() {
    let (_folder, objects) = objects().await;
    assert!(format!("{:?}", objects.store).contains("fsync: true"));
}

#[tokio::test]
async fn hostile_keys_are_refused() {
    let (folder, objects) = objects().await;
    let long = "a".repeat(201);
    for key in [
        "",
        "/",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        "a/..",
        "/etc/passwd",
        "a//b",
        "a/",
        "a\0b",
        "A",
        "ä",
        "a b",
        "a%2fb",
        "a\\b",
        "a:b",
        "a#1",
        "a\n",
        "~",
        &long,
    ] {
        let stored = put(&objects, key, &[b"x"], LIMIT).await;
        assert!(matches!(stored, Err(ObjectsError::Key { .. })), "{key:?}");

        let url = format!("file://{key}");
        let opened = objects.open(&url).await;
        assert!(matches!(opened, Err(ObjectsError::Url { .. })), "{url:?}");
        let deleted = objects.delete(&url).await;
        assert!(matches!(deleted, Err(ObjectsError::Url { .. })), "{url:?}");
    }
    let elsewhere = objects.open("s3://bucket/a").await;
    assert!(matches!(elsewhere, Err(ObjectsError::Url { .. })));
    assert_eq!(files(folder.path()), Vec::<String>::new());
}

#[tokio::test]
async fn deleting_twice_is_deleting_once() {
    let (folder, objects) = objects().await;
    let stored = put(&objects, "tracks/a", &[b"x"], LIMIT).await.unwrap();

    objects.delete(&stored.url).await.unwrap();
    objects.delete(&stored.url).await.unwrap();

    assert_eq!(files(&root(&folder)), Vec::<String>::new());
    assert!(matches!(
        objects.open(&stored.url).await,
        Err(ObjectsError::Missing { .. })
    ));
}

#[tokio::test]
async fn list_gives_the_objects_older_than_the_cutoff() {
    let (folder, objects) = objects().await;
    put(&objects, "tracks/old", &[b"x"], LIMIT).await.unwrap();
    put(&objects, "tracks/new", &[b"x"], LIMIT).await.unwrap();
    fs::write(root(&folder).join("Not Ours.txt"), "x").unwrap();
    fs::write(root(&folder).join("tracks/cut#1"), "x").unwrap();
    for name in ["tracks/old", "Not Ours.txt", "tracks/cut#1"] {
        age(&root(&folder).join(name), HOUR * 2);
    }

    let found: Vec<_> = objects.list_older_than(an_hour_ago()).collect().await;

    let [Ok(found)] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(found.url, "file://tracks/old");
    assert!(found.modified < an_hour_ago());
}

#[tokio::test]
async fn sweep_removes_old_temporary_files_and_nothing_else() {
    let (folder, objects) = objects().await;
    let root = root(&folder);
    put(&objects, "tracks/whole", &[b"x"], LIMIT).await.unwrap();
    let names = [
        "tracks/cut#1",
        "tracks/cut#12",
        "tracks/running#1",
        "Notes #1",
        "a#b",
    ];
    for name in names {
        fs::write(root.join(name), "x").unwrap();
        if name != "tracks/running#1" {
            age(&root.join(name), HOUR * 2);
        }
    }
    age(&root.join("tracks/whole"), HOUR * 2);

    assert_eq!(
        objects.remove_stale_uploads(an_hour_ago()).await.unwrap(),
        2
    );

    assert_eq!(
        files(&root),
        ["Notes #1", "a#b", "tracks/running#1", "tracks/whole"]
    );
}

#[tokio::test]
async fn folder_is_made_and_left_clean() {
    let folder = TempDir::new().unwrap();
    let deep = folder.path().join("a/b/c");
    Objects::at(&url(&deep)).await.unwrap();

    assert!(deep.is_dir());
    assert_eq!(files(folder.path()), Vec::<String>::new());
}

#[tokio::test]
async fn unusable_folder_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    // Nobody, not even root, may make files here.
    let unwritable = Path::new("/proc/self").to_path_buf();
    for path in [file.clone(), file.join("below"), unwritable] {
        let error = Objects::at(&url(&path)).await.unwrap_err();
        assert!(matches!(error, ObjectsError::Folder { .. }), "{error:?}");
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
    assert!(matches!(
        Objects::at("file://").await,
        Err(ObjectsError::Folder { .. })
    ));
}

#[tokio::test]
async fn unknown_scheme_is_named_with_what_is_supported_and_without_secrets() {
    for url in ["s3://key:secret@bucket/x", "secret", "/var/secret"] {
        let text = Objects::at(url).await.unwrap_err().to_string();
        assert!(
            text.contains("file://") && !text.contains("secret"),
            "{text}"
        );
    }
    let text = Objects::at("s3://bucket").await.unwrap_err().to_string();
    assert!(text.contains("\"s3\""), "{text}");
}

const HOUR: Duration = Duration::from_secs(3600);

fn an_hour_ago() -> Timestamp {
    Clock::system().now().before(HOUR)
}

fn age(path: &Path, by: Duration) {
    let file = File::options().write(true).open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.set_modified(modified - by).unwrap();
}

/// A store in `<folder>/objects`.
async fn objects() -> (TempDir, Objects) {
    let folder = TempDir::new().unwrap();
    let objects = Objects::at(&url(&root(&folder))).await.unwrap();
    (folder, objects)
}

fn root(folder: &TempDir) -> PathBuf {
    folder.path().join("objects")
}

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

async fn put(
    objects: &Objects,
    key: &str,
    chunks: &[impl AsRef<[u8]>],
    limit: u64,
) -> Result<Stored, ObjectsError> {
    let chunks: Vec<_> = chunks
        .iter()
        .map(|chunk| Ok::<_, Infallible>(Bytes::copy_from_slice(chunk.as_ref())))
        .collect();
    objects.put(key, stream::iter(chunks), limit).await
}

/// Puts a body that ends when `ended`'s other half is dropped.
async fn unfinished_put(
    objects: Objects,
    ended: oneshot::Receiver<Infallible>,
) -> Result<Stored, ObjectsError> {
    let first = stream::iter([Ok::<_, Infallible>(Bytes::from(vec![7; 2 * PART_BYTES]))]);
    let rest = stream::once(ended).filter_map(async |_| None);
    objects.put("tracks/a", first.chain(rest), LIMIT).await
}

async fn read(objects: &Objects, url: &str) -> Vec<u8> {
    let mut content = Vec::new();
    let mut file = objects.open(url).await.unwrap();
    file.read_to_end(&mut content).unwrap();
    content
}

/// All files below `root`, sorted.
fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

async fn until(condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), met)
        .await
        .expect("the condition, in a minute");
}
