//! A handle for each stripe of threads: what requests take along of it is counted on a
//! cache line that other threads do not write.

use std::iter::repeat_n;
use std::ops::Deref;
use std::sync::Arc;

use maxscale_core::stripes::{self, STRIPES};

use super::sessions::Sessions;

/// A handle to sessions, which requests keep.
#[derive(Clone, Debug)]
pub(crate) struct Source(Arc<Apart>);

#[derive(Debug)]
#[repr(align(128))]
struct Apart(Sessions);

/// The same handle for all threads.
#[derive(Debug)]
pub(super) struct Sources(Box<[Source]>);

// === impl Source ===

impl Source {
    pub(super) fn new(sessions: Sessions) -> Self {
        Self(Arc::new(Apart(sessions)))
    }
}

impl Deref for Source {
    type Target = Sessions;

    fn deref(&self) -> &Sessions {
        &self.0.0
    }
}

// === impl Sources ===

impl Sources {
    pub(super) fn new(sessions: Sessions) -> Self {
        let all = repeat_n(sessions, STRIPES);
        Self(all.map(Source::new).collect())
    }

    pub(super) fn of_this_thread(&self) -> &Source {
        &self.0[stripes::of_this_thread() % STRIPES]
    }
}
