//! A program of ours, started and killed by a test, with its output collected.

use std::{
    ffi::{OsStr, OsString},
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::{devservices, wait::within, watchdog};

/// A running program. It is killed when this is dropped, and in any case when
/// the test process is gone.
///
/// # Panics
///
/// Methods that wait panic after their limit with the program's last lines.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    child: Mutex<Child>,
    output: Arc<Mutex<Output>>,
    folder: PathBuf,
}

/// What a program is started with; see [`Process::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ProcessBuilder {
    program: OsString,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
}

#[derive(Debug, Default)]
struct Output {
    lines: Vec<(Stream, String)>,
    // Pipes that have come to their end.
    ended: u8,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stream {
    Out,
    Err,
}

// === impl ProcessBuilder ===

impl ProcessBuilder {
    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let more = arguments.into_iter().map(|one| one.as_ref().to_owned());
        self.arguments.extend(more);
        self
    }

    /// Sets a variable. Of the test's own variables the program gets `PATH`
    /// only.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let variable = (name.as_ref().to_owned(), value.as_ref().to_owned());
        self.variables.push(variable);
        self
    }

    /// Sets the folder it runs in. Default: the test's.
    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.folder = Some(folder.as_ref().to_owned());
        self
    }

    /// Starts the program.
    ///
    /// A program that cannot be started exits with code 126 or 127 and says
    /// why on its standard error.
    ///
    /// # Panics
    ///
    /// Panics when the system starts no process at all.
    pub fn start(self) -> Process {
        let folder = watchdog::new_folder("process");
        let mut command = watchdog::guarded(&folder, "KILL", &self.program);
        command
            .args(&self.arguments)
            .envs(self.variables)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.program.display()));
        let output = Arc::new(Mutex::new(Output::default()));
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let stderr = child.stderr.take().expect("standard error is a pipe");
        collect(Stream::Out, stdout, &output);
        collect(Stream::Err, stderr, &output);
        Process {
            name: self.program.to_string_lossy().into_owned(),
            pid: Pid::from_child(&child),
            child: Mutex::new(child),
            output,
            folder,
        }
    }
}

fn collect(stream: Stream, pipe: impl Read + Send + 'static, output: &Arc<Mutex<Output>>) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']).to_owned();
            locked(&output).lines.push((stream, text));
            line.clear();
        }
        locked(&output).ended += 1;
    });
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Process ===

impl Process {
    /// Starts building a process that runs `program`: a path, or a name found
    /// on `PATH`.
    pub fn builder(program: impl AsRef<OsStr>) -> ProcessBuilder {
        ProcessBuilder {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            variables: Vec::new(),
            folder: None,
        }
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&self) -> bool {
        self.exited().is_none()
    }

    /// All lines so far, of both streams, about in the order they came.
    pub fn lines(&self) -> Vec<String> {
        self.select(|_| true)
    }

    /// The lines of its standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.select(|stream| stream == Stream::Out)
    }

    /// The lines of its standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        self.select(|stream| stream == Stream::Err)
    }

    /// Waits for a line that contains `text`, and returns the first.
    ///
    /// # Panics
    ///
    /// Panics after `limit`, or at once when the program ended without it.
    pub async fn wait_for_line(&self, text: &str, limit: Duration) -> String {
        let found = within(limit, async || {
            // Asked first: after the end no more lines come.
            let ended = self.ended();
            let line = self.lines().into_iter().find(|line| line.contains(text));
            match (line, ended) {
                (Some(line), _) => Ok(Some(line)),
                (None, true) => Ok(None),
                (None, false) => Err(format!("no line {text:?} within {limit:?}")),
            }
        });
        let why = match found.await {
            Ok(Some(line)) => return line,
            Ok(None) => format!("ended without a line {text:?}"),
            Err(why) => why,
        };
        panic!("{}: {why}:\n{}", self.name, self.tail());
    }

    /// Asks it to end (`SIGTERM`).
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Freezes it (`SIGSTOP`), with all its threads.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on when it is frozen.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills it with all it started (`kill -9` of its process group).
    pub fn kill(&self) {
        let mut child = locked(&self.child);
        // Once it was waited for, its number may be somebody else's.
        if matches!(child.try_wait(), Ok(None)) {
            let _ = kill_process_group(self.pid, Signal::KILL);
            let _ = child.wait();
        }
    }

    /// Waits for its end and for its last line.
    ///
    /// # Panics
    ///
    /// Panics after `limit`.
    pub async fn wait(&self, limit: Duration) -> ExitStatus {
        let status = within(limit, async || self.exited().ok_or_else(String::new)).await;
        let Ok(status) = status else {
            panic!("{} runs after {limit:?}:\n{}", self.name, self.tail());
        };
        // What it started may hold its output open; that is not waited for, but for as
        // long as a busy machine may keep the threads that read.
        let _ = within(Duration::from_secs(10), async || {
            self.ended().then_some(()).ok_or_else(String::new)
        })
        .await;
        status
    }

    fn signal(&self, signal: Signal) {
        let mut child = locked(&self.child);
        // Once it was waited for, its number may be somebody else's.
        if matches!(child.try_wait(), Ok(None)) {
            let _ = kill_process(self.pid, signal);
        }
    }

    fn exited(&self) -> Option<ExitStatus> {
        locked(&self.child)
            .try_wait()
            .expect("a child can be waited for")
    }

    fn ended(&self) -> bool {
        self.exited().is_some() && locked(&self.output).ended == 2
    }

    fn select(&self, wanted: impl Fn(Stream) -> bool) -> Vec<String> {
        let output = locked(&self.output);
        let lines = output.lines.iter();
        lines
            .filter(|(stream, _)| wanted(*stream))
            .map(|(_, line)| line.clone())
            .collect()
    }

    fn tail(&self) -> String {
        let lines = self.lines();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let _ = devservices::remove(&self.folder);
    }
}
