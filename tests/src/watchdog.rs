//! Leaves nothing behind: one watchdog per test process.
//!
//! It is a shell in a process group of its own that reads a pipe this process
//! holds. At end of file it stops every program started through
//! [`guarded`] and removes the run's folder. No parent-death signal is used:
//! it fires when the *thread* that started the child ends, and each test runs
//! on a thread of its own.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self, ChildStdin, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{devservices, env};

const SCRIPT: &str = include_str!("watchdog.sh");

/// Says who it is before it becomes the program, or does not start at all.
const GUARDED: &str = r#"echo "$1 $$" >"$2/pid" && shift 2 && exec "$@""#;

struct Run {
    folder: PathBuf,
    next: AtomicU32,
    // Held, never written to: its end of file is what the watchdog waits for.
    _alive: ChildStdin,
}

/// A text that no other run of any test process has.
pub(crate) fn run_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        #[expect(
            clippy::disallowed_methods,
            reason = "a number that differs from run to run"
        )]
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        format!("{}_{:x}", process::id(), since.as_micros())
    })
}

/// A new folder for one program, removed at the latest when this process ends.
pub(crate) fn new_folder(name: &str) -> PathBuf {
    static RUN: OnceLock<Run> = OnceLock::new();
    let run = RUN.get_or_init(start);
    let number = run.next.fetch_add(1, Ordering::Relaxed);
    let folder = run.folder.join(format!("{name}-{number}"));
    fs::create_dir(&folder)
        .unwrap_or_else(|error| panic!("cannot create {}: {error}", folder.display()));
    folder
}

/// A command that the watchdog ends with `signal` (`TERM`, `QUIT`, `KILL`).
///
/// It runs in a process group of its own, with no variable but `PATH`.
pub(crate) fn guarded(folder: &Path, signal: &str, program: &OsStr) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", GUARDED, "sh", signal])
        .arg(folder)
        .arg(program)
        .env_clear()
        .env("PATH", env::path())
        .stdin(Stdio::null())
        .process_group(0);
    command
}

fn start() -> Run {
    let folder = devservices::runs().join(format!("maxscale-tests-{}", run_name()));
    let mut shell = Command::new("/bin/sh")
        // By a variable, so that lists of processes stay readable.
        .args(["-c", r#"eval "$WATCHDOG""#, "maxscale-tests-watchdog"])
        .arg(&folder)
        .env("WATCHDOG", SCRIPT)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("/bin/sh starts");
    let alive = shell.stdin.take().expect("standard input is a pipe");
    let mut answer = String::new();
    let stdout = shell.stdout.take().expect("standard output is a pipe");
    // The folder is the watchdog's from its first moment on, so that no kill
    // comes between.
    BufReader::new(stdout)
        .read_line(&mut answer)
        .expect("the watchdog's answer is readable");
    shell.wait().expect("the watchdog's starter ends");
    assert_eq!(
        answer.trim(),
        "ready",
        "the watchdog cannot create {}",
        folder.display()
    );
    Run {
        folder,
        next: AtomicU32::new(0),
        _alive: alive,
    }
}
