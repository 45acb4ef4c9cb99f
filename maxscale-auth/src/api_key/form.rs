//! The text of a key, and what can be said of one without asking anybody.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use maxscale_core::id::Id;
use maxscale_core::keys::{KeyError, Secret};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::realm::Realm;
use crate::session::SecretHash;

/// What a service's keys look like: `mxk_live_` and 95 letters, of its own prefix and
/// environment. Cheap to clone.
///
/// The letters are 71 bytes in base64url:
///
/// ```text
///  1 format │ 2 realm │ 16 user │ 16 key │ 32 secret │ 4 checksum
/// ```
///
/// The user's id names the shard. The checksum is the start of the SHA-256 of all before
/// it, the prefix and the environment too: what is mistyped, cut off, or of another
/// environment is told without asking anybody, also by who looks for keys that were
/// published. It is no MAC: a key may live longer than a ring's keys do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyForm {
    start: Arc<str>,
    /// How much of it is the prefix.
    prefix: usize,
}

/// A prefix or an environment that keys cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiKeyFormError {
    /// It is not made of 1 to 16 small letters and digits, or begins with a digit.
    #[error("the {0} of keys must be 1 to 16 small letters and digits, a letter first")]
    Name(&'static str),

    /// It is that of sessions' or mails' tokens.
    #[error("the prefix of keys must not be one of other tokens")]
    Taken,
}

/// What somebody brings as a key.
#[derive(Clone)]
pub(super) struct Shown {
    pub(super) realm: Realm,
    pub(super) user: Id,
    pub(super) key: Id,
    pub(super) hash: SecretHash,
}

/// A key's text, and what is kept of its secret.
pub(super) struct Drawn {
    pub(super) text: String,
    pub(super) hash: SecretHash,
}

const FORMAT: u8 = 1;
const REALM_AT: usize = 1;
const USER_AT: usize = REALM_AT + 2;
const KEY_AT: usize = USER_AT + 16;
const SECRET_AT: usize = KEY_AT + 16;
const SUMMED: usize = SECRET_AT + 32;
const LEN: usize = SUMMED + 4;

/// The prefixes of other tokens begin with it, and no other keys' does.
const OURS: &str = "mx";
const OWN: &str = "mxk";

// === impl ApiKeyForm ===

impl ApiKeyForm {
    /// Keys that begin with `prefix`, by which people and programs know whose they are, and
    /// `environment`, by which they tell `live` from `test`.
    ///
    /// # Errors
    ///
    /// Returns [`ApiKeyFormError`].
    pub fn new(prefix: &str, environment: &str) -> Result<Self, ApiKeyFormError> {
        if prefix.starts_with(OURS) && prefix != OWN {
            return Err(ApiKeyFormError::Taken);
        }
        for (what, name) in [("prefix", prefix), ("environment", environment)] {
            if !is_name(name) {
                return Err(ApiKeyFormError::Name(what));
            }
        }
        Ok(Self {
            start: format!("{prefix}_{environment}_").into(),
            prefix: prefix.len() + 1,
        })
    }

    /// Whether it begins as keys do, those of other environments too.
    pub(super) fn begins(&self, text: &str) -> bool {
        text.starts_with(&self.start[..self.prefix])
    }

    /// Draws a secret for a key.
    pub(super) fn draw(&self, realm: Realm, user: Id, key: Id) -> Result<Drawn, KeyError> {
        let mut bytes = [0; LEN];
        let secret = Secret::random::<32>()?;
        bytes[0] = FORMAT;
        bytes[REALM_AT..USER_AT].copy_from_slice(&realm.get().to_be_bytes());
        bytes[USER_AT..KEY_AT].copy_from_slice(user.as_uuid().as_bytes());
        bytes[KEY_AT..SECRET_AT].copy_from_slice(key.as_uuid().as_bytes());
        bytes[SECRET_AT..SUMMED].copy_from_slice(&secret);
        let sum = self.checksum(&bytes[..SUMMED]);
        bytes[SUMMED..].copy_from_slice(&sum);
        Ok(Drawn {
            text: format!("{}{}", self.start, URL_SAFE_NO_PAD.encode(bytes)),
            hash: SecretHash::new(Sha256::digest(secret).into()),
        })
    }

