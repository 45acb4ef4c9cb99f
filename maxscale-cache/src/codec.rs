//! How values are written down for L2.
//!
//! A [`Codec`] turns a value into bytes and back; [`Json`] is the one that
//! [`Hub::cache`](crate::Hub::cache) takes, any other goes to
//! [`Hub::cache_with`](crate::Hub::cache_with). The envelope around the bytes
//! has a checksum, the codec's name and what packed them, so that a codec gets
//! to read only what one of its own name wrote, whole and unpacked. Whatever
//! cannot be read is a miss, and [`Stats`](crate::Stats) tells of which kind.

use maxscale_core::BoxError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64;

/// The name of [`Json`].
const JSON: &str = "json";

/// What [`Json`] is called in envelopes, which then have no name: so were all
/// written before there were others.
pub(crate) const UNNAMED: u64 = 0;

/// Writes values down, and reads them again.
///
/// Both run in the task of a fetch, for values of up to
/// [`Hub::MAX_VALUE`](crate::Hub::MAX_VALUE) bytes, and do not wait for anything.
pub trait Codec<V>: Send + Sync + 'static {
    /// What the form is called. What a codec of another name wrote is a miss,
    /// so change it with the form: `json`, `postcard`, `prost`.
    ///
    /// When the *type* changes, raise the version of
    /// [`CacheSpec::new`](crate::CacheSpec::new) instead: an invalidation then
    /// reaches the old form and the new one, and both are in use meanwhile.
    fn name(&self) -> &'static str;

    /// Writes a value down.
    ///
    /// # Errors
    ///
    /// Returns [`CodecError::Encode`] for a value that has no such form. It is
    /// then served, and kept nowhere.
    fn encode(&self, value: &V) -> Result<Vec<u8>, CodecError>;

    /// Reads a value.
    ///
    /// # Errors
    ///
    /// Returns [`CodecError::Decode`] for bytes that are none. They count as a miss.
    fn decode(&self, encoded: &[u8]) -> Result<V, CodecError>;

    /// What packs the encoded form in L2.
    ///
    /// Default: nothing.
    fn packing(&self) -> Packing {
        Packing::NONE
    }
}

/// A value has no encoded form, or bytes are no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The value cannot be written down.
    #[error("cannot encode the value")]
    Encode(#[source] BoxError),

    /// The bytes are not a value of this type.
    #[error("cannot decode the value")]
    Decode(#[source] BoxError),
}

/// Which encoded values are packed in L2; see [`Codec::packing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// The longest that is not packed.
    #[cfg(feature = "lz4")]
    over: usize,
}

/// The text of [`serde_json`], which needs no description of the type to be read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

/// What `C` writes, packed by [LZ4](https://lz4.org) in L2 from some length on.
///
/// What does not become shorter stays as it is. Values in L1 are decoded and
/// never packed.
///
/// It may be added and taken away while processes run: those that were built
/// with the feature `lz4` read what is packed, whatever they were told to write,
/// and to the others it is a miss.
///
/// # Examples: how are long values packed?
///
/// ```
/// use maxscale_cache::{CacheSpec, Hub};
/// use maxscale_cache::codec::{Json, Lz4};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let hub = Hub::builder().build();
/// let texts = hub.cache_with::<String>(CacheSpec::new("text", 1), Lz4::new(Json).over(4_096));
/// # let _ = texts;
/// # }
/// ```
#[cfg(feature = "lz4")]
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Lz4<C> {
    codec: C,
    over: usize,
}

/// What a codec of this name is called in envelopes.
pub(crate) fn number(name: &str) -> u64 {
    if name == JSON {
        return UNNAMED;
    }
    xxh3_64(name.as_bytes())
}

// === impl Packing ===

impl Packing {
    /// Packs nothing.
    pub const NONE: Self = Self {
        #[cfg(feature = "lz4")]
        over: usize::MAX,
    };

    #[cfg(feature = "lz4")]
    pub(crate) const fn packs(self, length: usize) -> bool {
        length > self.over
    }
}

// === impl Json ===

impl<V: Serialize + DeserializeOwned> Codec<V> for Json {
    fn name(&self) -> &'static str {
        JSON
    }

    fn encode(&self, value: &V) -> Result<Vec<u8>, CodecError> {
        serde_json::to_vec(value).map_err(|error| CodecError::Encode(error.into()))
    }

    fn decode(&self, encoded: &[u8]) -> Result<V, CodecError> {
        serde_json::from_slice(encoded).map_err(|error| CodecError::Decode(error.into()))
    }
}

// === impl Lz4 ===

#[cfg(feature = "lz4")]
impl<C> Lz4<C> {
    /// The longest encoded value that is not packed when no other number is given.
    pub const DEFAULT_OVER: usize = 1_024;

    /// Packs what `codec` writes.
    pub const fn new(codec: C) -> Self {
        Self {
            codec,
            over: Self::DEFAULT_OVER,
        }
    }

    /// Sets the longest encoded value, in bytes, that stays as it is.
    ///
    /// Default: [`Lz4::DEFAULT_OVER`].
    pub const fn over(mut self, bytes: usize) -> Self {
        self.over = bytes;
        self
    }
}

#[cfg(feature = "lz4")]
impl<V, C: Codec<V>> Codec<V> for Lz4<C> {
    fn name(&self) -> &'static str {
        self.codec.name()
    }

    fn encode(&self, value: &V) -> Result<Vec<u8>, CodecError> {
        self.codec.encode(value)
    }

    fn decode(&self, encoded: &[u8]) -> Result<V, CodecError> {
        self.codec.decode(encoded)
    }

    fn packing(&self) -> Packing {
        Packing { over: self.over }
    }
}
