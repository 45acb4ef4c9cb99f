//! SIGTERM: what was begun is finished, and what is not finished is handed back.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use maxscale_tests::{Database, Process, ProcessBuilder, eventually, free_port};
use serde_json::Value;

use crate::ask;
use crate::client::{PLUCK, send};
use crate::journal::{Journal, files_below};
use crate::servers::Servers;
use crate::service::Service;
use crate::users::{Dice, wav};
use crate::visit::{self, Visit};
use crate::waited::Waited;
use crate::wire::{End, Head, Wire};

const LIMIT: Duration = Duration::from_secs(60);
/// What `shutdown` promises by default.
const END: Duration = Duration::from_secs(30);
const STOPPING: &str = "stopping: no new connections";

#[tokio::test]
async fn requests_that_were_started_are_answered_and_others_leave_no_trace_on_sqlite_files() {
    let folder = tempfile::tempdir().unwrap();
    finishes(|| Service::builder(folder.path())).await;
}

#[tokio::test]
async fn requests_that_were_started_are_answered_and_others_leave_no_trace_on_postgres_and_redis() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start().await;
    finishes(|| servers.builder(folder.path())).await;
}

async fn finishes(builder: impl Fn() -> ProcessBuilder) {
    let mut dice = Dice::printed();
    let service = Service::start(builder()).await;
    let visit = Visit::begin(&service, &mut dice).await;
    service.process.terminate();
    let start = Waited::begin();
    service.process.wait_for_line(STOPPING, LIMIT).await;
    let sent = visit.end().await;
    let status = ends_within(END, &service.process, start).await;
    assert!(status.success(), "{status}");

    let log = answered(&service.process);
    for one in &sent {
        let logged = log.get(&one.id);
        match (&one.end, logged) {
            (End::Answer(reply), Some(line)) => {
                assert_eq!(reply.status, one.expected, "{one:?}");
                assert_eq!(line["status"], reply.status, "{one:?}: {line}");
                assert!(line.get("cut").is_none(), "{one:?}: {line}");
            }
            // Probes are not logged.
            (End::Answer(reply), None) => {
                assert_eq!((reply.status, one.id.as_str()), (503, "ready"))
            }
            (End::Nothing(error), None) => assert!(
                matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                ),
                "{one:?}"
            ),
            (End::Torn(bytes), _) => panic!("{} bytes of an answer: {one:?}", bytes.len()),
            _ => panic!("{one:?}: {logged:?}"),
        }
    }
    let mut asked = sent.iter().map(|one| one.id.as_str()).collect::<Vec<_>>();
    asked.sort_unstable();
    for (id, line) in &log {
        assert!(
            asked.binary_search(&id.as_str()).is_ok(),
            "nobody asked {line}"
        );
    }
    let nothing = sent.iter().filter(|one| matches!(one.end, End::Nothing(_)));
    eprintln!(
        "{} requests, {} of them never started",
        sent.len(),
        nothing.count()
    );

    let start = Waited::begin();
    let service = Service::start(builder()).await;
    visit::assert_all_there(ask::address(service.base()), &sent).await;
    let took = start.so_far();
    eprintln!("all jobs done {took:?} after the start");
    // Less than a lease.
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// Waits until the process has ended, as it has to within `limit` of `since`.
async fn ends_within(limit: Duration, process: &Process, since: Waited) -> ExitStatus {
    let status = process.wait(LIMIT).await;
    let took = since.so_far();
    eprintln!("ended {took:?} after the signal");
    assert!(took < limit, "{took:?}");
    status
}

/// The lines of the access log by the ids that the visitors gave.
fn answered(process: &Process) -> HashMap<String, Value> {
    let lines = process.stderr().into_iter().filter_map(|line| {
        let line: Value = serde_json::from_str(&line).ok()?;
        let id = line["request_id"].as_str()?.to_owned();
        let access = line["target"] == "maxscale::access";
        (access && id.starts_with(visit::PREFIX)).then_some((id, line))
    });
    lines.collect()
}

#[tokio::test]
async fn job_that_outlasts_the_grace_is_the_next_start_s_at_once_on_sqlite_files() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = (1..=4).map(|number| {
        let file = folder.path().join(format!(".maxscale/node-{number}.db"));
        format!("sqlite://{}", file.display())
    });
    let journal = Journal::open(&nodes.collect::<Vec<_>>());
    hands_back(|| Service::builder(folder.path()), &journal, folder.path()).await;
}

#[tokio::test]
async fn job_that_outlasts_the_grace_is_the_next_start_s_at_once_on_postgres_and_redis() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start().await;
    let journal = Journal::open(&servers.nodes.each_ref().map(Database::url));
    hands_back(|| servers.builder(folder.path()), &journal, folder.path()).await;
}

