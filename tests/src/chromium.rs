//! Chromium without a window, driven by WebDriver.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::spawn_blocking,
};

use crate::{
    daemon::{Daemon, Local},
    env,
    postgres::resume,
    source::{self, CHROMIUM, Programs, Source, as_server, run},
    wait::free_port,
    watchdog,
};

const DRIVER: &str = "chromedriver";
const BROWSER: &str = "chromium-headless-shell";

/// A browser that trusts one CA, and for which every name is one server of the test.
///
/// So a test has sites of any name under real TLS: what cookies and origins do on
/// ports of localhost proves nothing, as those are one site.
///
/// # Panics
///
/// Every method panics, and so fails the test, when it does not do what it is told.
#[derive(Debug)]
pub struct Chromium {
    url: String,
    capabilities: String,
    _daemon: Daemon,
}

// === impl Chromium ===

impl Chromium {
    /// Starts a driver. A browser comes with each session of WebDriver that has these
    /// [`capabilities`](Self::capabilities); it trusts the CA in the file `ca`, and
    /// takes every name for `server`, an address and a port.
    pub async fn start(ca: &Path, server: &str) -> Self {
        let (ca, server) = (ca.to_owned(), server.to_owned());
        let started = spawn_blocking(move || prepare(&ca, &server)).await;
        let (programs, folder, capabilities) = started.unwrap_or_else(|error| resume(error));
        let address = format!("127.0.0.1:{}", free_port());
        let port = address.rsplit(':').next().unwrap_or_default();
        let arguments = vec![OsString::from(format!("--port={port}"))];
        let mut local = Local::new(&CHROMIUM, programs, arguments, folder);
        local.program = DRIVER;
        let this = Self {
            url: format!("http://{address}"),
            capabilities,
            _daemon: Daemon::Local(local),
        };
        let ready = this._daemon.start(async || probe(&address).await).await;
        ready.unwrap_or_else(|why| panic!("chromedriver did not start: {why}"));
        this
    }

    /// Where the driver listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What a session of WebDriver has to ask for, in JSON.
    pub fn capabilities(&self) -> &str {
        &self.capabilities
    }
}

fn prepare(ca: &Path, server: &str) -> (Programs, PathBuf, String) {
    let programs = match source::source(&CHROMIUM) {
        Source::Programs(programs) => programs,
        Source::Compose => panic!("{}", source::programs_only(&CHROMIUM)),
    };
    let folder = watchdog::new_folder("chromium");
    trust(&programs, &folder, ca).unwrap_or_else(|why| panic!("certutil: {why}"));
    let browser = wrapper(&programs, &folder);
    let rules = format!("MAP * {server}");
    let profile = folder.join("profile");
    // Root has no sandbox; the browser sees nothing but the test's own pages.
    let capabilities = format!(
        "{{\"goog:chromeOptions\":{{\"binary\":{browser:?},\"args\":[\"--no-sandbox\",\
         \"--disable-gpu\",\"--disable-dev-shm-usage\",\"--host-resolver-rules={rules}\",\
         \"--user-data-dir={}\"]}}}}",
        profile.display()
    );
    (programs, folder, capabilities)
}

/// A home whose certificate store has the CA. Chromium reads it there and nowhere else.
fn trust(programs: &Programs, home: &Path, ca: &Path) -> Result<(), String> {
    let store = home.join(".pki/nssdb");
    let empty = home.join("empty");
    let made = fs::create_dir_all(&store).and_then(|()| fs::write(&empty, ""));
    made.map_err(|error| error.to_string())?;
    let beside = programs.folder.join("certutil");
    let certutil = Some(beside).filter(|it| it.is_file());
    let certutil = certutil.or_else(|| env::which("certutil"));
    let certutil = certutil.ok_or("it is not there; install libnss3-tools")?;
    for what in [&["-N"][..], &["-A", "-n", "tests", "-t", "C,,", "-i"]] {
        let mut command = Command::new(&certutil);
        as_server(&CHROMIUM, &mut command, programs.libraries.as_ref());
        command.args(what);
        if what.len() > 1 {
            command.arg(ca);
        }
        command.arg("-f").arg(&empty);
        command.arg("-d").arg(format!("sql:{}", store.display()));
        run_quietly(command)?;
    }
    Ok(())
}

/// Without a terminal, or it would ask for a password for ever.
fn run_quietly(mut command: Command) -> Result<(), String> {
    command.stdin(Stdio::null());
    run(command).map(drop)
}

/// The browser in its own home, with its libraries.
fn wrapper(programs: &Programs, home: &Path) -> PathBuf {
    let at = home.join("browser");
    let libraries = programs.libraries.clone().unwrap_or_default();
    let text = format!(
        "#!/bin/sh\nexport HOME='{}' LD_LIBRARY_PATH='{}'\nexec '{}' \"$@\"\n",
        home.display(),
        libraries.display(),
        programs.folder.join(BROWSER).display()
    );
    let written = fs::write(&at, text)
        .and_then(|()| fs::set_permissions(&at, fs::Permissions::from_mode(0o755)));
    written.expect("the run's folder is ours");
    at
}

async fn probe(address: &str) -> Result<(), String> {
    let answer = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET /status HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
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
