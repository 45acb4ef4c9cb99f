//! A client that sees each byte.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Nothing here takes longer unless it is broken.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// One connection and what came over it.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    /// What was read and not yet asked for.
    pub(crate) read: Vec<u8>,
}

// === impl Wire ===

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(address).await.unwrap(),
            read: Vec::new(),
        }
    }

    /// Sends a request for `path` that keeps the connection.
    pub(crate) async fn get(&mut self, path: &str) {
        let head = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
        self.send(head.as_bytes()).await;
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        assert!(self.try_send(bytes).await, "the connection is closed");
    }

    /// False if the other end is gone.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Reads up to and with `text`.
    ///
    /// Panics if the connection ends before.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let text = text.as_bytes();
        loop {
            let found = self.read.windows(text.len()).position(|at| at == text);
            if let Some(at) = found {
                let seen = self.read.drain(..at + text.len()).collect();
                return String::from_utf8(seen).unwrap();
            }
            assert!(self.more().await, "closed after {:?}", self.lossy());
        }
    }

    /// Reads to the end, however it comes.
    pub(crate) async fn rest(mut self) -> String {
        while self.more().await {}
        self.lossy()
    }

    /// Reads at least `length` bytes and takes them.
    pub(crate) async fn bytes(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            assert!(self.more().await, "closed after {:?}", self.read);
        }
        self.read.drain(..length).collect()
    }

    /// False at the end.
    async fn more(&mut self) -> bool {
        let read = timeout(LIMIT, self.stream.read_buf(&mut self.read)).await;
        read.expect("nothing comes").is_ok_and(|read| read > 0)
    }

    fn lossy(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }
}
