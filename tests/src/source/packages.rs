//! Servers from the distribution's packages, unpacked and not installed.
//!
//! apt works on lists, a cache and a configuration of its own in
//! `target/devservices/`, so that it needs neither root nor an earlier
//! `apt-get update` and changes nothing on the machine.

mod current;
mod depends;

use std::{
    collections::BTreeSet,
    env::join_paths,
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use super::{Programs, Service, checked, is_new_enough, run};
use crate::{
    devservices::{cached, folder, is_open, remove},
    env, watchdog,
};

/// Relations that name no package a program needs.
const NO_OTHERS: [&str; 7] = [
    "--no-recommends",
    "--no-suggests",
    "--no-conflicts",
    "--no-breaks",
    "--no-replaces",
    "--no-enhances",
    "--recurse",
];

/// The cached packages of a service, fetched if need be.
pub(super) fn unpacked(service: &Service) -> Result<Programs, String> {
    for tool in ["apt-get", "apt-cache", "apt-config", "dpkg"] {
        if env::which(tool).is_none() {
            return Err(format!("`{tool}` is not on PATH"));
        }
    }
    let parent = folder().join("packages");
    fs::create_dir_all(&parent).map_err(|error| error.to_string())?;
    let root = cached(&parent, service.key, |root| fetch(service, root))
        .map_err(|Reason(reason)| reason)?;
    let root = if service.refuses_root && !is_open(&root) {
        reachable(&root)?
    } else {
        root
    };
    let (folder, libraries) = match current::inside(&root) {
        Some(folder) => (folder, None),
        None => inside(service, &root).map(|(folder, libraries)| (folder, Some(libraries)))?,
    };
    checked(service, folder, libraries)
        .map_err(|why| format!("{why} (remove {} to fetch it anew)", parent.display()))
}

struct Reason(String);

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<String> for Reason {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

/// A copy for this run where the server's user may not enter the cache.
fn reachable(root: &Path) -> Result<PathBuf, String> {
    let copy = watchdog::new_folder("packages");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))
        .map_err(|error| error.to_string())?;
    let mut command = Command::new("cp");
    command.arg("-R").arg(root.join(".")).arg(&copy);
    run(command)?;
    Ok(copy)
}

fn fetch(service: &Service, root: &Path) -> Result<(), Reason> {
    let apt = Apt::new(root)?;
    // A source that cannot be reached is only a problem if ours was in it,
    // and then the download says so.
    let updated = run(apt.command("apt-get", &["update"]));
    let names = names(service, &apt);
    let names = names.map_err(|reason| match &updated {
        Err(update) => format!("{reason} ({update})"),
        Ok(_) => reason,
    })?;
    if !apt.offers(service, &names)? {
        current::fetch(service, &names, &apt, root)?;
        remove(&apt.folder)?;
        return Ok(());
    }
    apt.unpack(names.iter(), root)?;
    unwrap(root)?;

    let missing = missing(service, root)?;
    if !missing.is_empty() {
        apt.unpack(apt.libraries(&names)?.iter(), root)?;
        let missing = self::missing(service, root)?;
        if !missing.is_empty() {
            let missing: Vec<_> = missing.into_iter().collect();
            return Err(format!("no package has {}", missing.join(", ")).into());
        }
    }
    remove(&apt.folder)?;
    Ok(())
}

/// The packages to begin with; their libraries follow as they are missed.
fn names(service: &Service, apt: &Apt) -> Result<Vec<String>, String> {
    match service.programs[0] {
        "redis-server" => return Ok(["redis-server", "redis-tools"].map(str::to_owned).to_vec()),
        "memcached" => return Ok(vec!["memcached".to_owned()]),
        "pgbouncer" => return Ok(vec!["pgbouncer".to_owned()]),
        "prometheus" => return Ok(vec!["prometheus".to_owned()]),
        // It ends at once without the tables of the common package; certutil is what
        // tells it whom to trust.
        "chromium-headless-shell" => {
            let names = [
                "chromium-headless-shell",
                "chromium-common",
                "chromium-driver",
                "libnss3-tools",
            ];
            return Ok(names.map(str::to_owned).to_vec());
        }
        _ => {}
    }
    let listed = run(apt.command(
        "apt-cache",
        &["search", "--names-only", "^postgresql-[0-9]+$"],
    ))?;
    let newest = listed
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("postgresql-")?.parse::<u32>().ok())
        .max()
        .filter(|major| [*major].as_slice() >= service.least)
        .ok_or("apt offers no postgresql that is new enough")?;
    Ok(vec![
        format!("postgresql-{newest}"),
        format!("postgresql-client-{newest}"),
        "libpq5".to_owned(),
    ])
}

/// Debian's program is a script that names the place it would be installed in; its
/// name gets to what it runs.
fn unwrap(root: &Path) -> io::Result<()> {
    let script = root.join("usr/bin/chromium-headless-shell");
    if script.is_file() {
        fs::remove_file(&script)?;
        symlink("../lib/chromium/chromium-headless-shell", &script)?;
    }
    Ok(())
}

