use super::fold;

/// What is known of whoever sets a password.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Context<'a> {
    /// The email address.
    pub email: &'a str,
    /// The user's name.
    pub name: &'a str,
}

/// Shorter words are in too many good passwords.
const SHORTEST: usize = 4;

/// So many characters beside names make a password one of its own.
const REST: usize = 8;

// === impl Context ===

impl<'a> Context<'a> {
    /// Of an account with this email and this name.
    pub const fn of(email: &'a str, name: &'a str) -> Self {
        Self { email, name }
    }
}

/// The words of a name as they are compared: letters and digits without upper case,
/// each word, and all of them together.
pub(super) fn words(name: &str) -> Vec<Box<str>> {
    let folded = fold(name);
    let parts = folded.split(|c: char| !c.is_alphanumeric());
    let mut words: Vec<Box<str>> = parts.map(Into::into).collect();
    words.push(bare(&folded).into());
    words.retain(|word| word.chars().count() >= SHORTEST);
    words.sort();
    words.dedup();
    words
}

/// The longest word in `folded` if, with all of the words taken away, fewer than
/// [`REST`] letters and digits are left.
///
/// So `acme-john-smith-2024` is hardly more than names, and `john keeps nine ravens` is more.
pub(super) fn fills(folded: &str, context: &Context<'_>, service: &[Box<str>]) -> Option<Box<str>> {
    let local = context
        .email
        .rsplit_once('@')
        .map_or(context.email, |(local, _)| local);
    let mut known = words(local);
    known.extend(words(context.name));
    known.extend_from_slice(service);
    // A longer one first: it may contain a shorter one.
    known.sort_by_key(|word| std::cmp::Reverse(word.len()));
    let mut rest = zeroize::Zeroizing::new(bare(folded));
    let mut found = None;
    for word in known {
        if rest.contains(&*word) {
            // Nothing grows together over the gap.
            rest = zeroize::Zeroizing::new(rest.replace(&*word, "\0"));
            found.get_or_insert(word);
        }
    }
    let left = rest.chars().filter(|&c| c != '\0').count();
    found.filter(|_| left < REST)
}

fn bare(folded: &str) -> String {
    folded.chars().filter(|c| c.is_alphanumeric()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMAIL: &str = "John.Smith+news@example.org";

    fn word(password: &str) -> Option<String> {
        let service: Vec<_> = words("Acme Cloud");
        let found = fills(
            &fold(password),
            &Context::of(EMAIL, "Renée Müller"),
            &service,
        );
        found.map(Into::into)
    }

    #[test]
    fn names_and_little_else_are_no_password() {
        for (password, name) in [
            ("johnsmithjohnsmith", "smith"),
            ("JohnSmith-2024!!", "smith"),
            ("john.smith+news1", "johnsmithnews"),
            ("AcmeCloud2024!!!", "acmecloud"),
            ("acme-acme-acme-acme", "acme"),
            ("RENÉE mu\u{308}ller 1", "renéemüller"),
            ("\u{ff21}\u{ff43}\u{ff4d}\u{ff45} cloud 123456", "acmecloud"),
        ] {
            assert_eq!(word(password).as_deref(), Some(name), "{password}");
        }
    }

    #[test]
    fn names_beside_other_words_are_taken() {
        for password in [
            "john keeps nine ravens",
            "acme horse battery staple",
            "correct horse battery",
            "example.org example.org",
        ] {
            assert_eq!(word(password), None, "{password}");
        }
    }

    #[test]
    fn nothing_known_matches_nothing() {
        assert!(fills("whatever it is", &Context::default(), &[]).is_none());
        assert!(fills("al bo cy di ed fay", &Context::of("al@x.org", "Bo Cy"), &[]).is_none());
    }
}
