use std::fmt;

use unicode_normalization::UnicodeNormalization;

use crate::error::AuthError;

/// A normalised email address: NFKC, lower case, the domain in ASCII.
///
/// Dots and `+tag` are kept: whether they matter is the mail server's business.
/// Two addresses are one account exactly when they are equal in this form.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Email(String);

// === impl Email ===

impl Email {
    /// The longest address (RFC 5321's path without its brackets), in bytes.
    pub const MAX_LEN: usize = 254;

    /// Normalises `text`.
    ///
    /// Without the feature `idn`, a domain outside ASCII is refused.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Email`] for anything that is no plain address.
    pub fn parse(text: &str) -> Result<Self, AuthError> {
        // Bounded before normalising, which may grow a text up to 18 times.
        if text.len() > 4 * Self::MAX_LEN {
            return Err(AuthError::Email);
        }
        let lower = text.trim().nfkc().collect::<String>().to_lowercase();
        // Small letters compose where capitals do not: Ϊ with an accent.
        let text: String = lower.nfkc().collect();
        let (local, domain) = text.rsplit_once('@').ok_or(AuthError::Email)?;
        let domain = ascii_domain(domain).ok_or(AuthError::Email)?;
        let email = format!("{local}@{domain}");
        if local_is_plain(local) && domain_is_plain(&domain) && email.len() <= Self::MAX_LEN {
            Ok(Self(email))
        } else {
            Err(AuthError::Email)
        }
    }

    /// The normalised address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Personal; logs have no use for it.
        f.write_str("Email(..)")
    }
}

#[cfg(feature = "idn")]
fn ascii_domain(domain: &str) -> Option<String> {
    idna::domain_to_ascii_strict(domain).ok()
}

#[cfg(not(feature = "idn"))]
fn ascii_domain(domain: &str) -> Option<String> {
    domain.is_ascii().then(|| domain.to_owned())
}

fn local_is_plain(local: &str) -> bool {
    let special = |c: char| c.is_control() || c.is_whitespace() || "\"(),:;<>@[\\]".contains(c);
    (1..=64).contains(&local.len())
        && !local.contains(special)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
}

fn domain_is_plain(domain: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    domain.contains('.') && domain.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_one_form() {
        for text in [
            "Ada@Example.ORG",
            "  ada@example.org ",
            "ａｄａ@example.org",
        ] {
            assert_eq!(
                Email::parse(text).unwrap().as_str(),
                "ada@example.org",
                "{text}"
            );
        }
        assert_eq!(Email::parse("a.b+c@d.e").unwrap().as_str(), "a.b+c@d.e");
    }

    #[test]
    fn normal_form_of_a_normal_form_is_itself() {
        let all = (0..=u32::from(char::MAX)).filter_map(char::from_u32);
        for c in all.filter(|c| !c.to_lowercase().eq([*c])) {
            for local in [format!("{c}"), format!("a{c}b"), format!("b{c}\u{301}")] {
                if let Ok(email) = Email::parse(&format!("{local}@example.org")) {
                    assert_eq!(Email::parse(email.as_str()).ok(), Some(email), "{c:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("{}@example.org", "a".repeat(65));
        for text in [
            "", "a", "@b.c", "a@", "a@b", "a b@c.d", "a@b..c", ".a@b.c", "a\0@b.c", "a@-b.c", &long,
        ] {
            assert!(Email::parse(text).is_err(), "{text:?}");
        }
        assert!(Email::parse(&"a".repeat(100_000)).is_err());
    }

    #[cfg(feature = "idn")]
    #[test]
    fn international_domain_is_stored_in_ascii() {
        assert_eq!(
            Email::parse("a@BÜCHER.example").unwrap().as_str(),
            "a@xn--bcher-kva.example"
        );
    }
}
