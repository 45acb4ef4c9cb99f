//! HTTP/1.1 by hand, to see each byte that did or did not come.

use std::io;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// A connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
}

/// How a request ended for its sender.
#[derive(Debug)]
pub(crate) enum End {
    /// A whole answer.
    Answer(Reply),
    /// The connection ended without a byte.
    Nothing(io::Error),
    /// The connection ended in the middle of an answer.
    Torn(Vec<u8>),
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// As received, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// What is sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    /// Names the request in the platform's log.
    pub(crate) id: &'a str,
    pub(crate) cookie: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) length: usize,
}

// === impl Head ===

impl Head<'_> {
    /// The head as it is sent, with the empty line at its end.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let Self {
            method,
            path,
            id,
            cookie,
            kind,
            length,
        } = self;
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nx-request-id: {id}\r\n");
        for (name, value) in [("cookie", cookie), ("content-type", kind)] {
            if !value.is_empty() {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        text.push_str(&format!("content-length: {length}\r\n\r\n"));
        text.into_bytes()
    }
}

// === impl Wire ===

impl Wire {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::wrap(TcpStream::connect(address).await?)
    }

    /// Connects with little room for what was received and is not read yet.
    pub(crate) async fn connect_narrow(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4_096)?;
        Self::wrap(socket.connect(address).await?)
    }

    fn wrap(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: Vec::new(),
        })
    }

    /// Sends bytes. Whether they arrived is for the answer to tell.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends a whole request and reads its answer.
    pub(crate) async fn exchange(&mut self, head: &Head<'_>, body: &[u8]) -> End {
        let mut bytes = head.bytes();
        bytes.extend(body);
        // An answer may be there although the connection was closed meanwhile.
        let sent = self.send(&bytes).await;
        match (self.answer().await, sent) {
            (End::Nothing(_), Err(error)) => End::Nothing(error),
            (end, _) => end,
        }
    }

    /// Reads an answer.
    pub(crate) async fn answer(&mut self) -> End {
        loop {
            if let Some(reply) = self.reply() {
                return End::Answer(reply);
            }
            match self.read(64 * 1024).await {
                Ok(0) if self.received.is_empty() => {
                    return End::Nothing(io::ErrorKind::UnexpectedEof.into());
                }
                Err(error) if self.received.is_empty() => return End::Nothing(error),
                Ok(0) | Err(_) => return End::Torn(std::mem::take(&mut self.received)),
                Ok(_) => {}
            }
        }
    }

    /// Takes what is received up to the end of `text`, as long as it takes; None if
    /// the connection ends before.
    pub(crate) async fn until(&mut self, text: &str) -> Option<String> {
        let text = text.as_bytes();
        loop {
            let found = self.received.windows(text.len()).position(|w| w == text);
            if let Some(at) = found {
                let whole: Vec<u8> = self.received.drain(..at + text.len()).collect();
                return Some(String::from_utf8_lossy(&whole).into_owned());
            }
            match self.read(4_096).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Takes what is received up to the connection's end.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.read(4_096).await.is_ok_and(|count| count > 0) {}
        std::mem::take(&mut self.received)
    }

    /// Reads once, up to `most` bytes; 0 is the connection's end.
    pub(crate) async fn read(&mut self, most: usize) -> io::Result<usize> {
        let mut piece = vec![0; most];
        let count = self.stream.read(&mut piece).await?;
        self.received.extend(&piece[..count]);
        Ok(count)
    }

    /// The answer, once it is whole.
    fn reply(&mut self) -> Option<Reply> {
        let end = self
            .received
            .windows(4)
            .position(|four| four == b"\r\n\r\n")?
            + 4;
        let head = String::from_utf8(self.received[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut reply = Reply {
            status,
            headers,
            body: Vec::new(),
        };
        let length = reply.header("content-length");
        let length: usize = length.map_or(0, |text| text.parse().unwrap());
        if self.received.len() < end + length {
            return None;
        }
        reply.body = self.received[end..end + length].to_vec();
        self.received.drain(..end + length);
        Some(reply)
    }
}

// === impl Reply ===

impl Reply {
    /// The first header of this name, which is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name)?;
        Some(&found.1)
    }

    /// Whether the platform said that it closes the connection.
    pub(crate) fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }

    /// The text at `pointer` in the JSON body.
    pub(crate) fn text(&self, pointer: &str) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        let text = body.pointer(pointer).and_then(Value::as_str);
        text.unwrap_or_else(|| panic!("no {pointer} in {body}"))
            .to_owned()
    }
}
