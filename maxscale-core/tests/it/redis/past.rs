//! Speaks with servers past the handle.

use maxscale_tests::RedisServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) fn host(url: &str) -> &str {
    url.strip_prefix("redis://").unwrap()
}

/// The last line of an answer that is no error.
pub(crate) async fn tell(server: &RedisServer, command: &str) -> String {
    let answer = all(server, command).await;
    assert!(!answer.starts_with('-'), "{command}: {answer}");
    answer.lines().last().unwrap().to_owned()
}

/// An answer as it is sent, if it is not long.
pub(super) async fn all(server: &RedisServer, command: &str) -> String {
    let mut stream = TcpStream::connect(host(&server.url())).await.unwrap();
    let line = format!("{command}\r\n");
    stream.write_all(line.as_bytes()).await.unwrap();
    let mut answer = vec![0; 16_384];
    let read = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}
