//! Connections that have no end of their own, and how each of them ends.

use std::net::SocketAddr;
use std::time::Duration;

use maxscale_tests::eventually;
use tokio::time::{Instant, sleep, timeout};

use crate::ask;
use crate::client::{PLUCK, send};
use crate::journal::files_below;
use crate::service::Service;
use crate::users::wav;
use crate::waited::Waited;
use crate::wire::{End, Head, Reply, Wire};

const LIMIT: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// A service with a track of somebody who is logged in.
struct Scene {
    folder: tempfile::TempDir,
    service: Service,
    address: SocketAddr,
    cookie: String,
    project: String,
    track: String,
}

// === impl Scene ===

impl Scene {
    async fn new(workers: &str) -> Self {
        Self::with(workers, "20").await
    }

    async fn with(workers: &str, streams: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let builder = Service::builder(folder.path())
            .env("MAXSCALE__WORKER__CONCURRENCY", workers)
            .env("MAXSCALE__LIMITS__STREAMS", streams)
            .env("MAXSCALE__SHUTDOWN__WAIT", "2s");
        let service = Service::start(builder).await;
        let client = service.client();
        client.sign_up("ada@example.com").await;
        let project = client.project("Streams").await;
        let uploaded = send(client.upload(&project, PLUCK)).await.unwrap();
        let address = ask::address(service.base());
        Self {
            cookie: ask::log_in(address, "ada@example.com").await,
            track: uploaded.text("/track/id"),
            folder,
            service,
            address,
            project,
        }
    }

    async fn wire(&self) -> Wire {
        Wire::connect(self.address).await.unwrap()
    }

    async fn ask(&self, path: &str, headers: &str) -> Wire {
        let mut wire = self.wire().await;
        let cookie = &self.cookie;
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: test\r\ncookie: {cookie}\r\n{headers}\r\n");
        wire.send(head.as_bytes()).await.unwrap();
        wire
    }

    async fn reply(&self, path: &str, headers: &str) -> Reply {
        match self.ask(path, headers).await.answer().await {
            End::Answer(reply) => reply,
            end => panic!("{path}: {end:?}"),
        }
    }

    fn events_path(&self) -> String {
        format!("/v1/projects/{}/tracks/{}/events", self.project, self.track)
    }

    async fn events(&self) -> Wire {
        let mut wire = self.ask(&self.events_path(), "").await;
        let head = wire.until("\r\n\r\n").await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        wire
    }

    async fn socket(&self) -> Wire {
        let mut wire = self.ask(&self.events_path(), UPGRADE).await;
        let head = wire.until("\r\n\r\n").await.unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        // The answer to the key, by RFC 6455, 1.3.
        let accept = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        assert!(head.contains(accept), "{head}");
        wire
    }
}

