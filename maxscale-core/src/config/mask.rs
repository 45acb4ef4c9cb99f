//! Hides passwords in text that is about to be shown.
//!
//! Where a password is written without the escapes that a URL asks for
//! (`postgres://u:p@ss/w@host`), nobody can tell for certain where it ends.
//! Every doubt is settled by hiding more: a shown host is a convenience, a
//! shown password an incident.

/// What stands in the place of a secret.
pub(super) const MASK: &str = "***";

/// Characters that may stand between two entries of a list of URLs.
const SEPARATORS: &[char] = &[
    ',', '|', '"', '\'', '`', '<', '(', '[', '{', ' ', '\t', '\n',
];

/// Hides the passwords of all URLs in `text`.
///
/// Hidden are the password before the host, an `http` user without password
/// (a token), and query parameters whose name speaks of a secret
/// (`password`, `sslpassword`, `token` …). Lists of entries of the form
/// `name=url|direct-url` keep their shape.
///
/// ```
/// use maxscale_core::config::mask_url;
///
/// assert_eq!(mask_url("redis://app:hunter2@cache:6379/0"), "redis://app:***@cache:6379/0");
/// assert_eq!(
///     mask_url("eu=postgres://u:p@a/db|postgres://u:p@b/db?sslpassword=q"),
///     "eu=postgres://u:***@a/db|postgres://u:***@b/db?sslpassword=***",
/// );
/// ```
#[must_use]
pub fn mask_url(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut start = 0;
    for (cut, _) in text.match_indices("://") {
        let cut = entry_start(text, cut);
        if cut > start
            && text[..cut].ends_with(SEPARATORS)
            && !password_still_open(&text[start..cut])
        {
            // The separator itself is one ASCII character and stays.
            mask_entry(&text[start..cut - 1], &mut masked);
            masked.push_str(&text[cut - 1..cut]);
            start = cut;
        }
    }
    mask_entry(&text[start..], &mut masked);
    masked
}

/// Where the entry begins whose `://` stands at `colon`: before the scheme,
/// and before a `name=` in front of it.
fn entry_start(text: &str, colon: usize) -> usize {
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
    let scheme = text[..colon].trim_end_matches(named);
    match scheme.strip_suffix('=') {
        Some(name) => name.trim_end_matches(named).len(),
        None => scheme.len(),
    }
}

/// Whether what looks like the next entry may still be inside the password
/// of this one: a user and a colon were seen, the `@` was not.
fn password_still_open(entry: &str) -> bool {
    entry
        .split_once("://")
        .and_then(|(_, rest)| Some((rest, user_colon(rest)?)))
        .is_some_and(|(rest, colon)| !rest[colon..].contains('@') && !is_port(rest, colon))
}

fn mask_entry(entry: &str, masked: &mut String) {
    let Some((scheme, rest)) = entry.split_once("://") else {
        return mask_parameters(entry, masked);
    };
    masked.push_str(scheme);
    masked.push_str("://");

    if let Some(colon) = user_colon(rest) {
        match rest.rfind('@') {
            // The last `@`, because the password may contain one.
            Some(at) if at > colon => {
                masked.push_str(&rest[..=colon]);
                masked.push_str(MASK);
                return mask_parameters(&rest[at..], masked);
            }
            None if !is_port(rest, colon) => {
                masked.push_str(&rest[..=colon]);
                return masked.push_str(MASK);
            }
            _ => {}
        }
    }
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority].rfind('@') {
        Some(at) if scheme.ends_with("http") || scheme.ends_with("https") => {
            masked.push_str(MASK);
            mask_parameters(&rest[at..], masked);
        }
        _ => mask_parameters(rest, masked),
    }
}

/// The first colon of `user:password@` or of `host:port`; those inside an
/// IPv6 address do not count.
fn user_colon(rest: &str) -> Option<usize> {
    let host = match rest.strip_prefix('[') {
        Some(address) => address.find(']').map_or(0, |end| end + 1),
        None => 0,
    };
    rest[host..].find(':').map(|colon| colon + host)
}

/// Whether the colon is followed by a port, or belongs to a path.
fn is_port(rest: &str, colon: usize) -> bool {
    let after = rest[colon + 1..].trim_start_matches(|c: char| c.is_ascii_digit());
    let ends = !after.starts_with(|c: char| c.is_alphanumeric() || c == '*');
    ends || rest[..colon].contains(['/', '?', '#'])
}

/// Hides the value of each `name=value` whose name speaks of a secret. The
/// value ends at `&` only, since a raw password may hold anything else.
fn mask_parameters(text: &str, masked: &mut String) {
    let mut rest = text;
    while let Some(equals) = rest.find('=') {
        let (name, value) = (&rest[..equals], &rest[equals + 1..]);
        masked.push_str(&rest[..=equals]);
        rest = value;
        let name = name.rsplit(['?', '&', ';', ',', ' ']).next();
        if name.is_some_and(names_a_secret) {
            masked.push_str(MASK);
            rest = &value[value.find('&').unwrap_or(value.len())..];
        }
    }
    masked.push_str(rest);
}

