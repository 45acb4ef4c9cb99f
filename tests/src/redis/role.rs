//! What a server is for, and how it is started for that.

use std::{ffi::OsString, fs, path::Path};

use crate::{
    daemon::{Daemon, Local, compose::Compose},
    source::{self, REDIS, Source},
    wait::free_port,
    watchdog,
};

/// The data folder's name in the server's folder.
pub(super) const DATA: &str = "data";

/// As the sentinels call what they watch.
pub(super) const WATCHED: &str = "main";

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Role {
    /// Fast and forgetful, for many tests.
    Shared,
    /// Durable, for one test.
    Alone,
    /// A node of a cluster that is made later.
    Node,
    /// It follows the server on this port.
    Replica(u16),
    /// It watches the server on this port, with two others.
    Sentinel(u16),
}

// === impl Role ===

impl Role {
    /// A server ready to be started.
    pub(super) fn daemon(self, source: Source, port: u16) -> Daemon {
        let programs = match (source, self) {
            (Source::Programs(programs), _) => programs,
            (Source::Compose, Self::Shared | Self::Alone) => {
                return Daemon::Compose(Compose::new(&REDIS, port, self == Self::Alone));
            }
            (Source::Compose, _) => panic!("{}", source::programs_only(&REDIS)),
        };
        let folder = watchdog::new_folder(REDIS.key);
        let data = folder.join(DATA);
        fs::create_dir(&data).expect("the server's folder is ours");
        let arguments = match self {
            Self::Sentinel(watched) => sentinel_arguments(&folder, port, watched),
            _ => self.arguments(&data, port),
        };
        Daemon::Local(Local::new(&REDIS, programs, arguments, folder))
    }

    fn arguments(self, data: &Path, port: u16) -> Vec<OsString> {
        let appendonly = if self == Self::Shared { "no" } else { "yes" };
        let mut words = format!(
            "--port {port} --bind 127.0.0.1 --enable-debug-command local \
             --appendonly {appendonly} --repl-diskless-sync-delay 0"
        );
        match self {
            Self::Node => {
                // The bus would take a port that is not ours to give.
                let bus = free_port();
                words += &format!(
                    " --cluster-enabled yes --cluster-port {bus} \
                     --cluster-announce-ip 127.0.0.1 --cluster-node-timeout 1500 \
                     --cluster-replica-validity-factor 0"
                );
            }
            Self::Replica(primary) => words += &format!(" --replicaof 127.0.0.1 {primary}"),
            Self::Shared | Self::Alone | Self::Sentinel(_) => {}
        }
        let mut arguments: Vec<_> = words.split_whitespace().map(OsString::from).collect();
        arguments.extend(["--save", "", "--dir"].map(OsString::from));
        arguments.push(data.into());
        arguments
    }
}

/// A sentinel rewrites its configuration, so that it needs a file.
fn sentinel_arguments(folder: &Path, port: u16, watched: u16) -> Vec<OsString> {
    let config = folder.join("sentinel.conf");
    let data = folder.join(DATA);
    let text = format!(
        "port {port}\n\
         bind 127.0.0.1\n\
         dir \"{}\"\n\
         sentinel monitor {WATCHED} 127.0.0.1 {watched} 2\n\
         sentinel down-after-milliseconds {WATCHED} 1000\n\
         sentinel failover-timeout {WATCHED} 3000\n",
        data.display()
    );
    fs::write(&config, text).expect("the server's folder is ours");
    vec![config.into_os_string(), OsString::from("--sentinel")]
}
