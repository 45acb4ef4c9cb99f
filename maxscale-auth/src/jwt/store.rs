//! Where the keys lie: one row for each realm, sealed, exchanged only by who has read what
//! is there.

use std::sync::Arc;
use std::time::Duration;

use maxscale_core::keys::{KeyError, KeyRing, OpenError};
use maxscale_core::refusal::{Class, Classify};
use maxscale_shard::{Router, Shard, ShardError, Sql, Statement};
use zeroize::Zeroizing;

use super::keys::KeysError;
use super::record::KeyRecord;
use super::signing::SigningKeyError;
use super::verify::AccessTokens;
use crate::realm::Realm;

/// The row of a realm's keys.
#[derive(Clone, Debug)]
pub(super) struct KeyStore {
    pub(super) router: Router,
    pub(super) ring: Arc<KeyRing>,
    pub(super) realm: Realm,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// Counts the changes; 0 if there is no row yet.
    version: i64,
    pub(super) record: KeyRecord,
    /// When it was read, by the server's clock.
    read_at: i64,
    /// Sealed by another key of the ring than the one that seals now.
    pub(super) is_sealed_before: bool,
}

/// The keys of tokens could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyStoreError {
    /// The database could not be asked.
    #[error(transparent)]
    Shard(#[from] ShardError),

    /// What is stored was sealed by a ring that is not this one, or was changed.
    #[error("the stored keys of tokens do not open")]
    Sealed(#[source] OpenError),

    /// What is stored is of a newer program, or of none.
    #[error("the stored keys of tokens cannot be read")]
    Malformed,

    /// What is stored are no keys that go together.
    #[error("the stored keys of tokens do not go together")]
    Keys(#[from] KeysError),

    /// No new key could be drawn.
    #[error("cannot draw a key for tokens")]
    Draw(#[from] SigningKeyError),

    /// The keys could not be sealed.
    #[error("cannot seal the keys of tokens")]
    Seal(#[source] KeyError),
}

macro_rules! postgres_now {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    };
}

macro_rules! sqlite_now {
    () => {
        "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
    };
}

macro_rules! load {
    ($now:expr) => {
        concat!(
            "SELECT version, sealed, ",
            $now,
            " AS read_at FROM ms_signing_keys WHERE shard_id = $1 AND realm = $2"
        )
    };
}

const LOAD: Sql = Sql::each(load!(postgres_now!()), load!(sqlite_now!()));

const INSERT: Sql = Sql::both(
    "INSERT INTO ms_signing_keys (shard_id, realm, version, sealed) VALUES ($1, $2, $3, $4)
     ON CONFLICT (shard_id, realm) DO NOTHING",
);

/// The time is that of the exchange, and not that of waiting for the row.
const EXCHANGE: Sql = Sql::each(
    concat!(
        "WITH held AS MATERIALIZED (
            SELECT version FROM ms_signing_keys
            WHERE shard_id = $1 AND realm = $2 AND version = $3 - 1 FOR UPDATE),
         timed AS MATERIALIZED (SELECT version, ",
        postgres_now!(),
        " AS now FROM held)
         UPDATE ms_signing_keys SET version = $3, sealed = $4 FROM timed
         WHERE shard_id = $1 AND realm = $2 AND ms_signing_keys.version = timed.version
           AND timed.now <= $5"
    ),
    concat!(
        "UPDATE ms_signing_keys SET version = $3, sealed = $4
         WHERE shard_id = $1 AND realm = $2 AND version = $3 - 1 AND $5 >= ",
        sqlite_now!()
    ),
);

const PURPOSE: &str = "token-signing-keys";

/// All processes look here.
const PLACE: &[u8] = b"ms_signing_keys";

// === impl KeyStore ===

impl KeyStore {
    /// What was decided longer ago is not stored: a process may stand still between the two,
    /// and others count from when a key was published.
    pub(super) const WITHIN: Duration = AccessTokens::LEEWAY;

    pub(super) async fn load(&self) -> Result<Stored, KeyStoreError> {
        let shard = self.shard()?;
        let Some(row) = shard.fetch_optional(self.keyed(LOAD, &shard)).await? else {
            return Ok(Stored::default());
        };
        let (version, sealed): (i64, Vec<u8>) = (row.get("version")?, row.get("sealed")?);
        let opened = self.ring.open(PURPOSE, &self.place(version), &sealed);
        let opened = Zeroizing::new(opened.map_err(KeyStoreError::Sealed)?);
        Ok(Stored {
            version,
            read_at: row.get("read_at")?,
            record: KeyRecord::read(&opened).ok_or(KeyStoreError::Malformed)?,
            is_sealed_before: KeyRing::sealed_under(&sealed) != Some(self.ring.version()),
        })
    }

    /// Puts `record` in the place of what was read; nothing, if that is not there any more, or
    /// was read longer ago than [`WITHIN`](Self::WITHIN).
    ///
    /// Whoever needs to know what became of it reads again: it is one statement, so what is
    /// there is always what somebody put there as a whole.
    pub(super) async fn exchange(
        &self,
        read: &Stored,
        record: &KeyRecord,
    ) -> Result<(), KeyStoreError> {
        let shard = self.shard()?;
        let version = read.version + 1;
        let sealed = (self.ring).seal(PURPOSE, &self.place(version), &record.to_bytes());
        let sealed = sealed.map_err(KeyStoreError::Seal)?;
        let write = |text: Sql| self.keyed(text, &shard).bind(version).bind(sealed);
        let write = match read.version {
            0 => write(INSERT),
            _ => {
                let within = i64::try_from(Self::WITHIN.as_micros()).unwrap_or(i64::MAX);
                write(EXCHANGE).bind(read.read_at.saturating_add(within))
            }
        };
        shard.execute(write).await?;
        Ok(())
    }

    fn shard(&self) -> Result<Shard, ShardError> {
        self.router.directory(PLACE)
    }

    fn keyed(&self, text: Sql, shard: &Shard) -> Statement {
        let realm = u32::from(self.realm.get());
        text.statement().bind(shard.id()).bind(realm)
    }

    /// What the sealed value is bound to: neither another realm's keys nor those of before
    /// open in its place.
    fn place(&self, version: i64) -> [u8; 10] {
        let mut place = [0; 10];
        place[..2].copy_from_slice(&self.realm.get().to_be_bytes());
        place[2..].copy_from_slice(&version.to_be_bytes());
        place
    }
}

// === impl KeyStoreError ===

impl Classify for KeyStoreError {
    fn class(&self) -> Class {
        match self {
            Self::Shard(error) => error.class(),
            _ => Class::Internal,
        }
    }
}