/// The folders of programs and of libraries below an unpacked root.
fn inside(service: &Service, root: &Path) -> Result<(PathBuf, std::ffi::OsString), String> {
    let mut libraries = Vec::new();
    for parent in ["usr/lib", "lib"] {
        let Ok(entries) = fs::read_dir(root.join(parent)) else {
            continue;
        };
        libraries.extend(
            entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.to_string_lossy().contains("-linux-"))
                // Where a library looks for its own part, if it is installed.
                .flat_map(|path| [path.join("pulseaudio"), path])
                .filter(|path| path.is_dir()),
        );
    }
    let libraries = join_paths(libraries).map_err(|error| error.to_string())?;
    let versions = root.join("usr/lib/postgresql");
    let folder = if service.key == "postgres" {
        fs::read_dir(&versions)
            .ok()
            .and_then(|mut entries| entries.next()?.ok())
            .map(|entry| entry.path().join("bin"))
            .ok_or_else(|| format!("{} is empty", versions.display()))?
    } else if service.programs == ["pgbouncer"] {
        root.join("usr/sbin")
    } else {
        root.join("usr/bin")
    };
    Ok((folder, libraries))
}

/// The shared libraries that neither the machine nor the root has.
fn missing(service: &Service, root: &Path) -> Result<BTreeSet<String>, String> {
    let (folder, libraries) = inside(service, root)?;
    let mut missing = BTreeSet::new();
    for program in fs::read_dir(folder)
        .map_err(|error| error.to_string())?
        .flatten()
    {
        let mut command = Command::new("ldd");
        command
            .arg(program.path())
            .env("LD_LIBRARY_PATH", &libraries);
        // Some programs are scripts; ldd refuses them.
        let listed = run(command).unwrap_or_default();
        missing.extend(
            listed
                .lines()
                .filter(|line| line.ends_with("not found"))
                .filter_map(|line| line.split_whitespace().next())
                .map(str::to_owned),
        );
    }
    Ok(missing)
}

struct Apt {
    folder: PathBuf,
    config: PathBuf,
}

impl Apt {
    fn new(root: &Path) -> Result<Self, Reason> {
        let folder = root.join("apt");
        fs::create_dir_all(folder.join("state/lists/partial"))?;
        fs::create_dir_all(folder.join("cache/archives/partial"))?;
        fs::create_dir_all(folder.join("packages"))?;
        // The machine's configuration (a proxy, for instance) without the
        // scripts that an update runs on the machine's own lists.
        let mut dump = Command::new("apt-config");
        dump.arg("dump");
        let machine = run(dump)?;
        let kept = machine
            .lines()
            .filter(|line| !line.contains("Invoke"))
            .collect::<Vec<_>>()
            .join("\n");
        let at = folder.display();
        let config = folder.join("apt.conf");
        fs::write(
            &config,
            format!(
                "{kept}\n\
                 Dir::Etc::main \"/dev/null\";\n\
                 Dir::Etc::parts \"/dev/null\";\n\
                 Dir::State \"{at}/state\";\n\
                 Dir::State::status \"/var/lib/dpkg/status\";\n\
                 Dir::Cache \"{at}/cache\";\n\
                 Debug::NoLocking \"1\";\n\
                 APT::Sandbox::User \"\";\n\
                 Acquire::Languages \"none\";\n\
                 Acquire::Retries \"2\";\n\
                 Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n"
            ),
        )?;
        Ok(Self { folder, config })
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.folder.join("packages"))
            .env("APT_CONFIG", &self.config)
            .env("LC_ALL", "C");
        command
    }

    /// Whether the first of the packages is new enough.
    fn offers(&self, service: &Service, names: &[String]) -> Result<bool, String> {
        let shown = run(self.command("apt-cache", &["show", "--no-all-versions", &names[0]]))?;
        let version = shown
            .lines()
            .find_map(|line| line.strip_prefix("Version: "));
        let version = version.ok_or_else(|| format!("apt offers no {}", names[0]))?;
        // "5:7.0.15-1~deb12u1": what is before the colon counts repackagings.
        let (_, version) = version.split_once(':').unwrap_or(("", version));
        Ok(is_new_enough(service, version))
    }

    /// Downloads packages and unpacks them into `root`.
    fn unpack<'n>(
        &self,
        names: impl Iterator<Item = &'n String>,
        root: &Path,
    ) -> Result<(), Reason> {
        let mut download = vec!["download", "-q"];
        download.extend(names.map(String::as_str));
        run(self.command("apt-get", &download))?;
        for package in fs::read_dir(self.folder.join("packages"))? {
            let package = package?.path();
            let mut command = Command::new("dpkg");
            command.arg("-x").arg(&package).arg(root);
            run(command)?;
            fs::remove_file(package)?;
        }
        Ok(())
    }

    /// All libraries that the packages depend on and the machine lacks.
    fn libraries(&self, names: &[String]) -> Result<BTreeSet<String>, String> {
        let mut query = Command::new("dpkg-query");
        query.args(["-W", "-f", "${Package} ${db:Status-Status}\n"]);
        let installed = run(query)?;
        let installed: BTreeSet<_> = installed
            .lines()
            .filter_map(|line| line.strip_suffix(" installed"))
            .collect();
        let mut needed = self.all_libraries(names)?;
        needed.retain(|name| !installed.contains(name.as_str()));
        Ok(needed)
    }

    /// All libraries that the packages depend on.
    fn all_libraries(&self, names: &[String]) -> Result<BTreeSet<String>, String> {
        let mut arguments = vec!["depends"];
        arguments.extend(NO_OTHERS);
        arguments.extend(names.iter().map(String::as_str));
        let listing = run(self.command("apt-cache", &arguments))?;
        Ok(depends::libraries(&listing, names))
    }
}
