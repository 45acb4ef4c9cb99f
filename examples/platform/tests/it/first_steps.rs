//! The lines that a newcomer copies, run as they stand.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use maxscale_tests::{Process, ProcessBuilder};
use serde_json::Value;
use tempfile::TempDir;

use crate::main_job::assert_as_ffmpeg_says;
use crate::servers::Servers;
use crate::service::Service;

const README: &str = include_str!("../../../../README.md");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const STAND_IN: &str = include_str!("first_steps/curl");
const LIMIT: Duration = Duration::from_secs(60);

/// A terminal in a folder where the repository's files are, as far as the lines
/// name them, and where what the lines write does not end up in the repository.
#[derive(Debug)]
struct Terminal {
    folder: TempDir,
    /// What is run before the lines, to choose a curl.
    before: &'static str,
}

// === impl Terminal ===

impl Terminal {
    /// With the machine's curl if it has one.
    fn new() -> Self {
        Self::choosing(r#"command -v curl >/dev/null || PATH="$PWD/bin:$PATH""#)
    }

    /// With the stand-in for curl.
    fn without_curl() -> Self {
        Self::choosing(r#"PATH="$PWD/bin:$PATH""#)
    }

    fn choosing(before: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        symlink(
            Path::new(ROOT).join("examples"),
            folder.path().join("examples"),
        )
        .unwrap();
        let curl = folder.path().join("bin/curl");
        fs::create_dir(folder.path().join("bin")).unwrap();
        fs::write(&curl, STAND_IN).unwrap();
        fs::set_permissions(&curl, PermissionsExt::from_mode(0o755)).unwrap();
        Self { folder, before }
    }

    /// Runs `lines` with `base` set; gives what they printed.
    async fn run(&self, base: &str, lines: &str) -> Vec<String> {
        let bash = Process::builder("bash")
            .args(["-c", &format!("{}\n{lines}", self.before)])
            .env("base", base)
            .current_dir(self.folder.path())
            .start();
        let status = bash.wait(LIMIT).await;
        assert!(
            status.success() && bash.stderr().is_empty(),
            "{:?}",
            bash.lines()
        );
        bash.stdout()
    }
}

/// The block of lines in README.md.
fn steps() -> &'static str {
    let (_, rest) = README.split_once("<!-- first-steps -->\n```sh\n").unwrap();
    rest.split_once("```").unwrap().0
}

/// What README.md says to run after a second start.
fn again() -> &'static str {
    let (_, rest) = README.split_once("start it again: `").unwrap();
    rest.split_once('`').unwrap().0
}

#[tokio::test]
async fn the_lines_of_the_readme_work_on_sqlite_files() {
    let folder = tempfile::tempdir().unwrap();
    work_and_last(&Terminal::new(), || Service::builder(folder.path())).await;
}

#[tokio::test]
async fn the_lines_of_the_readme_work_on_two_postgres_nodes_and_redis() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start().await;
    work_and_last(&Terminal::new(), || servers.builder(folder.path())).await;
}

#[tokio::test]
async fn the_lines_of_the_readme_work_without_curl_too() {
    let folder = tempfile::tempdir().unwrap();
    work_and_last(&Terminal::without_curl(), || {
        Service::builder(folder.path())
    })
    .await;
}

#[tokio::test]
async fn the_lines_of_the_readme_work_again_but_for_the_sign_up() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    let terminal = Terminal::new();
    terminal.run(service.base(), steps()).await;

    let printed = terminal.run(service.base(), steps()).await;
    let (signed_up, rest) = printed.split_first().unwrap();
    assert_eq!(json(signed_up)["status"], 409, "{signed_up}");
    assert_worked(rest);
}

#[tokio::test]
async fn the_lines_that_the_program_prints_work() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    service
        .process
        .wait_for_line(r#""$base/v1/projects""#, LIMIT)
        .await;
    let shown = service.process.stdout();
    let lines = shown.iter().skip_while(|line| !line.contains("base="));
    let lines: Vec<&str> = lines.map(String::as_str).collect();

    let printed = Terminal::new().run("unset", &lines.join("\n")).await;
    let [signed_up, me, project] = printed.as_slice() else {
        panic!("{printed:?}");
    };
    assert_eq!(json(signed_up)["user"]["name"], "Ada", "{signed_up}");
    assert_eq!(me, signed_up);
    assert_eq!(
        json(project)["project"]["title"],
        "First recordings",
        "{project}"
    );
}

/// Runs the lines, and after a second start the one that finds their project.
async fn work_and_last(terminal: &Terminal, builder: impl Fn() -> ProcessBuilder) {
    let service = Service::start(builder()).await;
    let printed = terminal.run(service.base(), steps()).await;
    let (signed_up, rest) = printed.split_first().unwrap();
    assert_eq!(
        json(signed_up)["user"]["email"],
        "ada@example.com",
        "{signed_up}"
    );
    let project = assert_worked(rest);

    service.process.terminate();
    assert!(service.process.wait(LIMIT).await.success());
    let service = Service::start(builder()).await;
    let found = terminal.run(service.base(), again()).await.concat();
    assert_eq!(json(&found)["projects"][0], project, "{found}");
}

/// The lines after the sign-up printed what README.md promises; gives the project.
fn assert_worked(printed: &[String]) -> Value {
    let [logged_in, renamed, me, project, track, ready, ..] = printed else {
        panic!("{printed:?}");
    };
    assert_eq!(
        json(logged_in)["user"]["email"],
        "ada@example.com",
        "{logged_in}"
    );
    assert_eq!(json(renamed)["user"]["name"], "Ada Lovelace", "{renamed}");
    assert_eq!(me, renamed);
    let project = &json(project)["project"];
    assert_eq!(project["title"], "First recordings", "{project}");
    assert_as_ffmpeg_says(&json(track)["track"]);
    assert_eq!(ready, "ready");
    project.clone()
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}
