//! A data folder: copied from the one that initdb made once, or from a running
//! server.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use super::replica::backup_arguments;
use crate::{
    certificates::Certificate,
    daemon::{Daemon, Local, compose::Compose},
    devservices::{self, cached, unprivileged},
    source::{self, POSTGRES, Programs, Source, as_server, run},
    watchdog,
};

/// The data folder's name in the server's folder; the watchdog knows it too.
pub(super) const DATA: &str = "data";

/// What a server is made with.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) shared: bool,
    pub(super) origin: Origin,
    pub(super) certificate: Option<Certificate>,
}

/// What its data begins as.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Empty,
    /// A replica of the server at this URL.
    Backup(String),
}

// === impl Setup ===

impl Setup {
    pub(super) fn new(shared: bool) -> Self {
        Self {
            shared,
            origin: Origin::Empty,
            certificate: None,
        }
    }
}

/// A server ready to be started; it blocks.
pub(super) fn daemon(source: Source, port: u16, setup: &Setup) -> Daemon {
    let (programs, folder) = match (source, &setup.origin) {
        (Source::Programs(programs), Origin::Empty) => {
            let folder = data_folder(&programs);
            (programs, folder)
        }
        (Source::Programs(programs), Origin::Backup(primary)) => {
            let folder = backup(&programs, primary, port);
            (programs, folder)
        }
        (Source::Compose, Origin::Empty) if setup.certificate.is_none() => {
            return Daemon::Compose(Compose::new(&POSTGRES, port, !setup.shared));
        }
        (Source::Compose, _) => panic!("{}", source::programs_only(&POSTGRES)),
    };
    let folder = folder.unwrap_or_else(|why| panic!("{why}"));
    let mut arguments = arguments(&folder, port, setup.shared);
    if let Some(certificate) = &setup.certificate {
        let copy = certificate.copy_to(&folder);
        let given = give(copy.certificate()).and_then(|()| give(copy.key()));
        given.expect("our files can be given to the server's user");
        for (name, file) in [
            ("ssl_cert_file", copy.certificate()),
            ("ssl_key_file", copy.key()),
        ] {
            arguments.push(OsString::from("-c"));
            arguments.push(format!("{name}={}", file.display()).into());
        }
        arguments.extend(["-c", "ssl=on"].map(OsString::from));
    }
    Daemon::Local(Local::new(&POSTGRES, programs, arguments, folder))
}

fn arguments(folder: &Path, port: u16, shared: bool) -> Vec<OsString> {
    let mut arguments = vec![
        OsString::from("-D"),
        folder.join(DATA).into_os_string(),
        OsString::from("-p"),
        OsString::from(port.to_string()),
    ];
    let mut settings = vec![
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        // In the data folder, where it is removed with the rest.
        "dynamic_shared_memory_type=mmap",
        "timezone=GMT",
        "log_timezone=GMT",
        // Its library may lack ours, and then long queries would fail.
        "jit=off",
        // A replica looks for its primary as soon as that is back.
        "wal_retrieve_retry_interval=100ms",
    ];
    if shared {
        settings.extend([
            "max_connections=300",
            "max_prepared_transactions=100",
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
        ]);
    }
    for setting in settings {
        arguments.extend(["-c", setting].map(OsString::from));
    }
    arguments
}

fn data_folder(programs: &Programs) -> Result<PathBuf, String> {
    let uid = unprivileged().map_or(rustix::process::geteuid().as_raw(), |user| user.uid);
    let parent = devservices::folder().join("initdb");
    fs::create_dir_all(&parent).map_err(|error| error.to_string())?;
    // A folder belongs to a version and to a user.
    let name = format!("{}-{uid}", programs.version);
    let template = cached(&parent, &name, |half| {
        initdb(programs, half).map_err(Reason)
    })
    .map_err(|Reason(why)| format!("initdb: {why}"))?;
    let folder = server_folder("postgres").map_err(|error| error.to_string())?;
    copy(&template.join(DATA), &folder.join(DATA))?;
    Ok(folder)
}

struct Reason(String);

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

fn initdb(programs: &Programs, half: &Path) -> Result<(), String> {
    // Made where the server's user may write, which the cache need not be.
    let folder = server_folder("initdb").map_err(|error| error.to_string())?;
    let mut command = Command::new(programs.folder.join("initdb"));
    command
        .args(["--auth=trust", "--username=postgres", "--encoding=UTF8"])
        .args(["--locale=C", "--no-sync", "-D"])
        .arg(folder.join(DATA))
        .current_dir(&folder);
    as_server(&POSTGRES, &mut command, programs.libraries.as_ref());
    run(command)?;
    copy(&folder.join(DATA), &half.join(DATA))?;
    devservices::remove(&folder).map_err(|error| error.to_string())
}

/// A copy of a running server, to follow it.
fn backup(programs: &Programs, primary: &str, port: u16) -> Result<PathBuf, String> {
    let folder = server_folder("replica").map_err(|error| error.to_string())?;
    let program = programs.folder.join("pg_basebackup");
    let mut command = watchdog::guarded(&folder, "KILL", program.as_os_str());
    as_server(&POSTGRES, &mut command, programs.libraries.as_ref());
    let slot = format!("replica_{port}");
    command
        .args(backup_arguments(primary, &folder.join(DATA), &slot))
        .current_dir(&folder);
    run(command).map_err(|why| format!("{}: {why}", program.display()))?;
    Ok(folder)
}

/// A folder that only the server's user may enter.
pub(crate) fn server_folder(name: &str) -> io::Result<PathBuf> {
    let folder = watchdog::new_folder(name);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    give(&folder)?;
    Ok(folder)
}

/// Makes the server's user the owner.
fn give(path: &Path) -> io::Result<()> {
    match unprivileged() {
        Some(user) => chown(path, Some(user.uid), Some(user.gid)),
        None => Ok(()),
    }
}

/// Copies a folder with its owners and permissions, which PostgreSQL checks.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let mut command = Command::new("cp");
    command.arg("-Rp").arg(from).arg(to);
    run(command).map(drop)
}
