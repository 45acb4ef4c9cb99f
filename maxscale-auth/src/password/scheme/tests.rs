//! Hashes that other programs made.

use argon2::Params;

use super::*;

const PASSWORD: &str = "correct horse battery";

/// By argon2-cffi 25.1.0: the hash, and whether today's are harder to guess from.
const ARGON: &[(&str, bool)] = &[
    (
        "$argon2id$v=19$m=19456,t=2,p=1$BznJUV+XDDDV6Aq0SjqApQ$pxJYStCbmiR1CIlOl3MiJqUQzzapRiyOqrgWox/4EgE",
        false,
    ),
    (
        "$argon2id$v=19$m=65536,t=3,p=4$JPm/6bNd99CXe0wO2lHd2g$I7WTm9IxGhMHlCgq1ShkpJxA5W/eCfseZUyKvvuehdM",
        false,
    ),
    (
        "$argon2id$v=19$m=47104,t=1,p=1$Oj0hOx37IWrejn7I+Ro6kg$MGMSRNfvR/jCC0N6sU83u+WpoEjWVd7Puhim09lhEmo",
        false,
    ),
    (
        "$argon2id$v=19$m=8192,t=1,p=1$27LgFFV69u/hOFHDjYKJNA$K/U4IxpPTTN1qk3qilczOgAPErBAzfH5YFtjZsYgauw",
        true,
    ),
    (
        "$argon2i$v=19$m=4096,t=3,p=2$zWtB8MVjDPMUs10MnX6oEQ$B5yX4YnZ6hemnIYhbAxoXtoK/rJSoVPDL1jwx5kRM2w",
        true,
    ),
    (
        "$argon2d$v=19$m=64,t=1,p=4$pcAGxkvEZ0GKZJEFNlURGg$oHx+UmSH4zz/9xnuN8wrhG5pYzlYCFoPq7nYC+eMDQQ",
        true,
    ),
];

fn memory() -> Memory {
    Memory::new(Params::DEFAULT.block_count())
}

fn is_of(text: &str, password: &str) -> bool {
    let stored = Stored::parse(text).unwrap();
    stored.is_of(&Typed::new(password), &mut memory()).unwrap()
}

#[test]
fn hashes_of_other_programs_by_argon2_are_read() {
    for &(text, outdated) in ARGON {
        let stored = Stored::parse(text).unwrap();
        assert!(is_of(text, PASSWORD), "{text}");
        assert!(!is_of(text, "correct horse batterz"), "{text}");
        assert_eq!(stored.is_outdated(HashCost::OWASP), outdated, "{text}");
    }
    let unicode = "$argon2id$v=19$m=8192,t=1,p=1$H2of+6mwlYoaMA9w+n6SAg$o9Xp/4lDWkgjPZVu0yZw8ZOvtoLvrkDxiqDS6Gp81QQ";
    assert!(is_of(unicode, "pässwörd \u{2603} \u{1f511}"));
    assert!(is_of(unicode, "pa\u{308}sswo\u{308}rd \u{2603} \u{1f511}"));
}

#[test]
fn hash_is_written_as_it_is_read() {
    for &(text, _) in ARGON {
        assert_eq!(Argon::parse(text).unwrap().to_string(), text);
    }
}

/// Beyond the caps nothing is allocated: the last of these would take 4 TiB.
#[test]
fn hash_that_costs_too_much_is_not_begun() {
    let argon = |params: &str| {
        format!(
            "$argon2id$v=19${params}$BznJUV+XDDDV6Aq0SjqApQ$pxJYStCbmiR1CIlOl3MiJqUQzzapRiyOqrgWox/4EgE"
        )
    };
    for fits in ["m=262144,t=1,p=1", "m=8,t=10,p=1", "m=128,t=1,p=16"] {
        assert!(Stored::parse(&argon(fits)).is_ok(), "{fits}");
    }
    for beyond in [
        "m=262145,t=1,p=1",
        "m=19456,t=11,p=1",
        "m=19456,t=2,p=17",
        "m=4294967295,t=4294967295,p=16777215",
    ] {
        let refused = Stored::parse(&argon(beyond));
        assert!(matches!(refused, Err(AuthError::StoredHash)), "{beyond}");
    }
}

#[test]
fn what_is_no_hash_is_refused() {
    let long = format!("{}{}", ARGON[0].0, "A".repeat(512));
    let bcrypt = "$2b$04$/KgMHC47Y5Adfw6vv56EPesLJ4Q3msxv7WItPzdzaEEGb7xQfXC3C";
    let texts = [
        "",
        "$",
        "?",
        "correct horse battery",
        "5f4dcc3b5aa765d61d8327deb882cf99",
        "$argon2id$",
        "$argon2id$v=19$m=19456,t=2,p=1$BznJUV+XDDDV6Aq0SjqApQ",
        "$argon2id$v=19$m=19456,t=2,p=1$BznJUV+XDDDV6Aq0SjqApQ$",
        "$argon2id$v=18$m=19456,t=2,p=1$BznJUV+XDDDV6Aq0SjqApQ$pxJYStCbmiR1CIlOl3MiJqUQzzapRiyOqrgWox/4EgE",
        "$argon2x$v=19$m=19456,t=2,p=1$BznJUV+XDDDV6Aq0SjqApQ$pxJYStCbmiR1CIlOl3MiJqUQzzapRiyOqrgWox/4EgE",
        "$argon2id$v=19$m=1,t=0,p=0$BznJUV+XDDDV6Aq0SjqApQ$pxJYStCbmiR1CIlOl3MiJqUQzzapRiyOqrgWox/4EgE",
        "$mxs-bcrypt",
        "$mxs-bcrypt$2b$04$/KgMHC47Y5Adfw6vv56EPesLJ4Q3msxv7WItPzdzaEEGb7xQfXC3C",
        "$2x$04$/KgMHC47Y5Adfw6vv56EPesLJ4Q3msxv7WItPzdzaEEGb7xQfXC3C",
        "$2b$03$/KgMHC47Y5Adfw6vv56EPesLJ4Q3msxv7WItPzdzaEEGb7xQfXC3C",
        "$2b$15$/KgMHC47Y5Adfw6vv56EPesLJ4Q3msxv7WItPzdzaEEGb7xQfXC3C",
        "$2b$31$/KgMHC47Y5Adfw6vv56EPesLJ4Q3msxv7WItPzdzaEEGb7xQfXC3C",
        "$2b$-4$/KgMHC47Y5Adfw6vv56EPesLJ4Q3msxv7WItPzdzaEEGb7xQfXC3C",
        "$2b$04$/KgMHC47Y5Adfw6vv56EPesLJ4Q3msxv7WItPzdzaEEGb7xQfXC3é",
        "$2b$04$/KgMHC47Y5Adfw6vv56éesLJ4Q3msxv7WItPzdzaEEGb7xQfXC3C",
        &bcrypt[..59],
        &format!("{bcrypt}C"),
        &format!("{bcrypt}\n"),
        &long,
    ];
    for text in texts {
        let refused = Stored::parse(text);
        assert!(matches!(refused, Err(AuthError::StoredHash)), "{text:?}");
    }
}

#[cfg(not(feature = "bcrypt"))]
#[test]
fn bcrypt_is_unknown_without_its_feature() {
    let bcrypt = "$2b$04$/KgMHC47Y5Adfw6vv56EPesLJ4Q3msxv7WItPzdzaEEGb7xQfXC3C";
    assert!(Stored::parse(bcrypt).is_err());
}

#[cfg(feature = "bcrypt")]
mod bcrypt;