    /// Reads what may be a key; `None` for what cannot be one.
    pub(super) fn read(&self, text: &str) -> Option<Shown> {
        let text = text.strip_prefix(&*self.start)?;
        let mut bytes = [0; LEN];
        let read = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes);
        if read != Ok(LEN) || bytes[0] != FORMAT {
            return None;
        }
        let (summed, sum) = bytes.split_at(SUMMED);
        if sum != self.checksum(summed) {
            return None;
        }
        let id = |at| Id::from_uuid(Uuid::from_bytes(part(&bytes, at))).ok();
        Some(Shown {
            realm: Realm::new(u16::from_be_bytes(part(&bytes, REALM_AT))),
            user: id(USER_AT)?,
            key: id(KEY_AT)?,
            hash: SecretHash::new(Sha256::digest(part::<32>(&bytes, SECRET_AT)).into()),
        })
    }

    fn checksum(&self, summed: &[u8]) -> [u8; 4] {
        let hash = Sha256::new()
            .chain_update(&*self.start)
            .chain_update(summed);
        part(&hash.finalize(), 0)
    }
}

fn part<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[from..from + N]);
    part
}

fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let letter = name.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    letter && name.len() <= 16 && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use maxscale_core::clock::Clock;
    use maxscale_core::fact::VirtualShard;
    use maxscale_core::id::{IdGenerator, KeyspaceTag};

    fn live() -> ApiKeyForm {
        ApiKeyForm::new("acme", "live").unwrap()
    }

    #[test]
    fn only_an_untouched_key_of_this_environment_is_read() {
        let ids = IdGenerator::new(Clock::system(), KeyspaceTag::default());
        let (user, key) = (
            ids.draw(VirtualShard::new(5)),
            ids.draw(VirtualShard::new(5)),
        );
        let drawn = live().draw(Realm::new(7), user, key).unwrap();
        let text = &drawn.text;
        assert!(
            text.starts_with("acme_live_") && text.len() == 10 + 95,
            "{text}"
        );
        let shown = live().read(text).unwrap();
        assert_eq!(
            (shown.realm, shown.user, shown.key),
            (Realm::new(7), user, key)
        );
        assert_eq!(shown.hash, drawn.hash);
        assert_eq!(
            user.shard(),
            VirtualShard::new(5),
            "the text names the shard"
        );

        let raw = URL_SAFE_NO_PAD.decode(&text[10..]).unwrap();
        for bit in 0..raw.len() * 8 {
            let mut bad = raw.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let bad = format!("acme_live_{}", URL_SAFE_NO_PAD.encode(bad));
            assert!(live().read(&bad).is_none(), "bit {bit}");
        }
        let test = ApiKeyForm::new("acme", "test").unwrap();
        let renamed = text.replace("_live_", "_test_");
        for (form, bad) in [
            (&live(), ""),
            (&live(), "acme_live_"),
            (&live(), "é"),
            (&live(), &text[10..]),
            (&live(), &text[..text.len() - 1]),
            (&live(), &format!("{text}A")),
            (&live(), &format!("{text}{}", "A".repeat(1_000_000))),
            (&live(), &renamed),
            (&test, text),
            (&test, &renamed),
        ] {
            assert!(form.read(bad).is_none(), "{bad:.40}");
        }
        assert!(test.begins(text) && live().begins(&renamed));
        assert!(!live().begins("acme") && !live().begins("mxs_AAAA"));
    }

    #[test]
    fn name_that_is_none_or_of_other_tokens_is_refused() {
        for taken in ["mx", "mxs", "mxr", "mxm", "mxd", "mxkey"] {
            let form = ApiKeyForm::new(taken, "live");
            assert_eq!(form, Err(ApiKeyFormError::Taken), "{taken}");
        }
        for bad in [
            "",
            "Acme",
            "9a",
            "a_b",
            "a.b",
            "a-b",
            "é",
            "abcdefghijklmnopq",
        ] {
            let form = ApiKeyForm::new(bad, "live");
            assert_eq!(form, Err(ApiKeyFormError::Name("prefix")), "{bad}");
            let form = ApiKeyForm::new("acme", bad);
            assert_eq!(form, Err(ApiKeyFormError::Name("environment")), "{bad}");
        }
        assert!(ApiKeyForm::new("mxk", "v2").is_ok());
    }
}
