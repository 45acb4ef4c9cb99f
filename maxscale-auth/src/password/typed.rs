use std::fmt;

use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// The most characters of a password.
pub(super) const MAX_CHARS: usize = 256;

/// A password as somebody typed it. Its bytes are overwritten when it goes.
#[derive(Clone)]
pub(super) struct Typed {
    #[cfg(feature = "bcrypt")]
    raw: Zeroizing<String>,
    normal: Zeroizing<String>,
    fits: bool,
}

// === impl Typed ===

impl Typed {
    /// NFKC, so that a password is the same on every keyboard. What is far too long
    /// is not looked at.
    pub(super) fn new(text: &str) -> Self {
        let fits = text.len() <= 4 * MAX_CHARS;
        let text = if fits { text } else { "" };
        // Reserved for the longest, so that no shorter copy is left behind by growing.
        let mut normal = Zeroizing::new(String::with_capacity(text.len() * GROWTH));
        normal.extend(text.nfkc());
        Self {
            #[cfg(feature = "bcrypt")]
            raw: Zeroizing::new(text.to_owned()),
            normal,
            fits,
        }
    }

    /// Whether it is short enough to be anybody's password.
    pub(super) const fn fits(&self) -> bool {
        self.fits
    }

    /// As it was typed: what older systems made their hashes of.
    #[cfg(feature = "bcrypt")]
    pub(super) fn raw(&self) -> &str {
        &self.raw
    }

    /// In NFKC: what new hashes are made of.
    pub(super) fn normal(&self) -> &str {
        &self.normal
    }
}

/// NFKC makes up to eleven times as many bytes (U+FDFA).
const GROWTH: usize = 11;

impl fmt::Debug for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Typed(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outgrows_what_was_reserved() {
        for widest in ["\u{fdfa}", "\u{fdfb}", "\u{1d160}", "\u{390}", "x"] {
            let text = widest.repeat(4 * MAX_CHARS / widest.len());
            let typed = Typed::new(&text);
            assert!(typed.fits());
            assert_eq!(typed.normal.capacity(), text.len() * GROWTH, "{widest:?}");
        }
        let beyond = Typed::new(&"x".repeat(4 * MAX_CHARS + 1));
        assert!(!beyond.fits() && beyond.normal().is_empty());
    }

    #[test]
    fn keyboards_type_the_same() {
        let composed = Typed::new("caf\u{e9} \u{ff21}\u{2460} \u{fb01}sh");
        let decomposed = Typed::new("cafe\u{301} A1 fish");
        assert_eq!(composed.normal(), decomposed.normal());
        assert_eq!(format!("{composed:?}"), "Typed(***)");
    }
}
