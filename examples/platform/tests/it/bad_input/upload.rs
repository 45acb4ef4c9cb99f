//! Uploads that are none, and what is left of them: nothing.

use std::path::{Path, PathBuf};

use futures_util::stream;
use maxscale_shard::{Database, DatabaseOptions, sql};
use maxscale_tests::eventually;
use reqwest::{Body, Method};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::{LIMIT, assert_problem, raw};
use crate::client::{Answer, Client, PASSWORD, PLUCK, send};
use crate::service::Service;

/// The largest upload in these tests.
const LARGEST: usize = 1024 * 1024;

/// What an upload leaves: files, rows, jobs.
#[derive(Debug, PartialEq)]
struct Left {
    files: usize,
    tracks: i64,
    jobs: i64,
}

const NOTHING: Left = Left {
    files: 0,
    tracks: 0,
    jobs: 0,
};

/// A service for small uploads, an account, and its project.
async fn prepared(folder: &Path) -> (Service, Client, String) {
    let builder = Service::builder(folder);
    let builder = builder.env("MAXSCALE__HTTP__UPLOAD_LIMIT", LARGEST.to_string());
    let service = Service::start(builder).await;
    let client = service.client();
    client.sign_up("ada@example.com").await;
    let project = client.project("Uploads").await;
    (service, client, project)
}

async fn left(folder: &Path) -> Left {
    let data = folder.join(".maxscale");
    let (mut tracks, mut jobs) = (0, 0);
    for number in 1..=4 {
        let url = format!(
            "sqlite://{}",
            data.join(format!("node-{number}.db")).display()
        );
        let node = Database::open("node", &url, &DatabaseOptions::default()).unwrap();
        let count = sql("SELECT (SELECT count(*) FROM track) AS tracks,
                (SELECT count(*) FROM ms_job WHERE kind <> 'mail.send') AS jobs");
        let row = node.fetch_optional(count).await.unwrap().unwrap();
        tracks += row.get::<i64>("tracks").unwrap();
        jobs += row.get::<i64>("jobs").unwrap();
        node.close().await;
    }
    let files = files(&data.join("objects")).len();
    Left {
        files,
        tracks,
        jobs,
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    // An upload's folder may go while it is looked at.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path => found.push(path),
        }
    }
    found
}

async fn uploaded(client: &Client, project: &str, kind: &str, body: impl Into<Body>) -> Answer {
    let path = format!("/v1/projects/{project}/tracks?name=take.wav");
    let request = client.request(Method::POST, &path);
    send(request.header("content-type", kind).body(body))
        .await
        .unwrap()
}

#[tokio::test]
async fn upload_that_is_no_wav_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (_service, client, project) = prepared(folder.path()).await;
    for (kind, body) in [
        (
            "audio/wav",
            "My heart will go on, and this is a text.\n"
                .repeat(1000)
                .into_bytes(),
        ),
        ("audio/wav", Vec::new()),
        ("audio/wav", b"RIFF".to_vec()),
        ("audio/wav", [b"RIFX", &PLUCK[4..]].concat()),
        ("text/plain", PLUCK.to_vec()),
        ("application/octet-stream", PLUCK.to_vec()),
    ] {
        let answer = uploaded(&client, &project, kind, body).await;
        assert_problem(&answer, 415, "unsupported_media");
    }
    let untyped = client.request(Method::POST, &format!("/v1/projects/{project}/tracks"));
    let untyped = send(untyped.body(PLUCK)).await.unwrap();
    assert_problem(&untyped, 415, "unsupported_media");
    for (name, status, code) in [
        ("", 422, "unprocessable"),
        ("a%00b", 422, "unprocessable"),
        (&"x".repeat(201), 422, "unprocessable"),
        ("a&name=b", 400, "invalid"),
        ("a&other=b", 400, "invalid"),
    ] {
        let path = format!("/v1/projects/{project}/tracks?name={name}");
        let request = client
            .request(Method::POST, &path)
            .header("content-type", "audio/wav");
        let answer = send(request.body(PLUCK)).await.unwrap();
        assert_problem(&answer, status, code);
    }
    assert_eq!(left(folder.path()).await, NOTHING);
}

/// `PLUCK` with `bytes` in place of those `after` bytes behind the mark of a chunk.
fn patched(mark: &[u8], after: usize, bytes: &[u8]) -> Vec<u8> {
    let mut wav = PLUCK.to_vec();
    let at = wav
        .windows(mark.len())
        .position(|window| window == mark)
        .unwrap()
        + mark.len()
        + after;
    wav[at..at + bytes.len()].copy_from_slice(bytes);
    wav
}

