//! Seals arguments with `core::keys`.

use std::fmt::Debug;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use maxscale_core::BoxError;
use maxscale_core::keys::{KeyRing, Keys, OpenError};

use crate::error::QueueError;

use super::{Place, StoredArgs, Unopened};

/// No other value of the same keys is one of these.
const PURPOSE: &str = "maxscale-queue arguments";

/// Finds the keys that arguments are sealed under; see
/// [`Queue::with_keys`](crate::Queue::with_keys).
///
/// [`Keys`] of the whole service is one: the same for every reference. With keys per
/// user, what a user's jobs hold, in queues, among dead letters and in backups, is
/// gone with his key.
#[cfg_attr(docsrs, doc(cfg(feature = "seal")))]
pub trait ArgsKeys: Debug + Send + Sync + 'static {
    /// The keys of what [`EnqueueOptions::seal`](crate::EnqueueOptions::seal) named;
    /// `None` if they are gone for ever. Answer from memory: jobs wait for it.
    ///
    /// # Errors
    ///
    /// Any error means that they cannot be had now. A job that needs them is put off.
    fn ring(&self, reference: &str) -> Result<Option<Arc<KeyRing>>, BoxError>;
}

impl ArgsKeys for Keys {
    fn ring(&self, _reference: &str) -> Result<Option<Arc<KeyRing>>, BoxError> {
        Ok(Some(Self::ring(self)))
    }
}

/// Whatever a queue seals and opens with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seals(Option<Arc<dyn ArgsKeys>>);

/// What one enqueue seals with.
#[derive(Clone, Debug)]
pub(crate) struct Seal {
    ring: Arc<KeyRing>,
    reference: String,
}

// === impl Seals ===

impl Seals {
    pub(crate) fn new(keys: impl ArgsKeys) -> Self {
        Self(Some(Arc::new(keys)))
    }

    /// What to seal with for `reference`; nothing where nothing is to be sealed.
    pub(crate) fn find(&self, reference: Option<&str>) -> Result<Option<Seal>, QueueError> {
        let Some(reference) = reference else {
            return Ok(None);
        };
        let keys = self.0.as_ref().ok_or(QueueError::NoKey)?;
        let found = keys
            .ring(reference)
            .map_err(|source| QueueError::Keys { source })?;
        Ok(Some(Seal {
            ring: found.ok_or(QueueError::NoKey)?,
            reference: reference.to_owned(),
        }))
    }

    /// The arguments, if they are those that were stored for the job at `place`.
    pub(crate) fn open(&self, args: StoredArgs, place: Place<'_>) -> Result<String, Unopened> {
        let Some(reference) = args.sealed_by else {
            return Ok(args.text);
        };
        let later = |why: &str| Unopened::Later(why.into());
        let never = |why: &str| Unopened::Never(why.into());
        let keys = self.0.as_ref().ok_or_else(|| later("there are no keys"))?;
        let ring = keys.ring(&reference);
        let ring = ring.map_err(Unopened::Later)?;
        let ring = ring.ok_or_else(|| never("their key is gone"))?;
        let sealed = STANDARD_NO_PAD.decode(&args.text);
        let sealed = sealed.map_err(|_| never("not a sealed value"))?;
        let plain = ring.open(PURPOSE, &bound(&reference, place), &sealed);
        let plain = plain.map_err(|error| match error {
            // Another process may seal under a version that comes here later.
            OpenError::Unknown(_) => Unopened::Later(error.into()),
            error => Unopened::Never(error.into()),
        })?;
        String::from_utf8(plain).map_err(|_| never("no text"))
    }
}

// === impl Seal ===

impl Seal {
    pub(crate) fn seal(&self, plain: &str, place: Place<'_>) -> Result<StoredArgs, QueueError> {
        let bound = bound(&self.reference, place);
        let sealed = self.ring.seal(PURPOSE, &bound, plain.as_bytes());
        let sealed = sealed.map_err(|source| QueueError::Keys {
            source: source.into(),
        })?;
        Ok(StoredArgs {
            text: STANDARD_NO_PAD.encode(sealed),
            sealed_by: Some(self.reference.clone()),
        })
    }
}

/// In another job's row, or another queue's, they do not open.
fn bound(reference: &str, place: Place<'_>) -> Vec<u8> {
    let mut bound = Vec::new();
    for text in [reference, place.queue, place.kind] {
        bound.extend((text.len() as u64).to_be_bytes());
        bound.extend(text.as_bytes());
    }
    bound.extend(place.job.as_id().as_uuid().as_bytes());
    bound
}
