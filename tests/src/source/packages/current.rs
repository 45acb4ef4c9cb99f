//! Packages of Debian's current release, for a machine whose own is older.
//!
//! Their programs need a newer C library than the machine's, so that all
//! libraries come along and a script runs the program with them.

use std::{
    fs::{self, read_dir},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{Apt, Reason, inside as unpacked, run};
use crate::source::{Service, dotted};

/// The scripts' folder in an unpacked root.
const SCRIPTS: &str = "with-libraries";

/// The folder of programs, if the root is of this kind.
pub(super) fn inside(root: &Path) -> Option<PathBuf> {
    let folder = root.join(SCRIPTS);
    folder.is_dir().then_some(folder)
}

/// Unpacks the packages with all their libraries.
pub(super) fn fetch(
    service: &Service,
    names: &[String],
    apt: &Apt,
    root: &Path,
) -> Result<(), Reason> {
    let apt = current(service, apt)?;
    run(apt.command("apt-get", &["update"]))?;
    if !apt.offers(service, names)? {
        return Err(too_old(service).into());
    }
    let libraries = apt.all_libraries(names)?;
    apt.unpack(libraries.iter().chain(names), root)?;
    scripts(service, root)
}

/// apt as it is, but for where its packages are from.
fn current(service: &Service, apt: &Apt) -> Result<Apt, Reason> {
    let format = "$(ORIGIN) $(LABEL) $(COMPONENT) $(SITE)";
    let targets = ["indextargets", "--format", format, "Created-By: Packages"];
    let targets = run(apt.command("apt-get", &targets))?;
    let mirror = targets
        .lines()
        .find_map(|line| line.strip_prefix("Debian Debian main "))
        .ok_or_else(|| too_old(service))?;

    let folder = apt.folder.join("current");
    fs::create_dir_all(folder.join("lists/partial"))?;
    fs::write(
        folder.join("sources"),
        format!("deb {mirror} stable main\n"),
    )?;
    // What the machine has is of another release.
    fs::write(folder.join("status"), "")?;
    let at = folder.display();
    let own = format!(
        "Dir::Etc::sourcelist \"{at}/sources\";\n\
         Dir::Etc::sourceparts \"/dev/null\";\n\
         Dir::State::lists \"{at}/lists\";\n\
         Dir::State::status \"{at}/status\";\n"
    );
    let config = folder.join("apt.conf");
    fs::write(&config, fs::read_to_string(&apt.config)? + &own)?;
    Ok(Apt {
        folder: apt.folder.clone(),
        config,
    })
}

fn too_old(service: &Service) -> String {
    format!(
        "apt offers no {} of version {} or newer",
        service.key,
        dotted(service.least)
    )
}

/// Scripts that run the programs with the loader and the libraries beside them.
fn scripts(service: &Service, root: &Path) -> Result<(), Reason> {
    let (programs, libraries) = unpacked(service, root)?;
    let libraries = PathBuf::from(libraries);
    let loader = read_dir(&libraries)?
        .flatten()
        .find(|file| file.file_name().to_string_lossy().starts_with("ld-linux"))
        .ok_or_else(|| format!("{} has no loader", libraries.display()))?;
    // The root gets another name once it is complete.
    let below = |path: &Path| {
        let path = path.strip_prefix(root).unwrap_or(path).to_path_buf();
        path.display().to_string()
    };
    let folder = root.join(SCRIPTS);
    fs::create_dir(&folder)?;
    for program in service.programs {
        let script = format!(
            "#!/bin/sh\n\
             root=${{0%/*}}/..\n\
             exec \"$root/{}\" --library-path \"$root/{}\" \"$root/{}\" \"$@\"\n",
            below(&loader.path()),
            below(&libraries),
            below(&programs.join(program)),
        );
        let path = folder.join(program);
        fs::write(&path, script)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