#[tokio::test]
async fn wav_that_lies_ends_as_failed_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (_service, client, project) = prepared(folder.path()).await;
    let cases = [
        (
            "data chunk longer than the file",
            patched(b"data", 0, &[0, 0, 0, 0x10]),
            "declares",
        ),
        (
            "file cut off",
            PLUCK[..PLUCK.len() / 2].to_vec(),
            "declares",
        ),
        ("nothing behind its first bytes", PLUCK[..12].to_vec(), ""),
        ("no channels", patched(b"fmt ", 6, &[0, 0]), "channel"),
        ("no rate", patched(b"fmt ", 8, &[0, 0, 0, 0]), "rate"),
        (
            "text behind a true beginning",
            [&PLUCK[..12], &b"text ".repeat(500)[..]].concat(),
            "",
        ),
    ];
    let count = cases.len();
    for (case, wav, reason) in cases {
        let answer = uploaded(&client, &project, "audio/wav", wav).await;
        assert_eq!(answer.status, 202, "{case}: {answer:?}");
        let track = client
            .measured(&project, &answer.text("/track/id"), LIMIT)
            .await;
        assert_eq!(track["state"], "failed", "{case}: {track}");
        let told = track["reason"].as_str().unwrap_or_default();
        assert!(!told.is_empty() && told.contains(reason), "{case}: {track}");
        // It is one or the other: no number of a file that was not measured.
        let members: Vec<_> = track.as_object().unwrap().keys().collect();
        assert_eq!(members, ["id", "name", "reason", "state"], "{case}");
    }
    // Each is whole: its file, its row, its job.
    let whole = Left {
        files: count,
        tracks: 6,
        jobs: 6,
    };
    assert_eq!(left(folder.path()).await, whole);
}

/// The head of an upload, for who writes to a socket.
async fn head(client: &Client, project: &str, more: &str) -> String {
    let login = json!({ "email": "ada@example.com", "password": PASSWORD });
    let logged_in = client.post("/v1/login", &login).await;
    let cookie = logged_in.headers["set-cookie"].to_str().unwrap();
    format!(
        "POST /v1/projects/{project}/tracks HTTP/1.1\r\nhost: h\r\n\
         cookie: {cookie}\r\ncontent-type: audio/wav\r\n{more}\r\n\r\n"
    )
}

#[tokio::test]
async fn upload_that_says_it_is_too_large_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (service, client, project) = prepared(folder.path()).await;
    let length = format!("content-length: {}", LARGEST + 1);
    let asking = format!("{length}\r\nexpect: 100-continue");
    for more in [length, asking] {
        // Not a byte of the body is ever sent, nor asked for.
        let mut stream = raw::connect(&service).await;
        let head = head(&client, &project, &more).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        assert_problem(&raw::answer(&mut stream).await, 413, "too_large");
    }
    assert_eq!(left(folder.path()).await, NOTHING);
}

/// A connection closed on a client that still sends is reset, and takes the answer along.
#[tokio::test]
async fn client_that_sends_on_is_told_why_it_was_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (service, client, project) = prepared(folder.path()).await;
    let large = vec![b'x'; 8 * LARGEST];
    for (client, kind, status, code) in [
        (&client, "audio/wav", 413, "too_large"),
        (&client, "text/plain", 415, "unsupported_media"),
        (&service.client(), "audio/wav", 401, "not_logged_in"),
    ] {
        let answer = uploaded(client, &project, kind, large.clone()).await;
        assert_problem(&answer, status, code);
    }
    let request = client.request(Method::POST, "/v1/projects");
    let request = request.header("content-type", "application/json");
    let answer = send(request.body(large)).await.unwrap();
    assert_problem(&answer, 413, "too_large");
}

#[tokio::test]
async fn upload_that_turns_out_too_large_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (_service, client, project) = prepared(folder.path()).await;
    let chunks = |size: usize| {
        let wav: Vec<u8> = PLUCK.iter().copied().cycle().take(size).collect();
        let chunks: Vec<_> = wav
            .chunks(32 * 1024)
            .map(|c| Ok::<_, std::io::Error>(c.to_vec()))
            .collect();
        Body::wrap_stream(stream::iter(chunks))
    };
    let answer = uploaded(&client, &project, "audio/wav", chunks(LARGEST + 1)).await;
    assert_problem(&answer, 413, "too_large");
    assert!(
        answer.text("/detail").contains(&LARGEST.to_string()),
        "{answer:?}"
    );
    assert_eq!(left(folder.path()).await, NOTHING);

    // The limit itself is fine: without a length, the bytes are what counts.
    let answer = uploaded(&client, &project, "audio/wav", chunks(LARGEST)).await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[tokio::test]
async fn upload_that_breaks_off_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (service, client, project) = prepared(folder.path()).await;
    let framings = [
        format!("content-length: {}", PLUCK.len()),
        "transfer-encoding: chunked".to_owned(),
    ];
    let half = PLUCK.len() / 2;
    for (framing, chunk) in framings
        .iter()
        .zip([String::new(), format!("{half:x}\r\n")])
    {
        let mut stream = raw::connect(&service).await;
        let head = head(&client, &project, framing).await + &chunk;
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&PLUCK[..half]).await.unwrap();
        // It has begun to be stored when the client goes.
        eventually(LIMIT, async || left(folder.path()).await.files == 1).await;
        drop(stream);
        eventually(LIMIT, async || left(folder.path()).await == NOTHING).await;
    }
    let tracks = client.get(&format!("/v1/projects/{project}/tracks")).await;
    assert_eq!(tracks.body["tracks"], json!([]));
}
