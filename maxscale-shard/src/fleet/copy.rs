//! The last good map and what else a start asks the catalog for, kept in a file:
//! a start without the catalog goes on from it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::hex::{hex, unhex};
use crate::keyspace::Keyspace;
use crate::topology::{NodeId, Topology};

/// What the file tells, besides that it is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MapCopy {
    pub(super) cluster: Uuid,
    pub(super) home: Home,
    /// What the catalog remembers, as far as it was asked for.
    pub(super) memory: Memory,
    pub(super) topology: Topology,
}

/// Values by their names. What is stored under a name is never changed.
pub(super) type Memory = BTreeMap<String, Vec<u8>>;

/// Where the catalog is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// In a database of its own.
    Apart,
    Node(NodeId),
}

const TITLE: &str = "maxscale map 1";

// === impl MapCopy ===

impl MapCopy {
    /// The map that was kept, if there is one of this keyspace. One that cannot be
    /// read is told in the log, and counts as none.
    pub(super) async fn read(path: PathBuf, keyspace: &Keyspace) -> Option<Self> {
        let told = path.clone();
        let text = spawn_blocking(move || fs::read_to_string(path)).await;
        let text = match text.map_err(io::Error::from).and_then(|read| read) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %told.display(), %error, "cannot read the map that was kept");
                return None;
            }
        };
        let copy = Self::parse(&text, keyspace);
        if copy.is_none() {
            tracing::warn!(path = %told.display(), "what was kept there is no map of this keyspace; it is passed by");
        }
        copy
    }

    /// Replaces the file: it holds the old map or the new one, whatever happens.
    pub(super) async fn write(self, path: PathBuf, keyspace: &Keyspace) -> io::Result<()> {
        let text = self.text(keyspace);
        spawn_blocking(move || replace(&path, &text)).await?
    }

    fn text(&self, keyspace: &Keyspace) -> String {
        let home = match &self.home {
            Home::Apart => "apart".to_owned(),
            Home::Node(node) => format!("on {node}"),
        };
        let (cluster, identity) = (self.cluster, identity(keyspace));
        let mut text = format!("{TITLE}\ncluster {cluster}\nkeyspace {identity}\ncatalog {home}\n");
        // Writing into a String cannot fail.
        for (name, value) in &self.memory {
            let _ = writeln!(text, "memory {} {name}", hex(value));
        }
        let _ = write!(text, "map\n{}", self.topology);
        let sum = sum(&text);
        let _ = writeln!(text, "sha256 {sum}");
        text
    }

    fn parse(text: &str, keyspace: &Keyspace) -> Option<Self> {
        let body = text.strip_suffix('\n')?;
        let (_, last) = body.rsplit_once('\n')?;
        let body = body.strip_suffix(last)?;
        if last.strip_prefix("sha256 ")? != sum(body) {
            return None;
        }
        let (told, map) = body.split_once("\nmap\n")?;
        let mut lines = told.lines();
        if lines.next()? != TITLE {
            return None;
        }
        let cluster = lines.next()?.strip_prefix("cluster ")?.parse().ok()?;
        if lines.next()?.strip_prefix("keyspace ")? != identity(keyspace) {
            return None;
        }
        let home = match lines.next()?.strip_prefix("catalog ")? {
            "apart" => Home::Apart,
            on => Home::Node(NodeId::new(on.strip_prefix("on ")?).ok()?),
        };
        let mut memory = Memory::new();
        for line in lines {
            let (value, name) = line.strip_prefix("memory ")?.split_once(' ')?;
            memory.insert(name.to_owned(), unhex(value)?);
        }
        let topology: Topology = map.parse().ok()?;
        topology.fits(keyspace).ok()?;
        Some(Self {
            cluster,
            home,
            memory,
            topology,
        })
    }
}

fn identity(keyspace: &Keyspace) -> String {
    format!(
        "{} {} {}",
        keyspace.tag().get(),
        keyspace.shards(),
        keyspace.vindex()
    )
}

fn sum(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        fs::create_dir_all(folder)?;
    }
    // Several processes may keep theirs in one place.
    let fresh = path.with_added_extension(Uuid::new_v4().simple().to_string());
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    // A key may be among what is remembered.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&fresh).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        // The rename itself is on disk only with its folder.
        folder.map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    });
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written
}

#[cfg(test)]
mod tests {
    use maxscale_core::id::KeyspaceTag;

    use super::*;
    use crate::vindex::Vindex;

    fn keyspace(shards: u32) -> Keyspace {
        Keyspace::new(KeyspaceTag::default(), shards, Vindex::Id).unwrap()
    }

    fn copy(home: Home) -> MapCopy {
        let nodes = ["eu", "us"].map(|name| NodeId::new(name).unwrap());
        MapCopy {
            cluster: Uuid::from_u128(7),
            home,
            memory: Memory::from([
                ("key-1".to_owned(), vec![0, 10, 255]),
                ("with spaces in it".to_owned(), Vec::new()),
            ]),
            topology: Topology::even(nodes.into(), 16).unwrap(),
        }
    }

    #[tokio::test]
    async fn copy_reads_as_it_was_written_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/map");
        assert_eq!(MapCopy::read(path.clone(), &keyspace(16)).await, None);
        for home in [Home::Apart, Home::Node(NodeId::new("eu").unwrap())] {
            let copy = copy(home);
            copy.clone()
                .write(path.clone(), &keyspace(16))
                .await
                .unwrap();
            assert_eq!(MapCopy::read(path.clone(), &keyspace(16)).await, Some(copy));
        }
        assert_eq!(fs::read_dir(folder.path().join("deep")).unwrap().count(), 1);
        assert_eq!(MapCopy::read(path, &keyspace(32)).await, None);
    }

    #[test]
    fn copy_with_any_byte_changed_or_cut_off_counts_as_none() {
        let text = copy(Home::Apart).text(&keyspace(16));
        assert!(MapCopy::parse(&text, &keyspace(16)).is_some());
        for at in 0..text.len() {
            assert_eq!(MapCopy::parse(&text[..at], &keyspace(16)), None);
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(MapCopy::parse(&changed, &keyspace(16)), None, "{changed}");
        }
    }
}
