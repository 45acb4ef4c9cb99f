//! The folder itself: that it can be used, and what cut-off uploads left in it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::UNIX_EPOCH;

use maxscale_core::clock::Timestamp;

use super::key::is_name;

/// Makes the folder if need be, lasting, and tries to write in it.
pub(super) fn prepare(root: &Path) -> io::Result<()> {
    if root == Path::new("") {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let missing: Vec<_> = root.ancestors().take_while(|dir| !dir.exists()).collect();
    fs::create_dir_all(root)?;
    for dir in missing {
        // A new folder is on disk when the one above it is.
        match dir.parent() {
            Some(above) if above != Path::new("") => File::open(above)?.sync_all()?,
            _ => File::open(".")?.sync_all()?,
        }
    }
    // Named as a temporary file, so that a crash in between leaves nothing for ever.
    let probe = root.join(format!("probe#{}", std::process::id()));
    let written = File::create(&probe).and_then(|mut file| {
        file.write_all(b"writable")?;
        file.sync_all()
    });
    fs::remove_file(&probe).or_else(ignore_missing)?;
    written
}

/// Removes temporary files below `root` that were last written before `cutoff`.
pub(super) fn remove_stale(root: &Path, cutoff: Timestamp) -> io::Result<u64> {
    let mut removed = 0;
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && is_upload(&entry.file_name()) {
                removed += u64::from(remove_if_stale(&entry, cutoff)?);
            }
        }
    }
    Ok(removed)
}

fn remove_if_stale(entry: &fs::DirEntry, cutoff: Timestamp) -> io::Result<bool> {
    let modified = match entry.metadata() {
        Ok(metadata) => metadata.modified()?,
        // Finished or given up since the folder was read.
        Err(error) => return ignore_missing(error).map(|()| false),
    };
    let since_epoch = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    if Timestamp::from_micros(0).after(since_epoch) >= cutoff {
        return Ok(false);
    }
    fs::remove_file(entry.path()).or_else(ignore_missing)?;
    Ok(true)
}

/// Whether this is the name of a temporary file: a key's last part, `#`, a number.
/// No key has a `#`.
fn is_upload(name: &OsStr) -> bool {
    name.to_str()
        .and_then(|name| name.split_once('#'))
        .is_some_and(|(target, number)| {
            is_name(target)
                && !number.is_empty()
                && number.bytes().all(|byte| byte.is_ascii_digit())
        })
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}
