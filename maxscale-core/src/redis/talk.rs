//! A connection that is one caller's while he asks and reads the answers himself.
//!
//! The driver's connection is everybody's, and a queue, a task of its own and two
//! wake-ups cost more than a read does. Whoever has many reads writes them in one go
//! here, and is woken when answers are there. A connection on which anything goes wrong,
//! or whose caller gives up, is closed: what would be read next is not known then.

use std::fmt;
use std::io;

use bytes::{BufMut as _, BytesMut};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::address::Address;
use super::command::Command;
use super::config::RedisConfig;
use super::{Arg, RedisError, Reply};

/// How much is made room for at a time, in bytes.
const ROOM: usize = 16 * 1_024;

pub(super) struct Talk {
    stream: Box<dyn Stream>,
    /// What is written, and then what was read and not taken yet.
    buffer: BytesMut,
}

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

// === impl Talk ===

impl Talk {
    /// Connects, and says who it is.
    pub(super) async fn open(config: &RedisConfig, address: &Address) -> Result<Self, RedisError> {
        let mut talk = Self {
            stream: dial(config, address).await.map_err(failed)?,
            buffer: BytesMut::new(),
        };
        let server = &config.server;
        if let Some(password) = &server.password {
            let name = server.username.as_deref();
            let login = Command::new("AUTH").args(name).arg(password.as_str());
            talk.ask_one(login).await?;
        }
        if let Some(database) = server.database {
            let select = Command::new("SELECT").arg(i64::from(database));
            talk.ask_one(select).await?;
        }
        Ok(talk)
    }

    pub(super) async fn ask_one(&mut self, command: Command) -> Result<Reply, RedisError> {
        let name = command.name;
        let mut answers = self.ask(&[command]).await?;
        answers
            .pop()
            .unwrap_or(Err(RedisError::Reply { command: name }))
    }

    /// Asks all of them and then waits, for as many answers.
    pub(super) async fn ask(
        &mut self,
        commands: &[Command],
    ) -> Result<Vec<Result<Reply, RedisError>>, RedisError> {
        self.buffer.clear();
        for command in commands {
            write(&mut self.buffer, command);
        }
        let written = self.stream.write_all(&self.buffer).await;
        written.map_err(failed)?;
        self.buffer.clear();
        let mut answers = Vec::with_capacity(commands.len());
        while answers.len() < commands.len() {
            match decode_bytes_mut(&mut self.buffer).map_err(failed)? {
                Some((frame, ..)) => answers.push(reply(frame)),
                None => self.read().await.map_err(failed)?,
            }
        }
        Ok(answers)
    }

    async fn read(&mut self) -> io::Result<()> {
        self.buffer.reserve(ROOM);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Talk").finish_non_exhaustive()
    }
}

async fn dial(config: &RedisConfig, address: &Address) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((&*address.host, address.port)).await?;
    stream.set_nodelay(true)?;
    #[cfg(feature = "redis-tls")]
    if let Some(tls) = &config.server.tls {
        let fred::types::config::TlsConnector::Rustls(tls) = &tls.connector;
        let host = address.host.to_string();
        let host = rustls::pki_types::ServerName::try_from(host).map_err(io::Error::other)?;
        return Ok(Box::new(tls.connect(host, stream).await?));
    }
    #[cfg(not(feature = "redis-tls"))]
    let _ = config;
    Ok(Box::new(stream))
}

/// Writes a command as it goes over the wire: the number of its words, and each with its
/// length. The codec would have it as frames first.
fn write(buffer: &mut BytesMut, command: &Command) {
    write_number(buffer, b'*', command.args.len() + 1);
    write_word(buffer, command.name.as_bytes());
    for arg in &command.args {
        match arg {
            Arg::Int(_) => write_word(buffer, &arg.bytes()),
            Arg::Bytes(bytes) => write_word(buffer, bytes),
            Arg::Text(text) => write_word(buffer, text.as_bytes()),
        }
    }
}

fn write_word(buffer: &mut BytesMut, word: &[u8]) {
    write_number(buffer, b'$', word.len());
    buffer.extend_from_slice(word);
    buffer.extend_from_slice(b"\r\n");
}

fn write_number(buffer: &mut BytesMut, kind: u8, number: usize) {
    buffer.put_u8(kind);
    buffer.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    buffer.extend_from_slice(b"\r\n");
}

fn reply(frame: BytesFrame) -> Result<Reply, RedisError> {
    Ok(match frame {
        BytesFrame::Error(message) => return Err(RedisError::from_words(&message)),
        BytesFrame::SimpleString(bytes) | BytesFrame::BulkString(bytes) => Reply::Bytes(bytes),
        BytesFrame::Integer(number) => Reply::Int(number),
        BytesFrame::Null => Reply::Nil,
        // An error in the midst of values is none of them.
        BytesFrame::Array(frames) => {
            let replies = frames.into_iter().map(|it| reply(it).unwrap_or(Reply::Nil));
            Reply::Array(replies.collect())
        }
    })
}

fn failed(source: impl Into<crate::BoxError>) -> RedisError {
    RedisError::Io {
        source: source.into(),
    }
}
