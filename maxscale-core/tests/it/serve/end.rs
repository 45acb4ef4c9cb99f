//! How a server ends, phase by phase.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use maxscale_core::serve::{Cause, ServeError, Server, Serving, Stop};
use maxscale_tests::{Lateness, eventually};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::app::Running;
use super::wire::{LIMIT, Wire};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn request_that_was_begun_is_finished_and_told_that_the_connection_closes() {
    let running = Running::plain().await;
    let mut idle = Wire::connect(running.address).await;
    idle.get("/").await;
    idle.until("here\n").await;
    let mut slow = Wire::connect(running.address).await;
    slow.get("/slow/500").await;
    running.begun(2).await;
    assert_eq!(running.connections.open(), 2);

    running.stop.ask(Cause::Terminate);
    assert_eq!(idle.rest().await, "");
    eventually(LIMIT, async || {
        TcpStream::connect(running.address).await.is_err()
    })
    .await;
    let answer = slow.rest().await;
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(answer.ends_with("done\n"), "{answer}");
    let ended = running.ended().await;
    assert!(ended.is_clean(), "{ended:?}");
}

#[tokio::test]
async fn streams_that_listen_are_told_and_end_themselves() {
    let running = Running::plain().await;
    let mut events = Wire::connect(running.address).await;
    events.get("/events").await;
    events.until("data: first").await;
    let mut socket = Wire::connect(running.address).await;
    let upgrade = "GET /upgrade HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\n\
                   upgrade: websocket\r\n\r\n";
    socket.send(upgrade.as_bytes()).await;
    socket.until("\r\n\r\n").await;
    socket.send(b"echo").await;
    socket.until("echo").await;

    running.stop.ask(Cause::Terminate);
    assert!(events.rest().await.contains("data: last"));
    assert_eq!(socket.rest().await, "bye");
    let ended = running.ended().await;
    assert!(ended.is_clean(), "{ended:?}");
}

#[tokio::test]
async fn what_does_not_end_is_cut_within_the_budget_and_told() {
    let running = Running::start(
        |server| server,
        |serving| serving.budget(6 * SECOND).reserve(4 * SECOND),
    )
    .await;
    let mut stuck = Wire::connect(running.address).await;
    stuck.get("/stuck").await;
    let mut deaf = Wire::connect(running.address).await;
    deaf.get("/deaf").await;
    deaf.until("data: first").await;
    let mut flood = Wire::connect(running.address).await;
    flood.get("/flood").await;
    flood.until("\r\n\r\n").await;
    running.begun(3).await;
    assert_eq!(running.connections.open(), 3);

    running.stop.ask(Cause::Interrupt);
    let connections = running.connections.clone();
    let ended = running.ended().await;
    assert_eq!((ended.cut_connections, ended.cut_requests), (3, 3));
    let budget = 2 * SECOND..6 * SECOND;
    assert!(budget.contains(&ended.took), "{ended:?}");
    assert_eq!(connections.open(), 0);
    assert_eq!(stuck.rest().await, "");
}

#[tokio::test]
async fn upgraded_connection_that_does_not_listen_is_cut() {
    let running = Running::start(
        |server| server,
        |serving| serving.budget(SECOND).reserve(SECOND / 2),
    )
    .await;
    let mut socket = Wire::connect(running.address).await;
    let upgrade = "GET /upgrade-deaf HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\n\
                   upgrade: websocket\r\n\r\n";
    socket.send(upgrade.as_bytes()).await;
    socket.until("\r\n\r\n").await;
    let connections = running.connections.clone();
    running.stop.ask(Cause::Interrupt);
    let ended = running.ended().await;
    assert_eq!((ended.cut_connections, ended.cut_requests), (1, 0));
    assert_eq!(socket.rest().await, "");
    eventually(LIMIT, async || connections.open() == 0).await;
}

#[tokio::test]
async fn asked_twice_it_ends_at_once() {
    let running = Running::plain().await;
    let mut stuck = Wire::connect(running.address).await;
    stuck.get("/stuck").await;
    running.begun(1).await;
    running.stop.ask(Cause::Terminate);
    eventually(LIMIT, async || {
        TcpStream::connect(running.address).await.is_err()
    })
    .await;
    running.stop.ask(Cause::Terminate);
    let (start, late) = (Instant::now(), Lateness::watch());
    let ended = running.ended().await;
    let took = start.elapsed();
    assert!(
        took < SECOND + late.total(),
        "{took:?}, {late:?}, {ended:?}"
    );
    assert!(ended.at_once);
    assert_eq!(stuck.rest().await, "");
}

/// Who is held up still comes in that time.
const WAIT: Duration = Duration::from_secs(4);

