//! What keeps the entries, and the keys that bring their hash along.
//!
//! Nothing relies on an engine for correctness: it may drop whatever it likes,
//! and it calls nobody back. It is not told how long entries live, for which each
//! read would pay: who reads looks at the entry. What it must not do is in
//! [`Engine`], and `tests` holds each one to it.

mod moka;
#[cfg(feature = "l1-quick")]
mod quick;

use std::hash::{Hash, Hasher};

use ::moka::Equivalent;
use smallvec::SmallVec;

use self::moka::Moka;
#[cfg(feature = "l1-quick")]
use self::quick::Quick;
use super::Entry;

/// Which library keeps the values of a process; see
/// [`HubBuilder::l1_engine`](crate::HubBuilder::l1_engine).
///
/// They differ in what they keep and in speed, not in what is guaranteed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum L1Engine {
    /// [moka](https://docs.rs/moka): TinyLFU, which keeps what is read often.
    #[default]
    Moka,
    /// [quick_cache](https://docs.rs/quick_cache): S3-FIFO, with hits that cost
    /// less.
    #[cfg(feature = "l1-quick")]
    Quick,
}

/// A part as long as a UUID lies in its key. For a longer one each read goes to one more
/// place in memory, and that is most of what a hit costs once there are many keys.
const INLINE: usize = 36;

/// Keeps entries up to a total weight.
pub(crate) trait Engine: Send + Sync {
    /// The last entry that was put under the key, or nothing. Once a put or a
    /// remove has returned, what was there before is not found any more.
    fn get(&self, probe: &Probe<'_>) -> Option<Entry>;

    /// Keeps an entry, or nothing under its key.
    fn put(&self, key: NearKey, entry: Entry);

    fn remove(&self, probe: &Probe<'_>);

    /// Drops what is `over`. Goes through all of it, and holds up no reader.
    fn sweep(&self, over: impl Fn(&Entry) -> bool);

    /// How many there are, about.
    fn count(&self) -> u64;

    /// What they weigh, about.
    fn weight(&self) -> u64;
}

/// The engine that was chosen: one branch, and none where there is one engine.
pub(crate) enum Chosen {
    Moka(Moka),
    #[cfg(feature = "l1-quick")]
    Quick(Quick),
}

/// A key as entries keep it.
///
/// A read that finds one looks at all of it: what it compares is in one place, in that
/// order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct NearKey {
    pub(crate) hash: u64,
    pub(crate) cache: u32,
    /// The bytes of a text.
    part: SmallVec<[u8; INLINE]>,
}

/// A key to look with, without a copy of anything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe<'a> {
    pub(crate) hash: u64,
    pub(crate) cache: u32,
    pub(crate) part: &'a str,
}

/// Takes the hash that a key brings.
#[derive(Default)]
pub(crate) struct Ready(u64);

// === impl Chosen ===

impl Chosen {
    /// Keeps entries up to a total weight.
    pub(super) fn by_weight(engine: L1Engine, budget: u64) -> Self {
        match engine {
            L1Engine::Moka => Self::Moka(Moka::by_weight(budget)),
            #[cfg(feature = "l1-quick")]
            L1Engine::Quick => Self::Quick(Quick::by_weight(budget)),
        }
    }

    /// Keeps so many entries.
    pub(super) fn by_count(engine: L1Engine, most: u64) -> Self {
        match engine {
            L1Engine::Moka => Self::Moka(Moka::by_count(most)),
            #[cfg(feature = "l1-quick")]
            L1Engine::Quick => Self::Quick(Quick::by_count(most)),
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Moka(engine) => engine.len(),
            #[cfg(feature = "l1-quick")]
            Self::Quick(engine) => engine.count(),
        }
    }
}

macro_rules! with {
    ($chosen:expr, $engine:ident => $call:expr) => {
        match $chosen {
            Self::Moka($engine) => $call,
            #[cfg(feature = "l1-quick")]
            Self::Quick($engine) => $call,
        }
    };
}

impl Engine for Chosen {
    #[inline]
    fn get(&self, probe: &Probe<'_>) -> Option<Entry> {
        with!(self, engine => engine.get(probe))
    }

    fn put(&self, key: NearKey, entry: Entry) {
        with!(self, engine => engine.put(key, entry));
    }

    fn remove(&self, probe: &Probe<'_>) {
        with!(self, engine => engine.remove(probe));
    }

    fn sweep(&self, over: impl Fn(&Entry) -> bool) {
        with!(self, engine => engine.sweep(over));
    }

    fn count(&self) -> u64 {
        with!(self, engine => engine.count())
    }

    fn weight(&self) -> u64 {
        with!(self, engine => engine.weight())
    }
}

// === impl NearKey ===

impl NearKey {
    pub(crate) fn part(&self) -> &str {
        str::from_utf8(&self.part).expect("made of a text")
    }

    pub(crate) fn probe(&self) -> Probe<'_> {
        Probe {
            hash: self.hash,
            cache: self.cache,
            part: self.part(),
        }
    }

    #[inline]
    pub(crate) fn is(&self, probe: &Probe<'_>) -> bool {
        self.hash == probe.hash
            && self.cache == probe.cache
            && self.part[..] == *probe.part.as_bytes()
    }
}

impl Hash for NearKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

// === impl Probe ===

impl Probe<'_> {
    pub(crate) fn to_key(self) -> NearKey {
        NearKey {
            hash: self.hash,
            cache: self.cache,
            part: self.part.as_bytes().into(),
        }
    }
}

impl Hash for Probe<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<NearKey> for Probe<'_> {
    #[inline]
    fn equivalent(&self, key: &NearKey) -> bool {
        key.is(self)
    }
}

// === impl Ready ===

impl Hasher for Ready {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests;
