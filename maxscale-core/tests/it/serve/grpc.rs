//! HTTP/2 without TLS: gRPC, and what its clients are told.

use std::time::Duration;

use maxscale_core::serve::{Cause, Server, Serving, Stop};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::Endpoint;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::app::Running;
use super::wire::Wire;

/// The type of a frame that tells the end of a connection.
const GOAWAY: u8 = 7;

/// An HTTP/2 client that has said hello.
async fn hello(running: &Running) -> Wire {
    let mut wire = Wire::connect(running.address).await;
    wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    // Its settings, which are none, and that it has seen the server's.
    wire.send(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    wire.send(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).await;
    wire
}

/// The next frame: its type and what it carries.
async fn frame(wire: &mut Wire) -> (u8, Vec<u8>) {
    let head = wire.bytes(9).await;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let payload = wire.bytes(usize::try_from(length).unwrap()).await;
    (head[3], payload)
}

#[tokio::test]
async fn client_of_http2_is_told_with_goaway() {
    let running = Running::plain().await;
    let mut wire = hello(&running).await;
    // The server's settings: the connection is up.
    assert_eq!(frame(&mut wire).await.0, 4);
    running.stop.ask(Cause::Interrupt);
    let told = loop {
        let (kind, payload) = frame(&mut wire).await;
        if kind == GOAWAY {
            break payload;
        }
    };
    // After the last stream comes the reason: none.
    assert_eq!(told[4..8], [0; 4]);
}

#[tokio::test]
async fn idle_client_of_http2_is_told_with_goaway() {
    // A client that is held up still says hello in that time.
    let limit = Duration::from_secs(2);
    let running = Running::start(|it| it.head_limit(limit).idle_limit(limit), |it| it).await;
    let mut wire = hello(&running).await;
    while frame(&mut wire).await.0 != GOAWAY {}
}

#[tokio::test]
async fn grpc_is_served_and_its_call_is_finished_at_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (reporter, health) = tonic_health::server::health_reporter();
    let server = Server::builder("grpc", listener, Routes::new(health));
    let serving = Serving::builder().server(server.build().unwrap());
    let (serving, stop) = (serving.build().unwrap(), Stop::new());
    let asked = stop.clone();
    let served = tokio::spawn(async move { serving.run(&asked).await });

    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = HealthClient::new(endpoint.connect().await.unwrap());
    client.check(HealthCheckRequest::default()).await.unwrap();
    let mut watched = client.watch(HealthCheckRequest::default()).await.unwrap();
    let seen = watched.get_mut().message().await.unwrap().unwrap();
    assert_eq!(seen.status, 1);

    stop.ask(Cause::Interrupt);
    // The stream runs on, and sees what happens meanwhile.
    let none = "";
    reporter
        .set_service_status(none, ServingStatus::NotServing)
        .await;
    let seen = watched.get_mut().message().await.unwrap().unwrap();
    assert_eq!(seen.status, 2);
    drop(watched);
    let ended = served.await.unwrap();
    assert!(ended.is_clean(), "{ended:?}");
}