fn names_a_secret(name: &str) -> bool {
    const WORDS: [&str; 8] = [
        "pass",
        "pwd",
        "secret",
        "token",
        "credential",
        "signature",
        "apikey",
        "api_key",
    ];
    let name = name.to_ascii_lowercase();
    // An escaped letter could hide any of the words.
    name.contains('%') || WORDS.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

    use super::mask_url;

    #[test]
    fn user_host_and_path_stay_readable() {
        let cases = [
            ("redis://localhost:6379", "redis://localhost:6379"),
            ("redis://:pw@h", "redis://:***@h"),
            ("postgres://app@h:5432/db", "postgres://app@h:5432/db"),
            (
                "postgres://u:p@h1:1,h2:2/db",
                "postgres://u:***@h1:1,h2:2/db",
            ),
            (
                "postgres://u:p@[::1]:5432/db",
                "postgres://u:***@[::1]:5432/db",
            ),
            ("postgres://[::1]:5432/db", "postgres://[::1]:5432/db"),
            ("sqlite://./.maxscale/a.db", "sqlite://./.maxscale/a.db"),
            ("file:///srv/a:b", "file:///srv/a:b"),
            ("info,tower=debug", "info,tower=debug"),
        ];
        for (text, expected) in cases {
            assert_eq!(mask_url(text), expected);
        }
    }

    #[test]
    fn lists_of_named_entries_keep_their_shape() {
        assert_eq!(
            mask_url("a=postgres://u:p@h/db|postgres://u:q@h2/db,postgres://u:r@h3/db"),
            "a=postgres://u:***@h/db|postgres://u:***@h2/db,postgres://u:***@h3/db",
        );
    }

    #[test]
    fn secret_parameters_are_hidden_wherever_they_stand() {
        let cases = [
            (
                "postgres://h/db?sslmode=require&password=p&x=1",
                "postgres://h/db?sslmode=require&password=***&x=1",
            ),
            (
                "a=postgres://h?sslpassword=p,b=postgres://h",
                "a=postgres://h?sslpassword=***,b=postgres://h",
            ),
            (
                "https://h/o?X-Amz-Signature=abc",
                "https://h/o?X-Amz-Signature=***",
            ),
            ("postgres://h?p%61ssword=p", "postgres://h?p%61ssword=***"),
            ("host=h password=p", "host=h password=***"),
        ];
        for (text, expected) in cases {
            assert_eq!(mask_url(text), expected);
        }
    }

    #[test]
    fn doubt_hides_more() {
        let cases = [
            ("https://token@host/x", "https://***@host/x"),
            ("postgres://u:p@ss/w?r#d@h/db", "postgres://u:***@h/db"),
            ("postgres://u:x|y://z@h", "postgres://u:***@h"),
            ("postgres://u:no-host-follows", "postgres://u:***"),
        ];
        for (text, expected) in cases {
            assert_eq!(mask_url(text), expected);
        }
    }

    #[test]
    fn url_inside_a_sentence_is_masked() {
        assert_eq!(
            mask_url("cannot reach (redis://u:pw@h:1)"),
            "cannot reach (redis://u:***@h:1)",
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Any password at all, escaped or not, alone or in a list.
        #[test]
        fn password_never_shows(password in "[^\n]{0,24}") {
            if !password.contains("://") {
                let url = format!("postgres://user:{password}@host:5432/db");
                prop_assert_eq!(mask_url(&url), "postgres://user:***@host:5432/db");
                let list = format!("a={url}|redis://user:{password}@host,b={url}");
                prop_assert_eq!(
                    mask_url(&list),
                    "a=postgres://user:***@host:5432/db|redis://user:***@host,b=postgres://user:***@host:5432/db"
                );
            }
        }

        /// Even a password that looks like more URLs, as long as its own
        /// characters do not end it.
        #[test]
        fn password_made_of_url_parts_never_shows(
            parts in proptest::collection::vec(proptest::sample::select(vec!["://", "|", ",", "=", " ", "?", "/", "#", "[", "zq"]), 1..9)
        ) {
            let url = format!("postgres://user:zq{}@host/db", parts.concat());
            prop_assert!(!mask_url(&url).contains('z'), "{}", mask_url(&url));
        }

        #[test]
        fn parameter_value_never_shows(value in "[^&]{0,24}") {
            if !value.contains("://") && !value.contains('@') {
                let url = format!("postgres://host/db?password={value}&x=1");
                prop_assert_eq!(mask_url(&url), "postgres://host/db?password=***&x=1");
            }
        }

        #[test]
        fn masking_twice_changes_nothing(text in ".{0,40}", parts in "[a-z:/@|,=? ]{0,24}") {
            for text in [text, parts] {
                let once = mask_url(&text);
                prop_assert_eq!(mask_url(&once), once);
            }
        }
    }
}
