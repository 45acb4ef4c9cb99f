//! Chromium without a window, driven by WebDriver.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tokio::task::spawn_blocking;

use crate::{
    daemon::{Daemon, Local},
    env,
    postgres::resume,
    source::{self, CHROMIUM, Programs, Source, as_server, run},
    watchdog,
};

const DRIVER: &str = "chromedriver";
const STARTED: &str = "started successfully on port ";
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
        let log = folder.join("log");
        // It takes a port that is free, and says which.
        let mut local = Local::new(&CHROMIUM, programs, vec!["--port=0".into()], folder);
        local.program = DRIVER;
        let daemon = Daemon::Local(local);
        let ready = daemon.start(async || port(&log).map(drop)).await;
        let port = ready.and_then(|()| port(&log));
        let port = port.unwrap_or_else(|why| panic!("chromedriver did not start: {why}"));
        Self {
            url: format!("http://127.0.0.1:{port}"),
            capabilities,
            _daemon: daemon,
        }
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
    // Root has no sandbox; the browser sees nothing but the test's own pages. The times
    // are milliseconds: a page that never comes is an error, and not the end of CI's.
    let capabilities = format!(
        "{{\"goog:chromeOptions\":{{\"binary\":{browser:?},\"args\":[\"--headless\",\
         \"--no-sandbox\",\"--disable-gpu\",\"--disable-dev-shm-usage\",\
         \"--host-resolver-rules={rules}\",\"--user-data-dir={}\"]}},\
         \"timeouts\":{{\"pageLoad\":60000,\"script\":60000}}}}",
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

/// The browser in its own home, with its libraries and one page: without a window it
/// opens none by itself, and the driver waits for one.
fn wrapper(programs: &Programs, home: &Path) -> PathBuf {
    let at = home.join("browser");
    let libraries = programs.libraries.clone().unwrap_or_default();
    // It looks for its own files beside the name that it was started by.
    let browser = programs.folder.join(BROWSER).canonicalize();
    let browser = browser.expect("it was found there");
    let text = format!(
        "#!/bin/sh\nexport HOME='{}' LD_LIBRARY_PATH='{}'\nexec '{}' \"$@\" about:blank\n",
        home.display(),
        libraries.display(),
        browser.display()
    );
    let written = fs::write(&at, text)
        .and_then(|()| fs::set_permissions(&at, fs::Permissions::from_mode(0o755)));
    written.expect("the run's folder is ours");
    at
}

/// Where the driver says that it listens.
fn port(log: &Path) -> Result<u16, String> {
    let said = fs::read_to_string(log).map_err(|error| error.to_string())?;
    let (_, port) = said.rsplit_once(STARTED).ok_or("it names no port yet")?;
    let port = port.split('.').next().unwrap_or_default();
    port.parse().map_err(|_| said)
}
