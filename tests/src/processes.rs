//! The machine's processes, as far as tests ask about them.

use std::{fs, process::Command};

/// A process of this machine, ours or not.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Running {
    /// Its number.
    pub pid: u32,
    /// The number of the process that started it, 1 once that is gone.
    pub parent: u32,
}

/// All processes that have not ended; a zombie has.
///
/// # Panics
///
/// Panics on a system with neither `/proc` nor `ps`.
pub fn processes() -> Vec<Running> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return listed();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name, in parentheses, may hold anything.
            let (_, rest) = stat.rsplit_once(") ")?;
            let mut words = rest.split(' ');
            entry_of(pid, words.next()?, words.next()?)
        })
        .collect()
}

fn listed() -> Vec<Running> {
    let output = Command::new("ps")
        .args(["-A", "-o", "pid=,stat=,ppid="])
        .output()
        .expect("a system without /proc has ps");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            entry_of(words.next()?.parse().ok()?, words.next()?, words.next()?)
        })
        .collect()
}

fn entry_of(pid: u32, state: &str, parent: &str) -> Option<Running> {
    let parent = parent.parse().ok()?;
    (!state.starts_with(['Z', 'X'])).then_some(Running { pid, parent })
}
