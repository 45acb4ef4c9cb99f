//! memcached for a test.

use std::ffi::OsString;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    task::spawn_blocking,
};

use crate::{
    daemon::{Daemon, End, Local},
    postgres::{resume, server_folder},
    source::{self, MEMCACHED, Programs, Source},
    wait::free_port,
};

/// A running memcached of 64 MiB, for this test alone.
///
/// It listens on 127.0.0.1, on a port that stays the same when it is restarted.
/// It is gone when it is dropped, and in any case when the test process is gone.
///
/// # Panics
///
/// Every method panics, and so fails the test, when the server does not do what
/// it is told.
#[derive(Debug)]
pub struct MemcachedServer {
    address: String,
    daemon: Daemon,
}

// === impl MemcachedServer ===

impl MemcachedServer {
    /// Starts one.
    pub async fn start() -> Self {
        let source = spawn_blocking(|| source::source(&MEMCACHED)).await;
        let programs = match source.unwrap_or_else(|error| resume(error)) {
            Source::Programs(programs) => programs,
            Source::Compose => panic!("{}", source::programs_only(&MEMCACHED)),
        };
        let mut last = String::new();
        // Between choosing a port and listening on it somebody may take it.
        for _ in 0..5 {
            let port = free_port();
            let this = Self {
                address: format!("127.0.0.1:{port}"),
                daemon: daemon(programs.clone(), port),
            };
            match this.run().await {
                Ok(()) => return this,
                Err(why) => last = why,
            }
        }
        panic!("memcached did not start: {last}");
    }

    /// Where it listens, a host and a port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Kills the server (`kill -9`). All that it had is gone.
    pub async fn kill(&self) {
        self.daemon.end(End::Killed).await;
    }

    /// Freezes the server (`SIGSTOP`): it accepts connections and never
    /// answers.
    pub fn pause(&self) {
        self.daemon.pause();
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        self.daemon.resume();
    }

    /// Ends the server if it runs, and starts it on the same port, empty.
    pub async fn restart(&self) {
        self.daemon.end(End::Killed).await;
        self.run().await.unwrap_or_else(|why| panic!("{why}"));
    }

    /// One of the numbers that it counts, as `curr_items`.
    pub async fn stat(&self, name: &str) -> u64 {
        let stat = stat(&self.address, name).await;
        let stat = stat.unwrap_or_else(|why| panic!("{name}: {why}"));
        stat.parse().expect("what it counts is a number")
    }

    async fn run(&self) -> Result<(), String> {
        let probe = async || {
            let pid = stat(&self.address, "pid").await?;
            let is_ours = self.daemon.pid().is_some_and(|it| it.to_string() == pid);
            let other = || "another server listens on this port".to_owned();
            is_ours.then_some(()).ok_or_else(other)
        };
        self.daemon.start(probe).await
    }
}

fn daemon(programs: Programs, port: u16) -> Daemon {
    let folder = server_folder("memcached").expect("the run's folder is ours");
    let arguments = format!("-l 127.0.0.1 -p {port} -U 0 -m 64");
    let arguments = arguments.split(' ').map(OsString::from).collect();
    Daemon::Local(Local::new(&MEMCACHED, programs, arguments, folder))
}

async fn stat(address: &str, name: &str) -> Result<String, String> {
    let answer = async {
        let mut stream = BufReader::new(TcpStream::connect(address).await?);
        stream.write_all(b"stats\r\n").await?;
        let mut lines = stream.lines();
        while let Some(line) = lines.next_line().await? {
            let words: Vec<_> = line.split_whitespace().collect();
            match *words {
                ["STAT", this, value] if this == name => return Ok(Some(value.to_owned())),
                ["END"] => break,
                _ => {}
            }
        }
        Ok::<_, std::io::Error>(None)
    };
    let answer = answer.await.map_err(|error| error.to_string())?;
    answer.ok_or_else(|| "it does not count that".to_owned())
}
