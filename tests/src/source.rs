//! Where the programs of a server are found, and what is said if they are not.

mod packages;

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs,
    io::{Write as _, stderr},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use rustix::process::Signal;

use crate::{daemon::compose, devservices, env};

/// A kind of server, as the search needs to know it.
#[derive(Debug)]
pub(crate) struct Service {
    /// As people call it.
    pub(crate) name: &'static str,
    /// As folders and the compose file call it.
    pub(crate) key: &'static str,
    /// The variable that names a running one, where tests can share one.
    pub(crate) variable: Option<&'static str>,
    /// The program, and those that must lie beside it.
    pub(crate) programs: &'static [&'static str],
    /// The least version.
    pub(crate) least: &'static [u32],
    /// Folders besides `PATH`: where they lie, how they begin, what follows.
    folders: &'static [(&'static str, &'static str, &'static str)],
    /// Runs as another user where we are root.
    pub(crate) refuses_root: bool,
    /// Lets it end in order, without waiting for its clients.
    pub(crate) stop: Signal,
    /// The signal after which nothing has to be saved, and its name.
    pub(crate) last: (Signal, &'static str),
    /// Whether the compose file has it.
    in_compose: bool,
    /// The command that installs it with apt, and with Homebrew.
    fixes: (&'static str, &'static str),
    found: OnceLock<Result<Source, String>>,
}

pub(crate) static POSTGRES: Service = Service {
    name: "PostgreSQL",
    key: "postgres",
    variable: Some("DATABASE_URL"),
    programs: &["postgres", "initdb"],
    least: &[15],
    folders: &[
        ("/usr/lib/postgresql", "", "bin"),
        ("/opt/homebrew/opt", "postgresql@", "bin"),
        ("/usr/local/opt", "postgresql@", "bin"),
    ],
    refuses_root: true,
    // Its "fast" shutdown.
    stop: Signal::INT,
    // It needs a moment to give its shared memory back.
    last: (Signal::QUIT, "QUIT"),
    in_compose: true,
    fixes: (
        "sudo apt-get install -y postgresql",
        "brew install postgresql@17",
    ),
    found: OnceLock::new(),
};

pub(crate) static REDIS: Service = Service {
    name: "Redis",
    key: "redis",
    variable: Some("REDIS_URL"),
    programs: &["redis-server"],
    least: &[7],
    folders: &[
        ("/opt/homebrew/opt", "redis", "bin"),
        ("/usr/local/opt", "redis", "bin"),
    ],
    refuses_root: false,
    stop: Signal::TERM,
    last: (Signal::KILL, "KILL"),
    in_compose: true,
    fixes: ("sudo apt-get install -y redis-server", "brew install redis"),
    found: OnceLock::new(),
};

pub(crate) static PROMETHEUS: Service = Service {
    name: "Prometheus",
    key: "prometheus",
    variable: None,
    programs: &["prometheus", "promtool"],
    least: &[2, 30],
    folders: &[
        ("/opt/homebrew/opt", "prometheus", "bin"),
        ("/usr/local/opt", "prometheus", "bin"),
    ],
    refuses_root: false,
    stop: Signal::TERM,
    last: (Signal::KILL, "KILL"),
    in_compose: false,
    fixes: (
        "sudo apt-get install -y prometheus",
        "brew install prometheus",
    ),
    found: OnceLock::new(),
};

pub(crate) static MEMCACHED: Service = Service {
    name: "memcached",
    key: "memcached",
    variable: None,
    programs: &["memcached"],
    least: &[1, 5],
    folders: &[
        ("/opt/homebrew/opt", "memcached", "bin"),
        ("/usr/local/opt", "memcached", "bin"),
    ],
    refuses_root: true,
    stop: Signal::TERM,
    last: (Signal::KILL, "KILL"),
    in_compose: false,
    fixes: (
        "sudo apt-get install -y memcached",
        "brew install memcached",
    ),
    found: OnceLock::new(),
};

/// A browser without a window, and the program that drives it.
pub(crate) static CHROMIUM: Service = Service {
    name: "Chromium",
    key: "chromium",
    variable: None,
    programs: &["chromium-headless-shell", "chromedriver"],
    least: &[120],
    folders: &[],
    refuses_root: false,
    stop: Signal::TERM,
    last: (Signal::KILL, "KILL"),
    in_compose: false,
    fixes: (
        "sudo apt-get install -y chromium-headless-shell chromium-driver libnss3-tools",
        "use a machine with Debian's packages",
    ),
    found: OnceLock::new(),
};

