//! A router on a port, and clients that do nothing but write and read.

use std::net::SocketAddr;

use axum::Router;
use maxscale_core::BoxError;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Connections that are kept, each with a request at a time.
pub(crate) const CLIENTS: u32 = 4;

/// A router on a port, until it is dropped. Its requests know their peer.
pub(crate) struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// What is asked, and what has to come.
#[derive(Clone, Copy)]
pub(crate) struct Talk {
    /// The request, as it is written.
    pub(crate) request: &'static str,
    /// How many bytes the answer's body has.
    pub(crate) body: usize,
    /// What stands in the answer's head.
    pub(crate) mark: &'static str,
}

// === impl Server ===

impl Server {
    pub(crate) async fn start(router: Router) -> Result<Self, BoxError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, service).await {
                eprintln!("the server ended: {error}");
            }
        });
        Ok(Self { address, task })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Talk ===

impl Talk {
    /// `count` requests over connections that are kept.
    pub(crate) async fn ask_all(self, address: SocketAddr, count: u32) -> Result<(), BoxError> {
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS.min(count) {
            clients.spawn(self.ask(address, count.div_ceil(CLIENTS)));
        }
        while let Some(done) = clients.join_next().await {
            done??;
        }
        Ok(())
    }

    async fn ask(self, address: SocketAddr, count: u32) -> Result<(), BoxError> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut answer = Vec::with_capacity(1_024 + 2 * self.body);
        for _ in 0..count {
            stream.write_all(self.request.as_bytes()).await?;
            answer.clear();
            let head = loop {
                if stream.read_buf(&mut answer).await? == 0 {
                    return Err("the connection ended".into());
                }
                let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
                if let Some(end) = end.filter(|end| answer.len() >= end + 4 + self.body) {
                    break std::str::from_utf8(&answer[..end])?;
                }
            };
            if !head.starts_with("HTTP/1.1 200") || !head.contains(self.mark) {
                return Err(format!("another answer: {head}").into());
            }
        }
        Ok(())
    }
}
