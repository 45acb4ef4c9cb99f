//! The places of a journal, for tests that hold for both.

use std::path::PathBuf;
use std::time::Duration;

use maxscale_cache::behind::{Ack, Folder, Stream};
use maxscale_core::redis::RedisConfig;

use crate::program::variable;
use crate::source::LIMIT;

const FOLDER: &str = "MAXSCALE_TEST_FOLDER";
const STREAM: &str = "MAXSCALE_TEST_STREAM";

#[derive(Clone, Debug)]
pub(super) enum Place {
    Folder(PathBuf),
    /// The URL of the server.
    Stream(String),
}

// === impl Place ===

impl Place {
    /// What a program was told of by [`variable`](Self::variable).
    pub(super) fn told() -> Option<Self> {
        let folder = variable(FOLDER).map(|it| Self::Folder(it.into()));
        folder.or_else(|| variable(STREAM).map(Self::Stream))
    }

    pub(super) fn variable(&self) -> (&'static str, String) {
        match self {
            Self::Folder(path) => (FOLDER, path.to_str().unwrap().to_owned()),
            Self::Stream(url) => (STREAM, url.clone()),
        }
    }

    /// With short files, and a short lease.
    pub(super) fn ack(&self) -> Ack {
        Ack::Journal(match self {
            Self::Folder(path) => Folder::new(path).segment(32 << 10).into(),
            Self::Stream(url) => stream(url).into(),
        })
    }
}

/// A stream whose lease does not make a test wait for long.
pub(super) fn stream(url: &str) -> Stream {
    let config = RedisConfig::new(url).unwrap().timeout(LIMIT);
    Stream::new(config, "journal").lease(Duration::from_millis(400))
}