/// The first version that knows prepared statements in transaction mode.
pub(crate) static PGBOUNCER: Service = pgbouncer("pgbouncer", &[1, 21]);

/// Whatever the distribution has, which may be older than that.
pub(crate) static PGBOUNCER_OF_ANY_AGE: Service = pgbouncer("pgbouncer-of-any-age", &[1]);

const fn pgbouncer(key: &'static str, least: &'static [u32]) -> Service {
    Service {
        name: "PgBouncer",
        key,
        variable: None,
        programs: &["pgbouncer"],
        least,
        folders: &[
            ("/usr", "sbin", ""),
            ("/opt/homebrew/opt", "pgbouncer", "bin"),
            ("/usr/local/opt", "pgbouncer", "bin"),
        ],
        refuses_root: true,
        // The others wait, for transactions or for clients.
        stop: Signal::QUIT,
        last: (Signal::KILL, "KILL"),
        in_compose: false,
        fixes: (
            "sudo apt-get install -y pgbouncer",
            "brew install pgbouncer",
        ),
        found: OnceLock::new(),
    }
}

/// Programs ready to run, or a container.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Programs(Programs),
    Compose,
}

/// A folder of programs and where their libraries are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) folder: PathBuf,
    /// For `LD_LIBRARY_PATH`; nothing for installed programs.
    pub(crate) libraries: Option<OsString>,
    pub(crate) version: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Url,
    Path,
    Packages,
    Docker,
}

const WAYS: [(Way, &str); 4] = [
    (Way::Url, "url"),
    (Way::Path, "path"),
    (Way::Packages, "packages"),
    (Way::Docker, "docker"),
];

/// The way that `MAXSCALE_TEST_SERVERS` forces.
fn forced() -> Option<Way> {
    let text = env::text("MAXSCALE_TEST_SERVERS")?;
    let way = WAYS.iter().find(|(_, name)| *name == text);
    assert!(
        way.is_some(),
        "MAXSCALE_TEST_SERVERS={text}: expected url, path, packages or docker"
    );
    way.map(|(way, _)| *way)
}

/// The URL of a running server that this run may share.
pub(crate) fn url(service: &Service) -> Option<String> {
    let forced = forced();
    if !matches!(forced, None | Some(Way::Url)) {
        return None;
    }
    let variable = service.variable?;
    let url = env::text(variable);
    assert!(
        url.is_some() || forced.is_none(),
        "MAXSCALE_TEST_SERVERS=url, but {variable} is not set"
    );
    if url.is_some() {
        announce(service, &format!("url: {variable}"));
    }
    url
}

/// The way to a server of our own, searched once per process; it blocks.
///
/// # Panics
///
/// Panics with all that was tried when there is none.
pub(crate) fn source(service: &'static Service) -> Source {
    match service.found.get_or_init(|| search(service)) {
        Ok(source) => source.clone(),
        Err(message) => panic!("{message}"),
    }
}

fn search(service: &Service) -> Result<Source, String> {
    let forced = forced().filter(|way| *way != Way::Url);
    let mut tried = String::new();
    for (way, name) in WAYS {
        if way == Way::Url || forced.is_some_and(|forced| forced != way) {
            continue;
        }
        let found = match way {
            Way::Path => installed(service).map(Source::Programs),
            Way::Packages => packages::unpacked(service).map(Source::Programs),
            Way::Url | Way::Docker if service.in_compose => {
                compose::available().map(|()| Source::Compose)
            }
            Way::Url | Way::Docker => Err("tests/compose.yaml does not have it".to_owned()),
        };
        match found {
            Ok(source) => {
                match &source {
                    Source::Programs(programs) => announce(
                        service,
                        &format!("{name}: {} {}", programs.folder.display(), programs.version),
                    ),
                    Source::Compose => announce(service, "docker: compose"),
                }
                return Ok(source);
            }
            Err(why) => {
                let _ = writeln!(tried, "  {name}: {why}");
            }
        }
    }
    Err(format!(
        "no {} (version {} or newer) for this test. Tried:\n  url: {}\n{tried}To fix it: {}",
        service.name,
        dotted(service.least),
        not_by_url(service),
        fix(service),
    ))
}

fn not_by_url(service: &Service) -> String {
    let Some(variable) = service.variable else {
        return "no variable names one".to_owned();
    };
    match env::text(variable) {
        Some(_) => {
            format!("{variable} serves only tests that share a server, this one breaks its own")
        }
        None => format!("{variable} is not set"),
    }
}

