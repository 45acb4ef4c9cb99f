use sha1::{Digest, Sha1};

use super::{FilterError, MOST_PROBES, PasswordFilter, Sha1Sum, places};

/// Builds a [`PasswordFilter`], password by password.
#[derive(Debug)]
pub struct FilterBuilder(PasswordFilter);

// === impl FilterBuilder ===

impl FilterBuilder {
    /// The rate of passwords that are taken for one in the list, by default.
    pub const WRONG: f64 = 1e-4;

    /// A filter for so many passwords, that takes `wrong` of all others for one of them.
    /// With more passwords it takes more; [`finish`](Self::finish) does not refuse.
    ///
    /// # Errors
    ///
    /// Returns [`FilterError::Size`] for none, for a rate that is not between 0 and 1,
    /// and for more than fits into memory.
    pub fn new(passwords: u64, wrong: f64) -> Result<Self, FilterError> {
        let refused = FilterError::Size { passwords, wrong };
        if passwords == 0 || !(wrong > 0.0 && wrong < 1.0) {
            return Err(refused);
        }
        let halvings = -wrong.log2();
        // The fewest bits for a rate: n · log2(1/p) / ln 2, with log2(1/p) probes.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a size that need not be exact; casts of floats saturate"
        )]
        let (bytes, probes) = (
            (passwords as f64 * halvings / std::f64::consts::LN_2 / 8.0).ceil() as u64,
            (halvings.round() as u32).clamp(1, MOST_PROBES),
        );
        let Some(filter) = PasswordFilter::empty(bytes.max(8), probes) else {
            return Err(refused);
        };
        Ok(Self(filter))
    }

    /// Adds a password by its bytes, as it was found.
    pub fn add(&mut self, password: &[u8]) {
        self.add_sha1(&Sha1::digest(password).into());
    }

    /// Adds a password by its SHA-1.
    pub fn add_sha1(&mut self, sum: &Sha1Sum) {
        let filter = &mut self.0;
        for (byte, mask) in places(sum, filter.probes, filter.bits) {
            filter.bytes[byte] |= mask;
        }
        filter.passwords += 1;
    }

    /// The filter of all that was added.
    pub fn finish(self) -> PasswordFilter {
        self.0
    }
}

impl PasswordFilter {
    /// `None` if there is not so much memory.
    pub(super) fn empty(size: u64, probes: u32) -> Option<Self> {
        let len = usize::try_from(size).ok()?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).ok()?;
        bytes.resize(len, 0);
        Some(Self {
            probes,
            passwords: 0,
            bits: size.checked_mul(8)?,
            bytes,
        })
    }
}
