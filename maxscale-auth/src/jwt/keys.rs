//! The keys of a moment: one that signs, and those that still verify.

use std::sync::Arc;

use super::public::{Kid, PublicKey};
use super::rotation::KeyState;
use super::signing::SigningKey;

/// The keys as one process knows them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keys(Arc<[Entry]>);

#[derive(Debug)]
struct Entry {
    key: SigningKey,
    state: KeyState,
    /// Letter by letter.
    header: Box<str>,
}

/// Keys that cannot be used together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// None of them signs.
    #[error("no key is active")]
    NoneActive,
    /// More than one signs.
    #[error("more than one key is active")]
    SeveralActive,
    /// One is there twice.
    #[error("the key {0} is there twice")]
    Twice(Kid),
}

// === impl Keys ===

impl Keys {
    /// The keys in these states. Those that are [`Gone`](KeyState::Gone) are left out.
    ///
    /// # Errors
    ///
    /// Returns [`KeysError`].
    pub fn new(keys: impl IntoIterator<Item = (SigningKey, KeyState)>) -> Result<Self, KeysError> {
        let mut entries: Vec<Entry> = Vec::new();
        for (key, state) in keys {
            if entries.iter().any(|it| it.key.kid() == key.kid()) {
                return Err(KeysError::Twice(key.kid().clone()));
            }
            if state != KeyState::Gone {
                let header = key.public().header().into();
                entries.push(Entry { key, state, header });
            }
        }
        let active = |it: &&Entry| it.state == KeyState::Active;
        match entries.iter().filter(active).count() {
            0 => Err(KeysError::NoneActive),
            1 => Ok(Self(entries.into())),
            _ => Err(KeysError::SeveralActive),
        }
    }

    /// The key that signs.
    pub fn active(&self) -> &SigningKey {
        &self.signs().key
    }

    /// The key set (RFC 7517) that others verify by: JSON, with the keys that do not sign
    /// yet and those that do not sign any more.
    pub fn jwks(&self) -> String {
        let keys: Vec<String> = self.0.iter().map(|it| it.key.public().jwk()).collect();
        format!(r#"{{"keys":[{}]}}"#, keys.join(","))
    }

    fn signs(&self) -> &Entry {
        let active = self.0.iter().find(|it| it.state == KeyState::Active);
        active.expect("one key is active")
    }

    /// The key that signs, and the header that it writes.
    pub(super) fn signer(&self) -> (&SigningKey, &str) {
        let entry = self.signs();
        (&entry.key, &entry.header)
    }

    /// The key that writes this header.
    pub(super) fn of(&self, header: &str) -> Option<&PublicKey> {
        let entry = self.0.iter().find(|it| &*it.header == header)?;
        Some(entry.key.public())
    }
}
