//! A server that this process started, as a process group or a container.

pub(crate) mod compose;

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::time::timeout;

use self::compose::Compose;
use crate::{
    devservices,
    processes::processes,
    source::{Programs, Service, as_server},
    wait::{eventually, within},
    watchdog,
};

/// How long a server may take to answer, on a machine that is busy compiling.
const START_LIMIT: Duration = Duration::from_secs(60);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const STOP_LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(crate) enum Daemon {
    Local(Local),
    Compose(Compose),
}

/// A program run in a folder of its own.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) service: &'static Service,
    pub(crate) programs: Programs,
    pub(crate) program: &'static str,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) folder: PathBuf,
    child: Mutex<Option<Child>>,
}

/// How a server is brought down.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// It finishes what it does and writes what it holds.
    Gently,
    /// `kill -9`, for the group at once.
    Killed,
}

// === impl Daemon ===

impl Daemon {
    /// Starts the server and returns once `check` finds it answering.
    pub(crate) async fn start(
        &self,
        check: impl AsyncFn() -> Result<(), String>,
    ) -> Result<(), String> {
        match self {
            Self::Local(local) => local.spawn().map_err(|error| error.to_string())?,
            Self::Compose(compose) => compose.up()?,
        }
        let answered = within(START_LIMIT, async || {
            let answer = timeout(ANSWER_LIMIT, check()).await;
            match answer.unwrap_or_else(|_| Err("no answer".to_owned())) {
                Ok(()) => Ok(Ok(())),
                // One that ended will not answer any more.
                Err(why) => self.exited().map(Err).ok_or(why),
            }
        });
        answered
            .await
            .unwrap_or_else(|why| Err(format!("not ready within {START_LIMIT:?}: {why}")))
    }

    pub(crate) async fn end(&self, end: End) {
        match self {
            Self::Local(local) => local.end(end).await,
            Self::Compose(compose) => compose.end(end),
        }
    }

    pub(crate) fn pause(&self) {
        match self {
            Self::Local(local) => local.pause(),
            Self::Compose(compose) => compose.run(&["pause"]),
        }
    }

    /// Where the server's files are; a container's are in the container.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Local(local) => Some(&local.folder),
            Self::Compose(_) => None,
        }
    }

    /// The server's first process, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Local(local) => local.child().as_ref().map(Child::id),
            Self::Compose(_) => None,
        }
    }

    /// How the server ended, if it did.
    fn exited(&self) -> Option<String> {
        match self {
            Self::Local(local) => {
                let status = local.exited()?;
                Some(format!("{status}: {}", local.last_words()))
            }
            Self::Compose(_) => None,
        }
    }

    pub(crate) fn resume(&self) {
        match self {
            Self::Local(local) => local.resume(),
            Self::Compose(compose) => compose.run(&["unpause"]),
        }
    }
}

// === impl Local ===

impl Local {
    pub(crate) fn new(
        service: &'static Service,
        programs: Programs,
        arguments: Vec<OsString>,
        folder: PathBuf,
    ) -> Self {
        Self {
            service,
            programs,
            program: service.programs[0],
            arguments,
            folder,
            child: Mutex::new(None),
        }
    }

    fn spawn(&self) -> io::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))?;
        let program = self.programs.folder.join(self.program);
        let mut command = watchdog::guarded(&self.folder, self.service.last.1, program.as_os_str());
        as_server(self.service, &mut command, self.programs.libraries.as_ref());
        command
            .args(&self.arguments)
            .current_dir(&self.folder)
            .stdout(log.try_clone()?)
            .stderr(log);
        *self.child() = Some(command.spawn()?);
        Ok(())
    }

    fn exited(&self) -> Option<ExitStatus> {
        self.child().as_mut()?.try_wait().ok()?
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = self.child().as_ref() {
            // A server that is gone already needs no signal.
            let _ = kill_process_group(Pid::from_child(child), signal);
        }
    }

    /// The server's other processes: PostgreSQL puts each into a group of its
    /// own, so that no signal to the server's group reaches them.
    fn others(&self) -> Vec<Pid> {
        let Some(pid) = self.child().as_ref().map(Child::id) else {
            return Vec::new();
        };
        processes()
            .into_iter()
            .filter(|process| process.parent == pid)
            .filter_map(|process| Pid::from_raw(process.pid.try_into().ok()?))
            .collect()
    }

    fn pause(&self) {
        // The first one before the others, so that none is added meanwhile.
        self.signal(Signal::STOP);
        for pid in self.others() {
            let _ = kill_process(pid, Signal::STOP);
        }
    }

    fn resume(&self) {
        for pid in self.others() {
            let _ = kill_process(pid, Signal::CONT);
        }
        self.signal(Signal::CONT);
    }

    async fn end(&self, end: End) {
        let mut killed = Vec::new();
        match end {
            End::Gently => self.signal(self.service.stop),
            End::Killed => {
                self.signal(Signal::STOP);
                killed = self.others();
                for pid in &killed {
                    let _ = kill_process(*pid, Signal::KILL);
                }
                self.signal(Signal::KILL);
            }
        }
        self.resume();
        eventually(STOP_LIMIT, async || {
            self.child().is_none() || self.exited().is_some()
        })
        .await;
        *self.child() = None;
        eventually(STOP_LIMIT, async || {
            let running = processes();
            let mut pids = running.iter().map(|it| it.pid.cast_signed());
            !pids.any(|pid| killed.iter().any(|one| one.as_raw_pid() == pid))
        })
        .await;
    }

    /// A PostgreSQL that was killed leaves a segment, named in its lock file.
    fn free_shared_memory(&self) {
        let lock = self.folder.join("data/postmaster.pid");
        let lock = fs::read_to_string(lock).unwrap_or_default();
        let segment = lock
            .lines()
            .nth(6)
            .and_then(|line| line.split_whitespace().nth(1));
        if let Some(segment) = segment {
            let _ = Command::new("ipcrm").args(["-m", segment]).output();
        }
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.signal(self.service.last.0);
        self.resume();
        if let Some(mut child) = self.child().take() {
            // Bounded: PostgreSQL itself kills what is left after five seconds.
            let _ = child.wait();
        }
        self.free_shared_memory();
        // What stays is the watchdog's.
        let _ = devservices::remove(&self.folder);
    }
}
