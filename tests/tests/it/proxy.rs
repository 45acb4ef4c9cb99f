//! A client, a proxy and a server that the test plays itself.

use std::{io::ErrorKind, time::Duration};

use maxscale_tests::{Cut, Lateness, Proxy, RedisServer, Way, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

const LIMIT: Duration = Duration::from_secs(60);
/// Long enough to see that nothing comes.
const QUIET: Duration = Duration::from_millis(100);

/// A proxy with one connection, and both its ends.
struct Line {
    proxy: Proxy,
    listener: TcpListener,
    client: TcpStream,
    server: TcpStream,
}

async fn line() -> Line {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let proxy = Proxy::start(target).await;
    let (client, server) = connect(&proxy, &listener).await;
    Line {
        proxy,
        listener,
        client,
        server,
    }
}

async fn connect(proxy: &Proxy, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(proxy.address()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    // The system accepts for us, before the proxy knows.
    eventually(LIMIT, async || proxy.open_connections() == 1).await;
    (client, server)
}

/// Sends bytes and waits until all of them have come.
async fn pass(from: &mut TcpStream, to: &mut TcpStream, bytes: usize) {
    from.write_all(&vec![7; bytes]).await.unwrap();
    let mut got = vec![0; bytes];
    timeout(LIMIT, to.read_exact(&mut got))
        .await
        .unwrap()
        .unwrap();
    assert!(got.iter().all(|byte| *byte == 7));
}

/// The next byte, or none at the end.
async fn next(stream: &mut TcpStream) -> std::io::Result<Option<u8>> {
    let mut byte = [0];
    let read = timeout(LIMIT, stream.read(&mut byte)).await.unwrap()?;
    Ok((read == 1).then_some(byte[0]))
}

async fn quiet(stream: &mut TcpStream) -> bool {
    timeout(QUIET, next(stream)).await.is_err()
}

#[tokio::test]
async fn a_client_talks_to_a_server_through_the_proxys_url() {
    let redis = RedisServer::shared().await;
    let proxy = Proxy::start(redis.url()).await;

    let said = crate::redis::ask(&proxy.url(), "PING").await.unwrap();

    assert_eq!(said, "+PONG");
}

#[tokio::test]
async fn connections_and_bytes_are_counted() {
    let mut line = line().await;

    pass(&mut line.client, &mut line.server, 5).await;
    pass(&mut line.server, &mut line.client, 100_000).await;

    assert_eq!(line.proxy.connections(), 1);
    assert_eq!(line.proxy.open_connections(), 1);
    // Counted just after they were written.
    eventually(LIMIT, async || {
        line.proxy.bytes(Way::ToServer) == 5 && line.proxy.bytes(Way::ToClient) == 100_000
    })
    .await;
}

#[tokio::test]
async fn an_end_is_passed_on_while_the_other_direction_goes_on() {
    let mut line = line().await;

    line.client.shutdown().await.unwrap();
    assert_eq!(next(&mut line.server).await.unwrap(), None);
    pass(&mut line.server, &mut line.client, 5).await;
    drop(line.server);

    assert_eq!(next(&mut line.client).await.unwrap(), None);
    eventually(LIMIT, async || line.proxy.open_connections() == 0).await;
}

#[tokio::test]
async fn a_reset_is_an_error_on_both_sides() {
    let mut line = line().await;

    line.proxy.cut(Cut::Reset).await;

    assert_eq!(line.proxy.open_connections(), 0);
    for end in [&mut line.client, &mut line.server] {
        let error = next(end).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_close_is_an_end_on_both_sides_even_with_bytes_under_way() {
    let mut line = line().await;
    line.proxy.black_hole(Way::ToServer);
    line.client.write_all(&[7; 100_000]).await.unwrap();

    line.proxy.cut(Cut::Close).await;

    assert_eq!(line.proxy.open_connections(), 0);
    for end in [&mut line.client, &mut line.server] {
        assert_eq!(next(end).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_cut_ends_the_connections_of_now_and_not_later_ones() {
    let mut line = line().await;
    line.proxy.cut(Cut::Reset).await;

    let (mut client, mut server) = connect(&line.proxy, &line.listener).await;

    pass(&mut client, &mut server, 5).await;
    assert!(next(&mut line.client).await.is_err());
}

#[tokio::test]
async fn refused_clients_find_nobody_listening_until_it_is_healed() {
    let mut line = line().await;

    line.proxy.refuse().await;
    let refused = TcpStream::connect(line.proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    pass(&mut line.client, &mut line.server, 5).await;
    line.proxy.heal().await;

    line.proxy.cut(Cut::Reset).await;
    let (mut client, mut server) = connect(&line.proxy, &line.listener).await;
    pass(&mut client, &mut server, 5).await;
}

#[tokio::test]
async fn a_delay_is_added_each_way_and_holds_up_no_more_than_that() {
    let mut line = line().await;
    let latency = Duration::from_millis(100);
    line.proxy.delay(latency);

    let start = Instant::now();
    pass(&mut line.client, &mut line.server, 5).await;
    pass(&mut line.server, &mut line.client, 5).await;
    assert!(start.elapsed() >= latency * 2);

    // Many pieces wait side by side, not one after the other.
    let (start, late) = (Instant::now(), Lateness::watch());
    pass(&mut line.client, &mut line.server, 2_000_000).await;
    let took = start.elapsed();
    assert!(took < latency * 40 + late.total(), "{took:?}, {late:?}");
}

#[tokio::test]
async fn what_a_long_delay_holds_comes_when_it_is_healed() {
    let mut line = line().await;
    line.proxy.delay(Duration::from_secs(3600));
    line.client.write_all(b"7").await.unwrap();
    assert!(quiet(&mut line.server).await);

    line.proxy.heal().await;

    assert_eq!(next(&mut line.server).await.unwrap(), Some(b'7'));
}

#[tokio::test]
async fn a_throttle_lets_so_many_bytes_through_in_a_second() {
    let mut line = line().await;
    line.proxy.throttle(40_000);

    let start = Instant::now();
    pass(&mut line.client, &mut line.server, 20_000).await;

    // The last piece is not waited for.
    assert!(start.elapsed() >= Duration::from_millis(450));
}

#[tokio::test]
async fn a_black_hole_swallows_one_direction_and_delivers_when_healed() {
    for way in [Way::ToServer, Way::ToClient] {
        let line = line().await;
        let (mut from, mut to) = match way {
            Way::ToServer => (line.client, line.server),
            _ => (line.server, line.client),
        };
        line.proxy.black_hole(way);

        from.write_all(b"7").await.unwrap();
        assert!(quiet(&mut to).await);
        pass(&mut to, &mut from, 5).await;
        line.proxy.heal().await;

        assert_eq!(next(&mut to).await.unwrap(), Some(b'7'));
    }
}

#[tokio::test]
async fn a_black_hole_accepts_connections() {
    let line = line().await;
    line.proxy.cut(Cut::Reset).await;
    line.proxy.black_hole(Way::ToServer);
    line.proxy.black_hole(Way::ToClient);

    let (mut client, mut server) = connect(&line.proxy, &line.listener).await;
    client.write_all(b"7").await.unwrap();
    server.write_all(b"7").await.unwrap();

    assert!(quiet(&mut client).await && quiet(&mut server).await);
}

#[tokio::test]
async fn one_reply_is_dropped_and_the_server_has_done_what_was_asked() {
    let redis = RedisServer::shared().await;
    let prefix = redis.prefix();
    let proxy = Proxy::start(redis.url()).await;
    let command = format!("INCR {prefix}key");

    proxy.drop_reply();
    let lost = crate::redis::ask(&proxy.url(), &command).await;

    assert_eq!(lost.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(proxy.dropped_replies(), 1);
    let said = crate::redis::ask(&proxy.url(), &command).await.unwrap();
    assert_eq!(said, ":2");
}

#[tokio::test]
async fn a_dropped_proxy_ends_its_connections_and_listens_no_more() {
    let mut line = line().await;
    let address = line.proxy.address();

    drop(line.proxy);

    assert!(next(&mut line.client).await.is_err());
    eventually(LIMIT, async || TcpStream::connect(address).await.is_err()).await;
}

#[tokio::test]
async fn a_target_that_does_not_listen_resets_the_client() {
    let target = format!("127.0.0.1:{}", maxscale_tests::free_port());
    let proxy = Proxy::start(target).await;

    let mut client = TcpStream::connect(proxy.address()).await.unwrap();

    let error = next(&mut client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}
