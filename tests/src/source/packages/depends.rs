//! Which packages of libraries a program needs, read from apt's list.

use std::collections::{BTreeMap, BTreeSet};

/// The libraries in what `apt-cache depends --recurse` lists for `names`.
///
/// They are followed through libraries alone. What a program links, its own package
/// depends on, and what a library links, the library's; the way through desktops and
/// installers, which packages depend on too, ends at several hundred.
pub(super) fn libraries(listing: &str, names: &[String]) -> BTreeSet<String> {
    let depends = parse(listing);
    let mut found = BTreeSet::new();
    let mut open: Vec<_> = names.iter().map(String::as_str).collect();
    while let Some(name) = open.pop() {
        for needed in depends.get(name).into_iter().flatten() {
            // Compiled queries of PostgreSQL are off.
            let wanted = needed.starts_with("lib") && !needed.starts_with("libllvm");
            // A name without a list of its own is no package that can be had.
            if wanted && depends.contains_key(needed) && found.insert((*needed).to_owned()) {
                open.push(needed);
            }
        }
    }
    found
}

/// Each package with what it depends on: all alternatives, and all that provide what
/// is no package but a name.
fn parse(listing: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut depends = BTreeMap::<_, Vec<_>>::new();
    let mut package = "";
    let mut provided = false;
    for line in listing.lines() {
        if !line.starts_with(' ') {
            package = line;
            depends.entry(package).or_default();
            continue;
        }
        let name = match line.split_once("Depends: ") {
            Some((_, name)) => {
                provided = name.starts_with('<');
                name
            }
            None if provided => line.trim_start(),
            // It provides a package that is there itself.
            None => continue,
        };
        depends.entry(package).or_default().push(name);
    }
    depends
}

#[cfg(test)]
mod tests {
    use super::libraries;

    const LISTING: &str = "browser
 |Depends: desktop
  Depends: libnone
  Depends: libone1
    libone-of-others
 |Depends: libtwo2
  Depends: <libtwo-abi>
    libtwo-abi-2
  PreDepends: libearly
desktop
  Depends: libgtk
libearly
libgtk
libone1
  Depends: libdeep
  Depends: libllvm14
libone-of-others
libdeep
  Depends: libone1
libllvm14
libtwo2
libtwo-abi-2
<libtwo-abi>
unrelated
  Depends: libunrelated
libunrelated
";

    #[test]
    fn libraries_are_followed_through_libraries_alone() {
        let found = libraries(LISTING, &["browser".to_owned()]);
        let found: Vec<_> = found.iter().map(String::as_str).collect();
        assert_eq!(
            found,
            ["libdeep", "libearly", "libone1", "libtwo-abi-2", "libtwo2"]
        );
    }
}
