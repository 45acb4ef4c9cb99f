//! What a server is for, and how it is started for that.

use std::{ffi::OsString, fs, path::Path};

use crate::{
    certificates::Certificate,
    daemon::{Daemon, Local, compose::Compose},
    source::{self, REDIS, Source},
    watchdog,
};

/// The data folder's name in the server's folder.
pub(super) const DATA: &str = "data";

/// As the sentinels call what they watch.
pub(super) const WATCHED: &str = "main";

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Role {
    /// Fast and forgetful, for many tests.
    Shared,
    /// Durable, for one test.
    Alone,
    /// As alone, and what it answers is on disk.
    Durable,
    /// As alone, and it also listens with TLS and this certificate.
    Tls(Certificate),
    /// A node of a cluster that is made later.
    Node,
    /// It follows the server on this port.
    Replica(u16),
    /// It watches the server on this port, with two others.
    Sentinel(u16),
}

// === impl Role ===

impl Role {
    /// A server ready to be started; `second` is its port for TLS, or for
    /// other nodes.
    pub(super) fn daemon(&self, source: Source, port: u16, second: u16) -> Daemon {
        let programs = match (source, self) {
            (Source::Programs(programs), _) => programs,
            (Source::Compose, Self::Shared | Self::Alone) => {
                return Daemon::Compose(Compose::new(&REDIS, port, *self == Self::Alone));
            }
            (Source::Compose, _) => panic!("{}", source::programs_only(&REDIS)),
        };
        let folder = watchdog::new_folder(REDIS.key);
        let data = folder.join(DATA);
        fs::create_dir(&data).expect("the server's folder is ours");
        let arguments = match self {
            Self::Sentinel(watched) => sentinel_arguments(&folder, port, *watched),
            _ => self.arguments(&folder, port, second),
        };
        Daemon::Local(Local::new(&REDIS, programs, arguments, folder))
    }

    fn arguments(&self, folder: &Path, port: u16, second: u16) -> Vec<OsString> {
        let appendonly = if *self == Self::Shared { "no" } else { "yes" };
        let mut words = format!(
            "--port {port} --bind 127.0.0.1 --enable-debug-command local \
             --appendonly {appendonly} --repl-diskless-sync-delay 0"
        );
        let mut files = vec![("--dir", folder.join(DATA))];
        match self {
            Self::Node => {
                // By default other nodes are met at a port that is not ours to
                // give.
                words += &format!(
                    " --cluster-enabled yes --cluster-port {second} \
                     --cluster-announce-ip 127.0.0.1 --cluster-node-timeout 1500 \
                     --cluster-replica-validity-factor 0"
                );
            }
            Self::Replica(primary) => words += &format!(" --replicaof 127.0.0.1 {primary}"),
            Self::Tls(certificate) => {
                words += &format!(" --tls-port {second} --tls-auth-clients no");
                let copy = certificate.copy_to(folder);
                files.push(("--tls-cert-file", copy.certificate().into()));
                files.push(("--tls-key-file", copy.key().into()));
            }
            Self::Durable => words += " --appendfsync always",
            Self::Shared | Self::Alone | Self::Sentinel(_) => {}
        }
        let mut arguments: Vec<_> = words.split_whitespace().map(OsString::from).collect();
        arguments.extend(["--save", ""].map(OsString::from));
        for (name, file) in files {
            arguments.extend([OsString::from(name), file.into()]);
        }
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
         sentinel down-after-milliseconds {WATCHED} 1500\n\
         sentinel failover-timeout {WATCHED} 3000\n",
        data.display()
    );
    fs::write(&config, text).expect("the server's folder is ours");
    vec![config.into_os_string(), OsString::from("--sentinel")]
}