/// What is said where a container does not do.
pub(crate) fn programs_only(service: &Service) -> String {
    format!(
        "this test needs {} as programs on the machine, not in a container. To fix it: {}",
        service.name,
        fix(service)
    )
}

fn fix(service: &Service) -> String {
    if env::which("apt-get").is_some() {
        service.fixes.0.to_owned()
    } else if env::which("brew").is_some() {
        service.fixes.1.to_owned()
    } else {
        format!(
            "install {} with the system's package manager, or start Docker",
            service.name
        )
    }
}

fn installed(service: &Service) -> Result<Programs, String> {
    let mut folders: Vec<PathBuf> = env::which(service.programs[0])
        .and_then(|program| program.canonicalize().ok())
        .and_then(|program| program.parent().map(Path::to_path_buf))
        .into_iter()
        .collect();
    for (parent, start, end) in service.folders {
        let Ok(entries) = fs::read_dir(parent) else {
            continue;
        };
        let mut more: Vec<_> = entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(start))
            .map(|entry| entry.path().join(end))
            .collect();
        // The newest first, and 9 is older than 15.
        more.sort_by_key(|folder| (folder.as_os_str().len(), folder.clone()));
        folders.extend(more.into_iter().rev());
    }
    let mut why = format!("`{}` is neither on PATH", service.programs[0]);
    for (parent, start, end) in service.folders {
        let _ = write!(why, " nor in {parent}/{start}*/{end}");
    }
    for folder in folders {
        match checked(service, folder, None) {
            Ok(programs) => return Ok(programs),
            Err(reason) => {
                let _ = write!(why, "; {reason}");
            }
        }
    }
    Err(why)
}

/// Runs `--version` as the server's user: they are all there, run, and are new
/// enough.
fn checked(
    service: &Service,
    folder: PathBuf,
    libraries: Option<OsString>,
) -> Result<Programs, String> {
    let mut said = String::new();
    for program in service.programs.iter().rev() {
        let mut command = Command::new(folder.join(program));
        command.arg("--version").current_dir("/");
        as_server(service, &mut command, libraries.as_ref());
        said = run(command)?;
    }
    // "postgres (PostgreSQL) 15.18 (Debian ..)", "Redis server v=7.0.15 sha=.."
    let version = said
        .split(|c: char| c.is_whitespace() || c == '=')
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .unwrap_or_default();
    if !is_new_enough(service, version) {
        return Err(format!("{} has {}", folder.display(), said.trim()));
    }
    Ok(Programs {
        folder,
        libraries,
        version: version.to_owned(),
    })
}

/// Compares a version that begins with numbers and dots.
pub(crate) fn is_new_enough(service: &Service, version: &str) -> bool {
    let numbers = version.split(|c: char| !c.is_ascii_digit());
    let numbers: Vec<u32> = numbers.map_while(|number| number.parse().ok()).collect();
    numbers.as_slice() >= service.least
}

/// A version as people write it.
pub(crate) fn dotted(version: &[u32]) -> String {
    let numbers: Vec<_> = version.iter().map(u32::to_string).collect();
    numbers.join(".")
}

/// Lets a command run as the server does: its user, its libraries, no other
/// variable.
pub(crate) fn as_server(service: &Service, command: &mut Command, libraries: Option<&OsString>) {
    use std::os::unix::process::CommandExt;

    command
        .env_clear()
        .env("PATH", env::path())
        .env("LC_ALL", "C");
    if let Some(libraries) = libraries {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    if let Some(user) = devservices::unprivileged().filter(|_| service.refuses_root) {
        command.uid(user.uid).gid(user.gid);
    }
}

/// A command's standard output, or why it failed.
pub(crate) fn run(mut command: Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last: Vec<_> = said.lines().rev().take(3).collect();
        let last: Vec<_> = last.into_iter().rev().collect();
        return Err(format!("{name}: {}: {}", output.status, last.join(" / ")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Past the capture of the test runner: which server a run took is not for
/// failed tests only.
fn announce(service: &Service, from: &str) {
    let _ = writeln!(stderr(), "maxscale-tests: {} from {from}", service.name);
}

#[cfg(test)]
mod tests {
    use super::{PGBOUNCER, is_new_enough};

    #[test]
    fn versions_are_compared_number_by_number() {
        for (version, expected) in [
            ("1.18.0", false),
            ("1.9.0", false),
            ("1", false),
            ("1.21", true),
            ("1.24.1-1+deb13u2", true),
            ("2.0", true),
            ("", false),
        ] {
            assert_eq!(is_new_enough(&PGBOUNCER, version), expected, "{version}");
        }
    }
}