#[tokio::test]
async fn after_sigterm_connections_are_accepted_for_the_wait_and_after_sigint_not() {
    for (cause, accepted) in [(Cause::Terminate, true), (Cause::Interrupt, false)] {
        let (tell, told) = oneshot::channel();
        let running = Running::start(
            |server| server,
            |serving| serving.wait(WAIT).not_ready(|| tell.send(()).unwrap()),
        )
        .await;
        running.stop.ask(cause);
        timeout(LIMIT, told).await.unwrap().unwrap();
        let address = running.address;
        let late = tokio::spawn(async move {
            let mut late = Wire::connect(address).await;
            late.get("/").await;
            late.until("here\n").await;
        });
        let ended = running.ended().await;
        assert_eq!(late.await.is_ok(), accepted, "{cause:?}");
        assert_eq!(ended.took >= WAIT, accepted, "{ended:?}");
    }
}

/// Notes the phases as they come.
fn noting(
    notes: &Arc<Mutex<Vec<&'static str>>>,
    note: &'static str,
) -> impl FnOnce() + Send + use<> {
    let notes = notes.clone();
    move || notes.lock().unwrap().push(note)
}

#[tokio::test]
async fn phases_come_one_after_the_other_and_the_last_server_answers_through_them() {
    let notes = Arc::<Mutex<Vec<_>>>::default();
    let note = |name| noting(&notes, name);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = listener.local_addr().unwrap();
    let seen = Router::new().route("/seen", get(async || "seen\n"));
    let last = Server::builder("admin", listener, seen).build().unwrap();
    let (not_ready, stop, hand_back) = (note("not ready"), note("stop"), note("hand back"));
    let flush = note("flush");
    let answered = notes.clone();
    let slow = get(async move || {
        sleep(SECOND / 2).await;
        noting(&answered, "answered")();
        "done\n"
    });
    let running = Running::of(
        Router::new().route("/slow", slow),
        |server| server,
        |serving| {
            serving
                .last(last)
                .not_ready(not_ready)
                .on_stop("jobs", async |_| stop())
                .on_hand_back("leases", async { hand_back() })
                .on_flush("spans", async move {
                    let mut wire = Wire::connect(admin).await;
                    wire.get("/seen").await;
                    wire.until("seen\n").await;
                    flush();
                })
        },
    )
    .await;
    let mut slow = Wire::connect(running.address).await;
    slow.get("/slow").await;
    running.begun(1).await;
    running.stop.ask(Cause::Terminate);
    slow.until("done\n").await;
    let ended = running.ended().await;
    assert!(ended.is_clean(), "{ended:?}");
    let order = ["not ready", "stop", "answered", "hand back", "flush"];
    assert_eq!(*notes.lock().unwrap(), order);
    assert!(TcpStream::connect(admin).await.is_err());
}

#[tokio::test]
async fn hooks_that_hang_or_panic_are_named_and_hold_up_nothing_beyond_the_budget() {
    let running = Running::start(
        |server| server,
        |serving| {
            serving
                .budget(4 * SECOND)
                .reserve(2 * SECOND)
                .on_stop("jobs", |_| std::future::pending())
                .on_hand_back("leases", async { panic!("a defect in the hook") })
                .on_hand_back("tokens", async {})
                .on_flush("spans", std::future::pending())
        },
    )
    .await;
    running.stop.ask(Cause::Interrupt);
    let ended = running.ended().await;
    assert_eq!(ended.unfinished, ["jobs", "leases", "spans"]);
    assert!(ended.took < 6 * SECOND, "{ended:?}");
}

#[tokio::test]
async fn values_that_cannot_be_are_refused_by_the_name_of_their_setter() {
    let listener = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let builder = async || Server::builder("main", listener().await, Router::new());
    for (refused, wanted) in [
        (
            builder().await.head_limit(Duration::ZERO).build().err(),
            "head_limit",
        ),
        (
            builder().await.idle_limit(Duration::MAX).build().err(),
            "idle_limit",
        ),
        (builder().await.connections(0).build().err(), "connections"),
        (
            Serving::builder()
                .budget(Duration::ZERO)
                .reserve(Duration::ZERO)
                .build()
                .err(),
            "budget",
        ),
        (Serving::builder().wait(26 * SECOND).build().err(), "wait"),
    ] {
        let Some(ServeError::Bounds { field }) = refused else {
            panic!("{wanted} passes: {refused:?}");
        };
        assert_eq!(field, wanted);
    }
}

#[tokio::test]
async fn end_that_was_asked_for_before_the_start_is_an_end() {
    let stop = Stop::new();
    stop.ask(Cause::Interrupt);
    let serving = Serving::builder().build().unwrap();
    let ended = timeout(LIMIT, serving.run(&stop)).await.unwrap();
    assert!(ended.is_clean(), "{ended:?}");
}
