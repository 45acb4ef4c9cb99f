//! Where the keys come from that sign sessions and name email claims.
//!
//! The catalog numbers the keys of a fleet in the order in which they were
//! first seen, so all processes agree on their versions. Of a configured key
//! it keeps a fingerprint only, so that a missing one is noticed before it
//! locks anybody out. A rotation is told in the book: the next key is listed in
//! `keys.others`, then changes places with `keys.secret`.

use maxscale_core::config::Secret as Configured;
use maxscale_core::keys::{KeyError, KeyRing, Secret};
use maxscale_shard::{Fleet, ShardError};

/// A key cannot be had, or one that this fleet has used is missing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// A key that was used before is not configured any more.
    #[error("key {version} of this fleet is configured no more")]
    Missing {
        /// Its place in the order of the fleet's keys.
        version: u8,
    },
    /// The first start had a configured key, and now there is none.
    #[error("keys.secret is unset, and this fleet was created with one")]
    Unset,
    /// A configured key is too short.
    #[error(
        "a key in {setting} has {len} bytes, at least {} are needed",
        KeyRing::MIN_LEN
    )]
    TooShort {
        /// The setting that holds it.
        setting: &'static str,
        /// Its length.
        len: usize,
    },
    /// There are no versions left.
    #[error("this fleet has had {} keys", u8::MAX)]
    Exhausted,
    /// The ring refused a key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The catalog could not be asked.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

/// The configured keys. Without one that writes, the fleet draws its own.
#[derive(Debug)]
pub struct Keyring {
    draws: bool,
    held: Vec<Held>,
}

/// A key that still looks for its version.
#[derive(Debug)]
struct Held {
    writes: bool,
    fingerprint: Vec<u8>,
    secret: Secret,
}

const DRAWN: u8 = b'd';
const CONFIGURED: u8 = b'c';

// === impl Keyring ===

impl Keyring {
    /// The key that writes and others that only read, before any database is
    /// asked.
    ///
    /// # Errors
    ///
    /// Returns [`KeyringError::TooShort`].
    pub fn new(writes: Option<&Configured>, others: &[Configured]) -> Result<Self, KeyringError> {
        let writer = writes.map(|secret| (true, secret));
        let others = others.iter().map(|secret| (false, secret));
        let mut held: Vec<Held> = Vec::new();
        for (writes, secret) in writer.into_iter().chain(others) {
            let next = Held::new(writes, secret)?;
            // One text in both settings is one key.
            if held.iter().all(|held| held.fingerprint != next.fingerprint) {
                held.push(next);
            }
        }
        Ok(Self {
            draws: writes.is_none(),
            held,
        })
    }

    /// Gives each key its version in `fleet`; a new one gets the next.
    ///
    /// # Errors
    ///
    /// Returns [`KeyringError`], above all when a key that the fleet has used is
    /// not among these; then no new one is remembered.
    pub async fn open(mut self, fleet: &Fleet) -> Result<KeyRing, KeyringError> {
        let (mut ring, mut writes) = (None::<KeyRing>, None);
        for version in 1..=u8::MAX {
            let Some(key) = self.place(fleet, version).await? else {
                break;
            };
            writes = if key.writes { Some(version) } else { writes };
            ring = Some(match ring {
                Some(ring) => ring.with_old(version, key.secret)?,
                None => KeyRing::new(version, key.secret)?,
            });
        }
        if !self.held.is_empty() {
            return Err(KeyringError::Exhausted);
        }
        let ring = ring.zip(writes).ok_or(KeyringError::Unset)?;
        Ok(ring.0.promoted(ring.1)?)
    }

    /// The key of this version; `None` behind the last.
    async fn place(&mut self, fleet: &Fleet, version: u8) -> Result<Option<Held>, KeyringError> {
        let name = format!("key-{version}");
        let recalled = match fleet.recall(&name).await {
            // Every key has its version by what was kept here. Whether others have
            // come since, a start with the catalog will tell.
            Err(error) if error.is_unreachable() && version > 1 && self.held.is_empty() => None,
            recalled => recalled?,
        };
        let stored = match recalled {
            Some(stored) => stored,
            None => match self.offer(version)? {
                // Another process may be first; then that one's holds.
                Some(offer) => fleet.remember(&name, &offer).await?,
                None => return Ok(None),
            },
        };
        if let Some((&DRAWN, key)) = stored.split_first() {
            return Ok(Some(Held {
                writes: self.draws,
                secret: Secret::new(key),
                fingerprint: Vec::new(),
            }));
        }
        let place = self.held.iter().position(|key| key.fingerprint == stored);
        match place {
            Some(at) => Ok(Some(self.held.remove(at))),
            None if self.draws && version == 1 => Err(KeyringError::Unset),
            None => Err(KeyringError::Missing { version }),
        }
    }

    /// What the catalog is to remember of the next new key, if there is one.
    fn offer(&self, version: u8) -> Result<Option<Vec<u8>>, KeyringError> {
        if version == 1 && self.draws {
            let mut drawn = vec![DRAWN];
            drawn.extend(Secret::random::<32>()?);
            return Ok(Some(drawn));
        }
        Ok(self.held.first().map(|key| key.fingerprint.clone()))
    }
}

// === impl Held ===

impl Held {
    fn new(writes: bool, secret: &Configured) -> Result<Self, KeyringError> {
        let secret = Secret::new(secret.expose().as_bytes());
        let ring = KeyRing::new(1, secret.clone()).map_err(|error| match error {
            KeyError::TooShort { len, .. } => KeyringError::TooShort {
                setting: if writes { "keys.secret" } else { "keys.others" },
                len,
            },
            error => error.into(),
        })?;
        let mut fingerprint = vec![CONFIGURED];
        fingerprint.extend(ring.sign("fingerprint", b"").1);
        Ok(Self {
            writes,
            fingerprint,
            secret,
        })
    }
}
