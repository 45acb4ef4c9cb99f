use std::time::Duration;

use maxscale_tests::RedisServer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What the server answers to one inline command.
pub(crate) async fn ask(url: &str, command: &str) -> std::io::Result<String> {
    let address = url.strip_prefix("redis://").unwrap();
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(format!("{command}\r\n").as_bytes())
        .await?;
    let mut answer = vec![0; 1024];
    let read = stream.read(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer[..read]).trim().to_owned())
}

#[tokio::test]
async fn the_shared_server_answers_ping() {
    let server = RedisServer::shared().await;

    assert_eq!(ask(&server.url(), "PING").await.unwrap(), "+PONG");
}

#[tokio::test]
async fn two_prefixes_differ() {
    let server = RedisServer::shared().await;

    assert_ne!(*server.prefix(), *server.prefix());
}

#[tokio::test]
async fn a_killed_server_restarts_on_its_port_with_what_it_acknowledged() {
    let server = RedisServer::start().await;
    ask(&server.url(), "SET key 42").await.unwrap();

    server.kill().await;
    assert!(ask(&server.url(), "PING").await.is_err());
    server.restart().await;

    assert_eq!(ask(&server.url(), "GET key").await.unwrap(), "$2\r\n42");
}

#[tokio::test]
async fn a_server_can_come_back_empty() {
    let server = RedisServer::start().await;
    ask(&server.url(), "SET key 42").await.unwrap();

    server.restart_empty().await;

    assert_eq!(ask(&server.url(), "GET key").await.unwrap(), "$-1");
}

#[tokio::test]
async fn a_paused_server_answers_nothing_until_it_is_resumed() {
    let server = RedisServer::start().await;
    let url = server.url();

    server.pause();
    let silent = tokio::time::timeout(Duration::from_millis(300), ask(&url, "PING")).await;
    assert!(silent.is_err());
    server.resume();

    assert_eq!(ask(&url, "PING").await.unwrap(), "+PONG");
}
