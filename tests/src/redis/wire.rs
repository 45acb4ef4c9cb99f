//! Just enough of Redis' protocol to see that a server is there.

use std::fmt::Display;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

#[derive(Debug)]
pub(super) struct Client {
    stream: BufReader<TcpStream>,
}

#[derive(Debug)]
pub(super) enum Reply {
    Nil,
    Text(String),
    Many(Vec<Self>),
}

// === impl Client ===

impl Client {
    /// Connects to `redis://[user:password@]host[:port][/database]`.
    pub(super) async fn connect(url: &str) -> Result<Self, String> {
        let rest = url
            .strip_prefix("redis://")
            .ok_or("the harness speaks redis:// only, without TLS")?;
        let rest = rest.split('?').next().unwrap_or_default();
        let (login, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (address, database) = rest.split_once('/').unwrap_or((rest, ""));
        let address = if address.contains(':') {
            address.to_owned()
        } else {
            format!("{address}:6379")
        };
        let stream = TcpStream::connect(&address)
            .await
            .map_err(|error| format!("{address}: {error}"))?;
        let mut client = Self {
            stream: BufReader::new(stream),
        };
        match login.split_once(':') {
            Some(("", password)) => drop(client.command(&["AUTH", password]).await?),
            Some((user, password)) => drop(client.command(&["AUTH", user, password]).await?),
            None => {}
        }
        if !database.is_empty() {
            client.command(&["SELECT", database]).await?;
        }
        Ok(client)
    }

    /// Sends one command; a refusal is an error.
    pub(super) async fn command(&mut self, words: &[&str]) -> Result<Reply, String> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.stream
            .write_all(request.as_bytes())
            .await
            .map_err(text)?;
        self.reply().await
    }

    /// Reads what the server says next.
    pub(super) async fn reply(&mut self) -> Result<Reply, String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.map_err(text)?;
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).ok_or("the server hung up")?;
        match kind {
            "+" | ":" => Ok(Reply::Text(rest.to_owned())),
            "-" => Err(rest.to_owned()),
            "$" => {
                let Ok(length) = rest.parse::<usize>() else {
                    return Ok(Reply::Nil);
                };
                let mut data = vec![0; length + 2];
                self.stream.read_exact(&mut data).await.map_err(text)?;
                data.truncate(length);
                Ok(Reply::Text(String::from_utf8_lossy(&data).into_owned()))
            }
            "*" => {
                let count = rest.parse::<usize>().map_err(text)?;
                let mut many = Vec::with_capacity(count);
                for _ in 0..count {
                    many.push(Box::pin(self.reply()).await?);
                }
                Ok(Reply::Many(many))
            }
            _ => Err(format!("not a reply: {line}")),
        }
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}
