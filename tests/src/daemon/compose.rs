//! The last resort: a container by `docker compose`.

use std::{fs, path::Path, process::Command};

use super::End;
use crate::{
    source::{Service, run},
    watchdog,
};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/compose.yaml");

/// One container, in a project of its own.
#[derive(Debug)]
pub(crate) struct Compose {
    service: &'static Service,
    project: String,
    port: u16,
    durable: bool,
}

/// Whether Docker answers.
pub(crate) fn available() -> Result<(), String> {
    let mut docker = Command::new("docker");
    docker.args(["compose", "version"]);
    run(docker)?;
    let mut docker = Command::new("docker");
    docker.args(["version", "--format", "{{.Server.Version}}"]);
    run(docker).map(drop)
}

// === impl Compose ===

impl Compose {
    pub(crate) fn new(service: &'static Service, port: u16, durable: bool) -> Self {
        let folder = watchdog::new_folder(service.key);
        let project = format!("maxscale-tests-{}-{port}", watchdog::run_name());
        let this = Self {
            service,
            project,
            port,
            durable,
        };
        this.leave_to_watchdog(&folder);
        this
    }

    fn leave_to_watchdog(&self, folder: &Path) {
        let script = format!(
            "docker compose -p {} -f '{FILE}' down --volumes --timeout 1\n",
            self.project
        );
        fs::write(folder.join("cleanup"), script).expect("the run's folder is ours");
    }

    pub(super) fn up(&self) -> Result<(), String> {
        run(self.command(&["up", "--detach"])).map(drop)
    }

    pub(super) fn end(&self, end: End) {
        self.run(match end {
            End::Gently => &["stop"],
            End::Killed => &["kill"],
        });
    }

    /// Removes the container with its data.
    pub(crate) fn wipe(&self) {
        self.run(&["rm", "--force", "--stop", "--volumes"]);
    }

    pub(super) fn run(&self, arguments: &[&str]) {
        if let Err(why) = run(self.command(arguments)) {
            panic!("{} in docker: {why}", self.service.name);
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let (fsync, appendonly) = if self.durable {
            ("on", "yes")
        } else {
            ("off", "no")
        };
        let mut command = Command::new("docker");
        command
            .args(["compose", "-p", &self.project, "-f", FILE])
            .args(arguments)
            .env("MAXSCALE_TEST_PORT", self.port.to_string())
            .env("MAXSCALE_TEST_FSYNC", fsync)
            .env("MAXSCALE_TEST_APPENDONLY", appendonly);
        // `down`, `stop` and the like act on the whole project, which is this
        // one service.
        if arguments[0] != "down" {
            command.arg(self.service.key);
        }
        command
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        let _ = run(self.command(&["down", "--volumes", "--timeout", "1"]));
    }
}
