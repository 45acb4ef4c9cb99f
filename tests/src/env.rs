//! The variables that the harness reads; nothing else here reads any.

use std::{env, ffi::OsString, path::PathBuf};

/// A variable's text, if it is set and not empty.
pub(crate) fn text(name: &str) -> Option<String> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(|value| value.to_string_lossy().into_owned())
}

/// The search path that programs are found on and children inherit.
pub(crate) fn path() -> OsString {
    env::var_os("PATH").unwrap_or_default()
}

/// The first program of this name on the search path.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    env::split_paths(&path())
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
