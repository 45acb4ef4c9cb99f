//! One connection that speaks memcached's text protocol.
//!
//! Whatever a server says that was not expected is an error, after which the
//! connection is of no use: what would come next may belong to this answer.

use std::io::{Error, ErrorKind, Result};

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::io::{AsyncWriteExt as _, BufReader};

/// The longest line of an answer: a name of up to 250 bytes and three numbers.
const LINE: u64 = 512;

#[derive(Debug)]
pub(super) struct Wire<S>(BufReader<S>);

// === impl Wire ===

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    /// What is under `name`, of at most so many bytes.
    pub(super) async fn get(&mut self, name: &str, most: usize) -> Result<Option<Bytes>> {
        self.send(format!("get {name}\r\n").as_bytes()).await?;
        let line = self.line().await?;
        let words: Vec<_> = line.split(' ').collect();
        let length = match *words {
            ["END"] => return Ok(None),
            ["VALUE", this, _, length] if this == name => length,
            _ => return Err(unexpected(&line)),
        };
        let length: usize = length.parse().map_err(|_| unexpected(&line))?;
        if length > most {
            return Err(unexpected(&line));
        }
        let mut value = BytesMut::zeroed(length);
        self.0.read_exact(&mut value).await?;
        for end in ["", "END"] {
            let line = self.line().await?;
            if line != end {
                return Err(unexpected(&line));
            }
        }
        Ok(Some(value.freeze()))
    }

    /// Stores `value` for so many seconds, and says whether that was done.
    pub(super) async fn set(&mut self, name: &str, value: &[u8], seconds: u32) -> Result<bool> {
        let head = format!("set {name} 0 {seconds} {}\r\n", value.len());
        let mut command = BytesMut::with_capacity(head.len() + value.len() + 2);
        command.put_slice(head.as_bytes());
        command.put_slice(value);
        command.put_slice(b"\r\n");
        self.send(&command).await?;
        let line = self.line().await?;
        match &*line {
            "STORED" => Ok(true),
            // Too long for it, or it has no room.
            line if line.starts_with("SERVER_ERROR ") => Ok(false),
            line => Err(unexpected(line)),
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.get_mut().write_all(bytes).await
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.0).take(LINE);
        bounded.read_until(b'\n', &mut line).await?;
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Err(ErrorKind::UnexpectedEof.into());
        };
        String::from_utf8(line.to_vec()).map_err(|_| ErrorKind::InvalidData.into())
    }
}

fn unexpected(line: &str) -> Error {
    Error::new(
        ErrorKind::InvalidData,
        format!(
            "memcached said {:?}",
            line.chars().take(80).collect::<String>()
        ),
    )
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;
    use tokio::io::duplex;

    use super::*;

    const MOST: usize = 100;

    /// What the pipe of a test takes, and more.
    const ROOM: u64 = 160 << 10;

    /// What a reader makes of this answer, after which nothing comes.
    fn got(answer: &[u8]) -> Result<Option<Bytes>> {
        let (ours, mut theirs) = duplex(64 << 10);
        theirs.write_all(answer).now_or_never().unwrap().unwrap();
        theirs.shutdown().now_or_never().unwrap().unwrap();
        let mut wire = Wire::new(ours);
        let got = wire.get("k", MOST);
        got.now_or_never().expect("all of it is there")
    }

    #[test]
    fn answers_to_a_get() {
        assert_eq!(got(b"END\r\n").unwrap(), None);
        let value = got(b"VALUE k 0 4\r\na\r\nb\r\nEND\r\n").unwrap();
        assert_eq!(value, Some(Bytes::from("a\r\nb")));
        assert_eq!(
            got(b"VALUE k 0 0\r\n\r\nEND\r\n").unwrap(),
            Some(Bytes::new())
        );
        for bad in [
            &b""[..],
            b"EN",
            b"ERROR\r\n",
            b"SERVER_ERROR out of memory\r\n",
            // Of another question.
            b"VALUE l 0 1\r\na\r\nEND\r\n",
            b"STORED\r\n",
            // Not of the length that it says.
            b"VALUE k 0 2\r\na\r\nEND\r\n",
            b"VALUE k 0 1\r\nab\r\nEND\r\n",
            b"VALUE k 0 101\r\n",
            b"VALUE k 0 99999999999999999999\r\n",
            b"VALUE k 0 -1\r\n",
            b"VALUE k 0 1\r\na\r\nVALUE k 0 1\r\na\r\nEND\r\n",
        ] {
            assert!(got(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(got(&[b'x'; 10_000]).is_err());
        // Found before there is room for it.
        let counted = allocation_counter::measure(|| {
            assert!(got(b"VALUE k 0 400000000\r\n").is_err());
        });
        assert!(counted.bytes_max < ROOM, "{counted:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_a_server_says_takes_no_room_and_panics_nobody(
            head in prop_oneof![Just(""), Just("VALUE k 0 "), Just("VALUE "), Just("END")],
            rest in proptest::collection::vec(any::<u8>(), 0..1_000),
        ) {
            let answer = [head.as_bytes(), &rest].concat();
            let mut value = Ok(None);
            let counted = allocation_counter::measure(|| value = got(&answer));
            prop_assert!(counted.bytes_max < ROOM, "{:?}", counted);
            if let Ok(Some(value)) = value {
                prop_assert!(value.len() <= MOST);
            }
        }
    }
}
