//! `target/devservices/`: what may outlive a run, and where a run lives.

use std::{
    env::current_exe,
    fs::{self, File},
    io::{Error, ErrorKind},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::{env, watchdog};

/// Whom a server runs as where the tests run as root, which PostgreSQL refuses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The user for a server that refuses root; `None`: the one we are.
pub(crate) fn unprivileged() -> Option<User> {
    static USER: OnceLock<Option<User>> = OnceLock::new();
    *USER.get_or_init(|| {
        rustix::process::geteuid().is_root().then(|| {
            ["postgres", "nobody"]
                .into_iter()
                .find_map(|name| {
                    Some(User {
                        uid: id_of("-u", name)?,
                        gid: id_of("-g", name)?,
                    })
                })
                .expect("root's machine has a user postgres or nobody")
        })
    })
}

fn id_of(which: &str, user: &str) -> Option<u32> {
    let output = Command::new("id").args([which, user]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// The cache, created if need be; `MAXSCALE_TEST_CACHE` puts it elsewhere.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = env::text("MAXSCALE_TEST_CACHE")
            .map_or_else(|| target().join("devservices"), PathBuf::from);
        fs::create_dir_all(&folder)
            .and_then(|()| folder.canonicalize())
            .unwrap_or_else(|error| panic!("cannot create {}: {error}", folder.display()))
    })
}

/// Where a run's own folder is made: in the cache, or in the system's
/// temporary folder where the servers' user cannot enter the cache.
pub(crate) fn runs() -> PathBuf {
    let runs = folder().join("runs");
    fs::create_dir_all(&runs)
        .unwrap_or_else(|error| panic!("cannot create {}: {error}", runs.display()));
    if is_open(&runs) {
        runs
    } else {
        std::env::temp_dir()
    }
}

/// Whether the servers' user can read what lies in this folder.
pub(crate) fn is_open(folder: &Path) -> bool {
    unprivileged().is_none()
        || folder.ancestors().all(|folder| {
            fs::metadata(folder).is_ok_and(|data| data.permissions().mode() & 0o001 != 0)
        })
}

fn target() -> PathBuf {
    // cargo marks its target folder so; the program under test lies in it,
    // whatever the folder is called and whoever chose it.
    let marked = current_exe().ok().and_then(|exe| {
        exe.ancestors()
            .find(|folder| folder.join("CACHEDIR.TAG").is_file())
            .map(Path::to_path_buf)
    });
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    marked
        .or_else(|| env::text("CARGO_TARGET_DIR").map(|folder| workspace.join(folder)))
        .unwrap_or_else(|| workspace.join("target"))
}

/// The folder `name` in `parent`, made by `make` if it is not there yet.
///
/// Whole or absent: `make` gets a folder of another name, renamed at its end,
/// and a lock lets only one process at a time make it.
pub(crate) fn cached<E: From<Error>>(
    parent: &Path,
    name: &str,
    make: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<PathBuf, E> {
    let folder = parent.join(name);
    if folder.is_dir() {
        return Ok(folder);
    }
    let lock = File::create(parent.join(format!("{name}.lock")))?;
    lock.lock()?;
    if folder.is_dir() {
        return Ok(folder);
    }
    // Whoever was killed while making it left a half, and a child of theirs
    // may still write there: ours has another name.
    let halves = format!("{name}.half-");
    for entry in fs::read_dir(parent)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&halves) {
            let _ = remove(&entry.path());
        }
    }
    let half = parent.join(format!("{halves}{}", watchdog::run_name()));
    fs::create_dir(&half)?;
    let made = make(&half);
    if made.is_err() {
        remove(&half)?;
    }
    made?;
    fs::rename(&half, &folder)?;
    Ok(folder)
}

/// Removes a folder; one that is not there is no error.
pub(crate) fn remove(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Error,
        sync::atomic::{AtomicU32, Ordering},
        thread,
    };

    use super::cached;
    use crate::watchdog::new_folder;

    #[test]
    fn a_folder_that_many_want_at_once_is_made_once() {
        let parent = new_folder("cached");
        let made = AtomicU32::new(0);

        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let folder = cached::<Error>(&parent, "it", |half| {
                        made.fetch_add(1, Ordering::Relaxed);
                        fs::write(half.join("one"), "1")?;
                        thread::yield_now();
                        fs::write(half.join("two"), "2")
                    });
                    assert!(folder.unwrap().join("two").is_file());
                });
            }
        });

        assert_eq!(made.into_inner(), 1);
    }

    #[test]
    fn a_folder_that_cannot_be_made_whole_is_not_there() {
        let parent = new_folder("cached");

        let failed = cached(&parent, "it", |half| {
            fs::write(half.join("one"), "1")?;
            Err(Error::other("the network is gone"))
        });

        assert!(failed.is_err());
        let left: Vec<_> = fs::read_dir(&parent).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "only the lock: {left:?}");
    }

    #[test]
    fn what_a_killed_maker_left_is_not_taken() {
        let parent = new_folder("cached");
        fs::create_dir(parent.join("it.half-1")).unwrap();
        fs::write(parent.join("it.half-1/broken"), "").unwrap();

        let folder = cached::<Error>(&parent, "it", |_| Ok(())).unwrap();

        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
        assert!(!parent.join("it.half-1").exists());
    }
}
