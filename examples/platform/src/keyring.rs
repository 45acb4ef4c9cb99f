//! Where the key comes from that signs sessions and names email claims.

use maxscale_core::config::Secret as Configured;
use maxscale_core::keys::{KeyError, KeyRing, Secret};
use maxscale_shard::{Fleet, ShardError};

/// The key cannot be had, or is not the one that this fleet was created with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// The configured key is another one than at the first start.
    #[error("keys.secret is not the one that this fleet was created with")]
    Other,
    /// The first start had a configured key, and now there is none.
    #[error("keys.secret is unset, and this fleet was created with one")]
    Unset,
    /// The key is too short.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The catalog could not be asked.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

const NAME: &str = "key-1";
const DRAWN: u8 = b'd';
const CONFIGURED: u8 = b'c';

/// The ring of a configured key, before any database is asked.
///
/// # Errors
///
/// Returns [`KeyringError::Key`] for one that is too short.
pub fn configured(secret: &Configured) -> Result<KeyRing, KeyringError> {
    Ok(KeyRing::new(1, Secret::new(secret.expose().as_bytes()))?)
}

/// The configured key, or one that the first start drew and keeps in the catalog.
///
/// Of a configured key the catalog keeps only a fingerprint, so that another
/// one is noticed before it locks everybody out.
///
/// # Errors
///
/// Returns [`KeyringError`].
pub async fn open(fleet: &Fleet, secret: Option<&Configured>) -> Result<KeyRing, KeyringError> {
    let Some(secret) = secret else {
        let mut drawn = vec![DRAWN];
        drawn.extend(Secret::random::<32>()?);
        let stored = fleet.remember(NAME, &drawn).await?;
        return match stored.split_first() {
            Some((&DRAWN, key)) => Ok(KeyRing::new(1, Secret::new(key))?),
            _ => Err(KeyringError::Unset),
        };
    };
    let ring = configured(secret)?;
    let mut fingerprint = vec![CONFIGURED];
    fingerprint.extend(ring.sign("fingerprint", b"").1);
    if fleet.remember(NAME, &fingerprint).await? == fingerprint {
        Ok(ring)
    } else {
        Err(KeyringError::Other)
    }
}
