//! What is left of a test process that was killed: nothing.

use std::{path::PathBuf, process::Command, time::Duration};

use maxscale_tests::{Process, ProcessBuilder, eventually};

const START: Duration = Duration::from_secs(240);
const GONE: Duration = Duration::from_secs(30);

const HOLDER: &str = env!("CARGO_BIN_EXE_hold_servers");

fn holder(program: &str) -> ProcessBuilder {
    let mut holder = Process::builder(program);
    // Under the ways that this run was told to take.
    for name in ["MAXSCALE_TEST_SERVERS", "MAXSCALE_TEST_CACHE"] {
        if let Some(value) = std::env::var_os(name) {
            holder = holder.env(name, value);
        }
    }
    holder
}

/// Whether a process exists and is not a zombie that nobody reaps.
pub(crate) fn runs(pid: &str) -> bool {
    let mut ps = Command::new("ps");
    let state = ps.args(["-o", "stat=", "-p", pid]).output().unwrap();
    let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

/// All processes below one.
fn below(pid: u32) -> Vec<u32> {
    let listed = Command::new("ps")
        .args(["-A", "-o", "pid=,ppid="])
        .output()
        .unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let pairs: Vec<(u32, u32)> = listed
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().map(str::parse);
            Some((words.next()?.ok()?, words.next()?.ok()?))
        })
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        let children = pairs.iter().filter(|(_, of)| *of == parent);
        found.extend(children.map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

/// The servers of a holder that has started.
async fn servers(holder: &Process) -> Vec<(String, PathBuf)> {
    holder.wait_for_line("ready", START).await;
    let servers: Vec<_> = holder
        .stdout()
        .iter()
        .filter_map(|line| {
            let (pid, folder) = line.strip_prefix("server ")?.split_once(' ')?;
            Some((pid.to_owned(), PathBuf::from(folder)))
        })
        .collect();
    for (pid, folder) in &servers {
        assert!(runs(pid) && folder.is_dir(), "{pid} {}", folder.display());
    }
    servers
}

async fn all_gone(servers: &[(String, PathBuf)]) {
    eventually(GONE, async || {
        let left: Vec<_> = servers
            .iter()
            .filter(|(pid, folder)| runs(pid) || folder.parent().unwrap().exists())
            .collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

#[tokio::test]
async fn a_killed_test_process_leaves_no_server_and_no_folder() {
    let holder = holder(HOLDER).start();
    let servers = servers(&holder).await;

    holder.kill();

    all_gone(&servers).await;
}

#[tokio::test]
async fn killing_cargo_and_all_below_it_leaves_no_folder_either() {
    // In cargo's place: a shell that waits for the tests.
    let script = format!("'{HOLDER}' & wait");
    let cargo = holder("sh").args(["-c", &script]).start();
    let servers = servers(&cargo).await;

    let all = below(cargo.pid());
    let all: Vec<_> = all.iter().map(u32::to_string).collect();
    Command::new("kill")
        .arg("-KILL")
        .args(&all)
        .status()
        .unwrap();

    all_gone(&servers).await;
}