async fn hands_back(builder: impl Fn() -> ProcessBuilder, journal: &Journal, folder: &Path) {
    let idle = builder().env("MAXSCALE__WORKER__CONCURRENCY", "0");
    let service = Service::start(idle).await;
    let client = service.client();
    client.sign_up("ada@example.com").await;
    let project = client.project("Long").await;
    let uploaded = send(client.upload(&project, PLUCK)).await.unwrap();
    let track = uploaded.text("/track/id");
    service.process.terminate();
    assert!(service.process.wait(LIMIT).await.success());

    // Reading from a pipe that nobody writes into takes for ever.
    let file = only_file(&folder.join(".maxscale/objects"));
    let aside = folder.join("aside.wav");
    std::fs::rename(&file, &aside).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(&file)
            .status()
            .unwrap()
            .success()
    );
    let service = Service::start(builder().env("MAXSCALE__SHUTDOWN__GRACE", "1s")).await;
    eventually(LIMIT, async || {
        let job = journal.only_job().await;
        job.filter(|(state, ..)| state == "running")
    })
    .await;
    service.process.terminate();
    let ended = ends_within(Duration::from_secs(10), &service.process, Waited::begin());
    let status = ended.await;
    assert!(status.success(), "{status}");
    let handed_back = Some(("ready".to_owned(), 0, 0));
    assert_eq!(
        journal.only_job().await,
        handed_back,
        "{:#?}",
        service.process.stderr()
    );

    std::fs::rename(&aside, &file).unwrap();
    let service = Service::start(builder()).await;
    let client = client.at(service.base());
    client.measured(&project, &track, LIMIT).await;
    assert_eq!(journal.only_job().await, Some(("done".to_owned(), 1, 0)));
}

fn only_file(folder: &Path) -> PathBuf {
    let mut path = folder.to_owned();
    while path.is_dir() {
        let entries: Vec<_> = std::fs::read_dir(&path).unwrap().collect();
        assert_eq!(entries.len(), 1, "{entries:?}");
        path = entries[0].as_ref().unwrap().path();
    }
    path
}

/// An upload that stands still after its first half, seen by the platform.
async fn half_upload(service: &Service, folder: &Path) -> Wire {
    let client = service.client();
    client.sign_up("ada@example.com").await;
    let project = client.project("Half").await;
    let address = ask::address(service.base());
    let cookie = ask::log_in(address, "ada@example.com").await;
    let body = wav(&[0; 600_000]);
    let path = format!("/v1/projects/{project}/tracks");
    let head = Head {
        method: "POST",
        path: &path,
        id: "half",
        cookie: &cookie,
        kind: "audio/wav",
        length: body.len(),
    };
    let mut wire = Wire::connect(address).await.unwrap();
    wire.send(&head.bytes()).await.unwrap();
    wire.send(&body[..300_000]).await.unwrap();
    let objects = folder.join(".maxscale/objects");
    eventually(LIMIT, async || files_below(&objects) > 0).await;
    wire
}

#[tokio::test]
async fn clients_that_never_finish_hold_the_end_up_for_the_grace_only() {
    let folder = tempfile::tempdir().unwrap();
    let builder = || Service::builder(folder.path());
    let service = Service::start(builder().env("MAXSCALE__SHUTDOWN__GRACE", "1s")).await;
    let mut upload = half_upload(&service, folder.path()).await;
    let address = ask::address(service.base());
    let mut head = Wire::connect(address).await.unwrap();
    head.send(b"GET /v1/me HTTP/1.1\r\nhost:").await.unwrap();

    service.process.terminate();
    let ended = ends_within(Duration::from_secs(6), &service.process, Waited::begin());
    let status = ended.await;
    assert!(status.success(), "{status}");
    for wire in [&mut upload, &mut head] {
        let end = wire.answer().await;
        assert!(matches!(end, End::Nothing(_)), "{end:?}");
    }
    let service = Service::start(builder()).await;
    let address = ask::address(service.base());
    let cookie = ask::log_in(address, "ada@example.com").await;
    assert_eq!(ask::tracks(address, &cookie).await, 0);
}

#[tokio::test]
#[ignore = "takes the whole default grace; CONTRIBUTING.md has the command"]
async fn default_grace_ends_within_30_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    let _upload = half_upload(&service, folder.path()).await;
    service.process.terminate();
    let status = ends_within(END, &service.process, Waited::begin()).await;
    assert!(status.success());
}

#[tokio::test]
async fn second_signal_ends_the_process_at_once() {
    for signal in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::embedded(folder.path()).await;
        let _upload = half_upload(&service, folder.path()).await;
        service.process.terminate();
        service.process.wait_for_line(STOPPING, LIMIT).await;
        assert!(service.process.is_running());
        let mut kill = Command::new("kill");
        kill.args(["-s", signal, &service.process.pid().to_string()]);
        assert!(kill.status().unwrap().success());
        let ended = ends_within(Duration::from_secs(5), &service.process, Waited::begin());
        let status = ended.await;
        assert!(!status.success(), "{status}");
    }
}

#[tokio::test]
async fn start_that_waits_for_its_databases_ends_at_once() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().map(|address| (address.port(), silent));
    let (silent, _listener) = silent.unwrap();
    for port in [free_port(), silent] {
        let folder = tempfile::tempdir().unwrap();
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let process = Service::builder(folder.path())
            .env("MAXSCALE__HTTP__LISTEN", listen.to_string())
            .env(
                "MAXSCALE__SHARDS__NODES",
                format!("postgres://nobody@127.0.0.1:{port}/none"),
            )
            .start();
        // It listens for signals before it listens for requests.
        eventually(LIMIT, async || Wire::connect(listen).await.is_ok()).await;
        process.terminate();
        let status = ends_within(Duration::from_secs(5), &process, Waited::begin()).await;
        assert!(status.success(), "{status}: {:?}", process.lines());
    }
}
