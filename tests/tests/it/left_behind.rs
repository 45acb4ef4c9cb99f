//! What is left of a test process that was killed: nothing.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use maxscale_tests::{Process, ProcessBuilder, eventually, processes};

const START: Duration = Duration::from_secs(240);
const GONE: Duration = Duration::from_secs(60);

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

/// Whether a process exists and has not ended.
pub(crate) fn runs(pid: &str) -> bool {
    processes().iter().any(|it| it.pid.to_string() == pid)
}

/// A process and all below it.
fn tree(pid: u32) -> Vec<u32> {
    let all = processes();
    let mut found = vec![pid];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        let children = all.iter().filter(|it| it.parent == parent);
        found.extend(children.map(|it| it.pid));
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
            .filter(|(pid, folder)| runs(pid) || is_left(folder.parent().unwrap()))
            .collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

/// Whether a run's folder is there, also under a name that begins with its own.
fn is_left(run: &Path) -> bool {
    let name = run.file_name().unwrap().to_string_lossy();
    let mut beside = run.parent().unwrap().read_dir().unwrap().flatten();
    beside.any(|entry| entry.file_name().to_string_lossy().starts_with(&*name))
}

#[tokio::test]
async fn a_killed_test_process_leaves_no_server_and_no_folder() {
    let holder = holder(HOLDER).start();
    let servers = servers(&holder).await;

    holder.kill();

    all_gone(&servers).await;
}

#[tokio::test]
async fn nor_one_that_belongs_to_others() {
    let holder = holder(HOLDER).arg("groups").start();
    let servers = servers(&holder).await;
    // A primary, its replica and a pooler; a cluster of six; two servers and
    // their three sentinels.
    assert_eq!(servers.len(), 3 + 6 + 5);

    holder.kill();

    all_gone(&servers).await;
}

#[tokio::test]
async fn killing_cargo_and_all_below_it_leaves_no_folder_either() {
    // In cargo's place: a shell that waits for the tests.
    let script = format!("'{HOLDER}' & wait");
    let cargo = holder("sh").args(["-c", &script]).start();
    let servers = servers(&cargo).await;

    let all = tree(cargo.pid());
    let all: Vec<_> = all.iter().map(u32::to_string).collect();
    Command::new("kill")
        .arg("-KILL")
        .args(&all)
        .status()
        .unwrap();

    all_gone(&servers).await;
}
