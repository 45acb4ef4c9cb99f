//! Prometheus, to read metrics as its users will.

use std::{ffi::OsString, fs, io::Write as _, path::Path, process::Command, process::Stdio};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::spawn_blocking,
};

use crate::{
    daemon::{Daemon, End, Local},
    postgres::resume,
    source::{self, PROMETHEUS, Programs, Source, as_server},
    wait::free_port,
    watchdog,
};

const CONFIG: &str = "prometheus.yml";
const RULES: &str = "rules.yml";

/// A running Prometheus that scrapes each second and keeps exemplars.
///
/// It listens on 127.0.0.1. It is gone when it is dropped, and in any case when the
/// test process is gone.
///
/// # Panics
///
/// Every method panics, and so fails the test, when it does not do what it is told.
#[derive(Debug)]
pub struct Prometheus {
    url: String,
    daemon: Daemon,
}

// === impl Prometheus ===

impl Prometheus {
    /// Starts one that scrapes `/metrics` of `target`, a host and a port, and
    /// evaluates `rules`, a file of rules.
    pub async fn start(target: &str, rules: &str) -> Self {
        let programs = programs().await;
        let mut last = String::new();
        // Between choosing a port and listening on it somebody may take it.
        for _ in 0..5 {
            let address = format!("127.0.0.1:{}", free_port());
            let this = Self {
                url: format!("http://{address}"),
                daemon: daemon(programs.clone(), &address, target, rules),
            };
            let ready = this.daemon.start(async || probe(&address).await).await;
            match ready {
                Ok(()) => return this,
                Err(why) => last = why,
            }
        }
        panic!("Prometheus did not start: {last}");
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs `promtool` with these arguments and this standard input.
    ///
    /// # Errors
    ///
    /// Returns what it says when it finds something wrong.
    pub async fn tool(arguments: &[&str], input: &str) -> Result<String, String> {
        let programs = programs().await;
        let mut command = Command::new(programs.folder.join("promtool"));
        as_server(&PROMETHEUS, &mut command, programs.libraries.as_ref());
        command.args(arguments);
        let input = input.to_owned();
        let run = spawn_blocking(move || {
            let mut child = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(|error| error.to_string())?;
            let mut stdin = child.stdin.take().expect("it is piped");
            // It may end before it has read everything.
            let writing = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
            let output = child.wait_with_output();
            let _ = writing.join();
            let output = output.map_err(|error| error.to_string())?;
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            if output.status.success() {
                Ok(said)
            } else {
                Err(format!("{}: {said}", output.status))
            }
        });
        run.await.unwrap_or_else(|error| resume(error))
    }

    /// Ends it.
    pub async fn stop(&self) {
        self.daemon.end(End::Gently).await;
    }

    /// Where its files and its `log` are.
    pub fn folder(&self) -> Option<&Path> {
        self.daemon.folder()
    }
}

async fn programs() -> Programs {
    let source = spawn_blocking(|| source::source(&PROMETHEUS)).await;
    match source.unwrap_or_else(|error| resume(error)) {
        Source::Programs(programs) => programs,
        Source::Compose => panic!("{}", source::programs_only(&PROMETHEUS)),
    }
}

fn daemon(programs: Programs, address: &str, target: &str, rules: &str) -> Daemon {
    let folder = watchdog::new_folder("prometheus");
    let config = folder.join(CONFIG);
    let text = format!(
        "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\n\
         rule_files: [{RULES}]\n\
         scrape_configs:\n  - job_name: test\n    static_configs:\n      - targets: ['{target}']\n"
    );
    fs::write(&config, text).expect("the server's folder can be written to");
    fs::write(folder.join(RULES), rules).expect("the server's folder can be written to");
    let arguments = [
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", folder.join("data").display()),
        format!("--web.listen-address={address}"),
        "--enable-feature=exemplar-storage".to_owned(),
        "--log.level=warn".to_owned(),
    ];
    let arguments = arguments.map(OsString::from).to_vec();
    Daemon::Local(Local::new(&PROMETHEUS, programs, arguments, folder))
}

async fn probe(address: &str) -> Result<(), String> {
    let answer = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /-/ready HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = answer.await.map_err(|error| error.to_string())?;
    let line = answer.lines().next().unwrap_or_default();
    line.contains(" 200 ")
        .then_some(())
        .ok_or_else(|| line.to_owned())
}
