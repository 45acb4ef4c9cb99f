//! A program that is told to end, with every kind of client connected to it.

use std::time::Duration;

use axum::Router;
use maxscale_core::clock::Clock;
use maxscale_core::health::{self, Health};
use maxscale_core::serve::{Server, Serving, ServingBuilder, Stop};
use maxscale_tests::{Lateness, Process, eventually};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

use super::app::app;
use super::wire::{LIMIT, Wire};

/// How long the program serves when nobody tells it to end.
const LONGEST: Duration = Duration::from_secs(120);

/// So long that it is seen while it lasts.
const WAIT: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the program that other tests start"]
async fn program_that_serves() {
    program(|serving| serving.wait(WAIT)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the program that other tests start"]
async fn program_that_is_in_a_hurry() {
    let second = Duration::from_secs(1);
    program(|serving| serving.wait(second).budget(4 * second).reserve(second)).await;
}

async fn program(settings: impl FnOnce(ServingBuilder) -> ServingBuilder) {
    let stop = Stop::new();
    stop.on_signals().unwrap();
    let health = Health::new(Clock::system(), "1.2.3");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("listening {}", listener.local_addr().unwrap());
    let router: Router = app().merge(health::probes(health.clone()));
    let server = Server::builder("main", listener, router).build().unwrap();
    let serving = Serving::builder().server(server);
    let serving = settings(serving).not_ready(move || health.set_draining());
    let ended = timeout(LONGEST, serving.build().unwrap().run(&stop)).await;
    println!("{:?}", ended.expect("nobody tells the program to end"));
}

/// Starts the test of that name as a program, and gives its address.
async fn start(name: &str) -> (Process, std::net::SocketAddr) {
    let this = std::env::current_exe().unwrap();
    let name = format!("serve::process::{name}");
    let process = Process::builder(this)
        .args(["--exact", &name, "--ignored", "--nocapture"])
        .start();
    let line = process.wait_for_line("listening ", LIMIT).await;
    let address = line.rsplit(' ').next().unwrap().parse().unwrap();
    (process, address)
}

#[tokio::test]
async fn sigterm_ends_every_kind_of_connection_in_its_own_way() {
    ends_well(2 * WAIT).await;
}

#[tokio::test]
#[ignore = "a request takes ten seconds; CONTRIBUTING.md has the command"]
async fn sigterm_lets_a_request_of_ten_seconds_end() {
    ends_well(Duration::from_secs(10)).await;
}

async fn ends_well(slowest: Duration) {
    let (process, address) = start("program_that_serves").await;
    let mut idle = Wire::connect(address).await;
    idle.get("/readyz").await;
    idle.until("ready\n").await;
    let mut events = Wire::connect(address).await;
    events.get("/events").await;
    events.until("data: first").await;
    let mut socket = Wire::connect(address).await;
    let upgrade = "GET /upgrade HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\n\
                   upgrade: websocket\r\n\r\n";
    socket.send(upgrade.as_bytes()).await;
    socket.until("\r\n\r\n").await;
    let mut slow = Wire::connect(address).await;
    slow.get(&format!("/slow/{}", slowest.as_millis())).await;
    // It is asked for before the signal, which the socket's echo shows.
    socket.send(b"echo").await;
    socket.until("echo").await;

    process.terminate();
    let (start, late) = (Instant::now(), Lateness::watch());
    eventually(WAIT, async || {
        let mut asked = Wire::connect(address).await;
        asked.get("/readyz").await;
        asked.until("\r\n").await.contains("503")
    })
    .await;
    eprintln!("not ready {:?} after SIGTERM", start.elapsed());
    assert_eq!(idle.rest().await, "");
    assert!(events.rest().await.contains("data: last"));
    assert_eq!(socket.rest().await, "bye");
    let answer = slow.rest().await;
    assert!(answer.ends_with("done\n"), "{answer}");
    let status = process.wait(LIMIT).await;
    eprintln!("ended {:?} after SIGTERM", start.elapsed());
    assert!(status.success(), "{:?}", process.lines());
    let told = process.wait_for_line("Ended", LIMIT).await;
    assert!(
        told.contains("cut_connections: 0, cut_requests: 0"),
        "{told}"
    );
    let took = start.elapsed();
    let most = slowest + Duration::from_secs(5) + late.total();
    assert!(took < most, "{took:?}, {late:?}");
}

#[tokio::test]
async fn client_that_was_stopped_does_not_hold_up_the_end() {
    let (process, address) = start("program_that_is_in_a_hurry").await;
    let ask = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{}; \
         printf 'GET /flood HTTP/1.1\\r\\nhost: test\\r\\n\\r\\n' >&3; \
         read -r line <&3; echo \"$line\"; kill -STOP $$",
        address.port()
    );
    let client = Process::builder("bash").args(["-c", &ask]).start();
    client.wait_for_line("200 OK", LIMIT).await;

    process.terminate();
    let (start, late) = (Instant::now(), Lateness::watch());
    let status = process.wait(LIMIT).await;
    let took = start.elapsed();
    assert!(status.success(), "{:?}", process.lines());
    let most = Duration::from_secs(4 + 1) + late.total();
    assert!(took < most, "{took:?}, {late:?}");
    let told = process.wait_for_line("Ended", LIMIT).await;
    assert!(
        told.contains("cut_connections: 1, cut_requests: 1"),
        "{told}"
    );
    client.kill();
}