const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// The states in what was received as events or messages, in their order.
fn states(received: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(received);
    let parts = text.split(r#""state":""#).skip(1);
    parts
        .map(|p| p[..p.find('"').unwrap()].to_owned())
        .collect()
}

/// The code in the close frame at the end of what was received.
fn close_code(received: &[u8]) -> Option<u16> {
    let at = received.iter().rposition(|byte| *byte == 0x88)?;
    let code = received.get(at + 2..at + 4)?;
    Some(u16::from_be_bytes(code.try_into().unwrap()))
}

#[tokio::test]
async fn track_is_told_by_events_and_by_messages_until_it_is_done() {
    let scene = Scene::new("2").await;
    let (mut events, mut socket) = (scene.events().await, scene.socket().await);

    let told = timeout(LIMIT, events.until("\r\n0\r\n\r\n")).await.unwrap();
    let told = told.unwrap();
    assert!(told.contains("event: track"), "{told}");
    let told = states(told.as_bytes());
    assert_eq!(told.last().map(String::as_str), Some("done"), "{told:?}");

    let told = timeout(LIMIT, socket.rest()).await.unwrap();
    assert_eq!(close_code(&told), Some(1000));
    let told = states(&told);
    assert_eq!(told.last().map(String::as_str), Some("done"), "{told:?}");
}

#[tokio::test]
async fn events_of_what_is_not_there_or_not_theirs_are_refused() {
    let scene = Scene::new("0").await;
    let other = scene.track.replace(|c: char| c.is_ascii_digit(), "z");
    let path = scene.events_path();
    for (path, headers, expected) in [
        (path.replace(&scene.track, &other), "", 404),
        (path.replace(&scene.track, &other), UPGRADE, 404),
        (
            path.clone(),
            "connection: upgrade\r\nupgrade: websocket\r\n",
            400,
        ),
    ] {
        let reply = scene.reply(&path, headers).await;
        assert_eq!(reply.status, expected, "{path} {headers}: {reply:?}");
    }
    let mut stranger = scene.wire().await;
    let head = format!("GET {path} HTTP/1.1\r\nhost: test\r\n{UPGRADE}\r\n");
    stranger.send(head.as_bytes()).await.unwrap();
    let answer = stranger.answer().await;
    assert!(
        matches!(&answer, End::Answer(reply) if reply.status == 401),
        "{answer:?}"
    );
}

#[tokio::test]
async fn user_has_so_many_streams_and_one_that_ends_makes_room() {
    let scene = Scene::with("0", "2").await;
    let (events, _socket) = (scene.events().await, scene.socket().await);
    for (path, headers, expected) in [
        (scene.events_path(), "", 429),
        (scene.events_path(), UPGRADE, 429),
        ("/v1/me".to_owned(), "", 200),
    ] {
        let reply = scene.reply(&path, headers).await;
        assert_eq!(reply.status, expected, "{path} {headers}: {reply:?}");
    }
    drop(events);
    eventually(LIMIT, async || {
        let metrics = scene.reply("/metrics", "").await;
        let metrics = String::from_utf8(metrics.body).unwrap();
        let mut lines = metrics.lines();
        let held = lines.find(|line| line.starts_with("maxscale_limit_held{"));
        held.is_some_and(|line| line.ends_with(" 1"))
    })
    .await;
    scene.events().await;
}

#[tokio::test]
async fn connections_of_every_kind_end_as_they_should() {
    every_kind_ends(Duration::from_secs(4)).await;
}

#[tokio::test]
#[ignore = "its request takes ten seconds; CONTRIBUTING.md has the command"]
async fn connections_of_every_kind_end_around_a_request_of_ten_seconds() {
    every_kind_ends(Duration::from_secs(10)).await;
}

async fn every_kind_ends(request: Duration) {
    let scene = Scene::new("0").await;
    let mut idle = scene.ask("/v1/me", "").await;
    assert!(matches!(idle.answer().await, End::Answer(reply) if reply.status == 200));
    let (mut events, mut socket) = (scene.events().await, scene.socket().await);
    assert!(events.until("\"queued\"").await.is_some());
    assert!(socket.until("\"queued\"").await.is_some());
    let mut probe = scene.ask("/readyz", "").await;
    assert!(matches!(probe.answer().await, End::Answer(reply) if reply.status == 200));
    let (mut upload, body) = begun_upload(&scene).await;

    let (asked, since) = (Waited::begin(), Instant::now());
    scene.service.process.terminate();
    let not_ready = eventually(LIMIT, async || {
        let end = scene.ask("/readyz", "").await.answer().await;
        matches!(end, End::Answer(reply) if reply.status == 503)
    });
    not_ready.await;
    let not_ready = asked.so_far();
    let told = timeout(LIMIT, events.rest()).await.unwrap();
    assert!(String::from_utf8_lossy(&told).contains("event: draining"));
    let told = timeout(LIMIT, socket.rest()).await.unwrap();
    assert_eq!(close_code(&told), Some(1001));
    for wire in [&mut idle, &mut probe] {
        assert!(timeout(LIMIT, wire.rest()).await.unwrap().is_empty());
    }
    let others = asked.so_far();
    // The request is still being sent.
    sleep(request.saturating_sub(others)).await;
    upload.send(&body).await.unwrap();
    let End::Answer(reply) = upload.answer().await else {
        panic!("the request has no answer");
    };
    assert_eq!(reply.status, 202);
    assert!(reply.closes(), "{reply:?}");
    let status = scene.service.process.wait(LIMIT).await;
    let ended = asked.so_far();
    assert!(status.success(), "{status}");
    assert!(not_ready < SECOND, "{not_ready:?}");
    assert!(others < 5 * SECOND, "{others:?}");
    assert!(
        since.elapsed() > request && ended < 30 * SECOND,
        "{ended:?}"
    );
    eprintln!(
        "after SIGTERM: not ready {not_ready:?}, idle, events and socket ended {others:?}, the request answered and the process ended {ended:?}"
    );

    let again = Service::start(Service::builder(scene.folder.path())).await;
    let address = ask::address(again.base());
    let cookie = ask::log_in(address, "ada@example.com").await;
    assert_eq!(ask::tracks(address, &cookie).await, 2);
}

/// An upload that the platform has begun to store, and the rest of its body.
async fn begun_upload(scene: &Scene) -> (Wire, Vec<u8>) {
    let objects = scene.folder.path().join(".maxscale/objects");
    let before = files_below(&objects);
    let mut body = wav(&[0; 600_000]);
    let path = format!("/v1/projects/{}/tracks", scene.project);
    let head = Head {
        method: "POST",
        path: &path,
        id: "slow",
        cookie: &scene.cookie,
        kind: "audio/wav",
        length: body.len(),
    };
    let mut wire = scene.wire().await;
    wire.send(&head.bytes()).await.unwrap();
    let rest = body.split_off(300_000);
    wire.send(&body).await.unwrap();
    eventually(LIMIT, async || files_below(&objects) > before).await;
    (wire, rest)
}
