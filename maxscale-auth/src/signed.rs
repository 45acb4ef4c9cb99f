//! Texts that a client keeps and brings back, with a MAC: a forged one costs no I/O.
//!
//! ```text
//!  prefix  base64url( 1 format │ 1 key version │ body │ 16 MAC )
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use maxscale_core::keys::KeyRing;

/// One kind of such texts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signed {
    pub(crate) prefix: &'static str,
    /// The key's purpose: what was signed for another one is nothing here.
    pub(crate) purpose: &'static str,
    pub(crate) format: u8,
}

const HEAD: usize = 2;
const MAC: usize = 16;

// === impl Signed ===

impl Signed {
    /// The text of `body`, which is only read together with `bound`.
    pub(crate) fn write(self, keys: &KeyRing, body: &[u8], bound: &[u8]) -> String {
        let mut bytes = vec![self.format, keys.version()];
        bytes.extend_from_slice(body);
        let (_, mac) = keys.sign(self.purpose, &[&bytes, bound].concat());
        bytes.extend_from_slice(&mac[..MAC]);
        format!("{}{}", self.prefix, URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The body of a text that this ring signed; `None` for any other.
    pub(crate) fn read<const N: usize>(
        self,
        keys: &KeyRing,
        text: &str,
        bound: &[u8],
    ) -> Option<[u8; N]> {
        let text = text.strip_prefix(self.prefix)?;
        // Bounded before it is decoded.
        if text.len() > 2 * (HEAD + N + MAC) {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (signed, mac) = bytes.split_at_checked(HEAD + N)?;
        let ours = signed[0] == self.format && mac.len() == MAC;
        let message = [signed, bound].concat();
        if !ours || !keys.verify(signed[1], self.purpose, &message, mac) {
            return None;
        }
        signed[HEAD..].try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maxscale_core::keys::Secret;

    const FORM: Signed = Signed {
        prefix: "mxt_",
        purpose: "test",
        format: 1,
    };

    #[test]
    fn only_an_untouched_text_is_read_and_only_with_what_it_is_bound_to() {
        let keys = KeyRing::new(1, Secret::new([7; 32])).unwrap();
        let text = FORM.write(&keys, &[9; 40], b"ada");
        assert_eq!(FORM.read(&keys, &text, b"ada"), Some([9; 40]));
        assert_eq!(FORM.read::<40>(&keys, &text, b"eve"), None);
        assert_eq!(FORM.read::<39>(&keys, &text, b"ada"), None);
        assert_eq!(FORM.read::<41>(&keys, &text, b"ada"), None);

        let raw = URL_SAFE_NO_PAD.decode(&text[4..]).unwrap();
        for bit in 0..raw.len() * 8 {
            let mut bad = raw.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let bad = format!("mxt_{}", URL_SAFE_NO_PAD.encode(bad));
            assert_eq!(FORM.read::<40>(&keys, &bad, b"ada"), None, "bit {bit}");
        }
        let long = format!("{text}{}", "A".repeat(1_000_000));
        for bad in ["", "mxt_", "é", &text[4..], &text[..text.len() - 1], &long] {
            assert_eq!(FORM.read::<40>(&keys, bad, b"ada"), None);
        }
        for other in [
            Signed { format: 2, ..FORM },
            Signed {
                purpose: "other",
                ..FORM
            },
        ] {
            assert_eq!(other.read::<40>(&keys, &text, b"ada"), None, "{other:?}");
        }
        let others = KeyRing::new(1, Secret::new([8; 32])).unwrap();
        assert_eq!(FORM.read::<40>(&others, &text, b"ada"), None);
    }
}
