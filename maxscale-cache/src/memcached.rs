//! Long values in memcached, so that L2 need not hold them.
//!
//! ```text
//!  fill:  value ─ memcached, under the SHA-256 of its bytes ─ stored
//!         its SHA-256, under the fence ─ L2
//!  read:  L2 ─ SHA-256 ─ memcached ─ bytes of that SHA-256, or a miss
//! ```
//!
//! What is in memcached is never believed by itself. L2 has the record, with
//! fence, tags and times, and in the value's place the SHA-256 of it; that is
//! the version that memcached has to have, and each read learns it from L2 by
//! the same answer as the fence. So an invalidation has nothing to delete here:
//! it drops the record, and bytes that no record names lie there until
//! memcached wants their room. Whoever else writes to a server of it can cause
//! misses, and no wrong value.
//!
//! A server that is down, slow or full costs no value: a fill that it did not
//! take goes to L2 whole, and a read that it did not answer is a miss, which
//! loads and fills anew.

mod server;
mod wire;

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use server::Server;

/// The SHA-256 of a value as it lies in memcached.
pub(crate) type Digest = [u8; 32];

/// One memcached or several, for long values; see
/// [`HubBuilder::memcached`](crate::HubBuilder::memcached).
///
/// It speaks the classic text protocol (`get`, `set`) over TCP, which proxies
/// and hosted services have too, without TLS and without a password: it belongs
/// into a network that is trusted to *read* the values.
///
/// Each value has its place on one of the servers, by rendezvous hashing: one
/// server more or less moves a fair part of them and no others. All processes
/// should name the same ones, in the same words; where they do not, a value is a
/// miss.
#[derive(Debug)]
#[must_use]
pub struct Memcached {
    servers: Vec<Server>,
    over: usize,
    timeout: Duration,
}

/// What a server answered.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// Bytes of the SHA-256 that was asked for.
    Value(Bytes),
    /// It does not have them, or others.
    Nothing,
    /// No answer, or it is left alone for a moment.
    Failed,
}

// === impl Memcached ===

impl Memcached {
    /// The longest value that stays in L2 when no other number is given.
    pub const DEFAULT_OVER: usize = 16 << 10;
    /// How long a server may take to answer when nothing else is given.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(50);

    /// The server at `address`, a host and a port: `10.0.0.7:11211`.
    ///
    /// It connects when it is first used.
    pub fn new(address: impl Into<String>) -> Self {
        let this = Self {
            servers: Vec::new(),
            over: Self::DEFAULT_OVER,
            timeout: Self::DEFAULT_TIMEOUT,
        };
        this.and(address)
    }

    /// Adds a server.
    pub fn and(mut self, address: impl Into<String>) -> Self {
        self.servers.push(Server::new(address.into()));
        self
    }

    /// Sets the longest value, in bytes as they lie in L2, that stays there.
    ///
    /// Default: [`Memcached::DEFAULT_OVER`]. memcached itself keeps none over
    /// 1 MiB unless it is told to.
    pub const fn over(mut self, bytes: usize) -> Self {
        self.over = bytes;
        self
    }

    /// Sets how long a server may take to answer, with the time to connect.
    ///
    /// Default: [`Memcached::DEFAULT_TIMEOUT`].
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Keeps `value` for about `ttl`. Its digest once a server has it; `None` if
    /// it is short, or was not taken.
    pub(crate) async fn put(&self, value: &Bytes, ttl: Duration) -> Option<Digest> {
        if value.len() <= self.over {
            return None;
        }
        let digest: Digest = Sha256::digest(value).into();
        let server = self.server_of(&digest);
        let stored = server.set(&name(&digest), value, ttl, self.timeout).await;
        stored.then_some(digest)
    }

    /// The value of a digest, of at most so many bytes.
    pub(crate) async fn get(&self, digest: &Digest, most: usize) -> Fetched {
        let server = self.server_of(digest);
        match server.get(&name(digest), most, self.timeout).await {
            None => Fetched::Failed,
            Some(Some(value)) if Digest::from(Sha256::digest(&value)) == *digest => {
                Fetched::Value(value)
            }
            Some(_) => Fetched::Nothing,
        }
    }

    fn server_of(&self, digest: &Digest) -> &Server {
        let share = |server: &&Server| xxh3_64_with_seed(digest, server.seed);
        let server = self.servers.iter().max_by_key(share);
        server.expect("there is one from the start")
    }
}

/// Nothing that anybody chose is in it but the value itself.
fn name(digest: &Digest) -> String {
    let mut name = String::with_capacity(4 + 2 * digest.len());
    name.push_str("mxc:");
    for byte in digest {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_more_takes_its_share_of_the_values_and_moves_no_others() {
        let two = Memcached::new("a:1").and("b:1");
        let three = Memcached::new("a:1").and("b:1").and("c:1");
        let mut moved = 0;
        for n in 0..3_000_u32 {
            let digest = Sha256::digest(n.to_le_bytes()).into();
            let (before, after) = (two.server_of(&digest), three.server_of(&digest));
            if before.address != after.address {
                assert_eq!(after.address, "c:1");
                moved += 1;
            }
        }
        assert!((900..1_100).contains(&moved), "{moved}");
    }

    #[test]
    fn names_fit_memcached() {
        let name = name(&[0xfe; 32]);
        assert_eq!(name.len(), 68);
        assert!(name.starts_with("mxc:fefe"));
    }
}
