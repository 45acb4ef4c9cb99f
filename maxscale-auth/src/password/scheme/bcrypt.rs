use std::fmt;

use base64::Engine;
use base64::alphabet::BCRYPT;
use base64::engine::general_purpose::NO_PAD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use maxscale_core::keys::Secret;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::AuthError;
use crate::password::cost::MOST_BCRYPT;

/// A hash by bcrypt as older systems stored it: `$2a$`, `$2b$` or `$2y$`, which are
/// one algorithm. `$2x$` names another one, a bug of PHP's, and is not read.
#[derive(Clone, Debug)]
pub(in crate::password) struct Bcrypt {
    setting: Setting,
    digest: Digest,
}

/// All of a bcrypt hash but the digest: what a password is put through again with.
#[derive(Clone, Copy, Debug)]
pub(in crate::password) struct Setting {
    kind: u8,
    cost: u32,
    salt: [u8; 16],
}

/// What bcrypt stores: the last of its 24 bytes is left away.
pub(in crate::password) type Digest = [u8; 23];

/// Some systems left rubbish in the bits that a salt's last character has beyond its
/// 16 bytes; all of them ignore it.
const BASE64: GeneralPurpose = GeneralPurpose::new(&BCRYPT, LENIENT);
const LENIENT: GeneralPurposeConfig = NO_PAD.with_decode_allow_trailing_bits(true);

/// Characters of a setting: `$2b$10$` and 22 of salt.
const SETTING: usize = 29;
const LEAST_COST: u32 = 4;
/// Bytes of a password that count.
const COUNT: usize = 72;

// === impl Bcrypt ===

impl Bcrypt {
    pub(in crate::password) fn parse(text: &str) -> Option<Self> {
        let (setting, digest) = text.split_at_checked(SETTING)?;
        Some(Self {
            setting: Setting::parse(setting)?,
            digest: decode(digest)?,
        })
    }

    /// A hash of this setting, if its cost is within the caps.
    pub(in crate::password) fn new(setting: Setting, digest: Digest) -> Option<Self> {
        let fits = (LEAST_COST..=MOST_BCRYPT).contains(&setting.cost);
        fits.then_some(Self { setting, digest })
    }

    pub(in crate::password) fn is_of(&self, password: &str) -> bool {
        self.setting.digest(password).ct_eq(&self.digest).into()
    }

    pub(in crate::password) const fn into_parts(self) -> (Setting, Digest) {
        (self.setting, self.digest)
    }
}

// === impl Setting ===

impl Setting {
    /// Characters of its text.
    pub(in crate::password) const LEN: usize = SETTING;

    /// A salt of nobody's.
    pub(in crate::password) fn draw(cost: u32) -> Result<Self, AuthError> {
        Ok(Self {
            kind: b'b',
            cost,
            salt: Secret::random()?,
        })
    }

    pub(in crate::password) fn parse(text: &str) -> Option<Self> {
        let (&[b'$', b'2', kind, b'$', ten, one, b'$'], salt) =
            text.as_bytes().split_first_chunk::<7>()?
        else {
            return None;
        };
        let digit = |c: u8| char::from(c).to_digit(10);
        let cost = digit(ten)? * 10 + digit(one)?;
        let known = matches!(kind, b'a' | b'b' | b'y');
        let fits = known && (LEAST_COST..=MOST_BCRYPT).contains(&cost);
        fits.then_some(Self {
            kind,
            cost,
            salt: decode(std::str::from_utf8(salt).ok()?)?,
        })
    }

    /// Puts a password through bcrypt. The first 72 bytes of it count, as in the
    /// systems that stored it; shorter ones end with a zero byte.
    pub(in crate::password) fn digest(&self, password: &str) -> Digest {
        let mut secret = Zeroizing::new([0; COUNT]);
        let taken = password.len().min(COUNT);
        secret[..taken].copy_from_slice(&password.as_bytes()[..taken]);
        let ended = (taken + 1).min(COUNT);
        let whole = bcrypt::bcrypt(self.cost, self.salt, &secret[..ended]);
        let mut digest = [0; 23];
        digest.copy_from_slice(&whole[..23]);
        digest
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, salt) = (char::from(self.kind), BASE64.encode(self.salt));
        write!(f, "$2{kind}${:02}${salt}", self.cost)
    }
}

/// Exactly `N` bytes.
fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes = BASE64.decode(text).ok()?;
    bytes.try_into().ok()
}
