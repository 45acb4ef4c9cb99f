//! Hashes by bcrypt that other programs made.

use super::*;

/// The password, and its hash.
const BCRYPT: &[(&str, &str)] = &[
    // py-bcrypt 5.0.0
    (
        "",
        "$2b$04$CYIGIoTNVWWQ15ZMpzm7QumVXc3gUm6po2BxXzaLRgx0kqNh.honW",
    ),
    (
        "x",
        "$2b$04$ZgW8dsfntOMFk5ZLT8otcuOqmU.Fl.Ln8UDYi2JCuTF4WqZ.gwan6",
    ),
    (
        "correct horse battery",
        "$2b$04$/KgMHC47Y5Adfw6vv56EPesLJ4Q3msxv7WItPzdzaEEGb7xQfXC3C",
    ),
    (
        "pässwörd \u{2603} \u{1f511}",
        "$2b$04$qt685nxYb9wDJL.jFD6O5OfLBF2OUFDQdNHIxYp/21zTtNsVsxUda",
    ),
    (
        "\u{212b}ngstr\u{f6}m \u{fb01}sh",
        "$2b$04$BCoTa0ySr6e9xfphT7/HveXuNOlAKmEBtxNTc7jHeAR5xCJa4DNiq",
    ),
    (
        "correct horse battery",
        "$2b$10$2eHjK4RQZCPM.BTQJyiJi.7E2g6IMcmKmLdMhKaoDtEkkMAnPInpK",
    ),
    (
        "correct horse battery",
        "$2a$04$bEukVG/Mo7/5EUSAUxLZM.6H5tgdhQt9rolyhhg6NG8IGMmCxEqs6",
    ),
    // bcryptjs 3.0.3
    (
        "correct horse battery",
        "$2b$04$HVXdPWdjLBai9LKpEeSJmOLOmAcIDmXQGCMHOweUHgtN9yVI7GmmG",
    ),
    (
        "pässwörd \u{2603} \u{1f511}",
        "$2b$04$Q8gY5TYIaw56UJ/Mic5hIO0/jYqBv.HaZ6Qm0i2n.aFP9tcwnJ/PK",
    ),
    (
        "correct horse battery",
        "$2a$04$LYuUof1P6eCCffAOWqrEL.BH.tBLkumqFlB3uaVGu1/BfwaZbL/L.",
    ),
    // htpasswd 2.4.67
    (
        "correct horse battery",
        "$2y$04$i9bHAD/w36/XRaZiU.P29eAN2HS03Lc2mT7aV44VOYP2yFLxJZkLe",
    ),
    (
        "pässwörd \u{2603} \u{1f511}",
        "$2y$04$ArEWzbtq8gNisRdsW9RxqOSu91STefoLPl9.z//tKNZPUkb1lajIC",
    ),
];

/// Of 71, 72 and 73 equal letters, of 40 of two bytes (py-bcrypt 5.0.0), and of 80 (bcryptjs 3.0.3).
const LONG: [(&str, usize, &str); 5] = [
    (
        "a",
        71,
        "$2b$04$zNaRXfp0V0I7qr/06BjDje09L7NwQ5/ig9Xmkb4LgFuwjF2dDdpui",
    ),
    (
        "a",
        72,
        "$2b$04$h2y999K6wkgh0vaFYbI2xOtrQhBAx8to9Ez9g/nl/LFAUaUm47i4e",
    ),
    (
        "a",
        73,
        "$2b$04$3bkBlErXrCd.9jPddQAfI.x2xjx5Ge3.NvlLMqsThflwUx.5NC4Xy",
    ),
    (
        "é",
        40,
        "$2b$04$AAqlPZ2rv3XhcnAi9RwIQ.iHRpab6ymOZlyPIn5vMP8vOcm8AAyYS",
    ),
    (
        "a",
        80,
        "$2b$04$XK8VbLlhwd1MBvnd12UX0uRWyvjXdViheOf1gVDUScblv1jqdvG.C",
    ),
];

fn wrap(text: &str) -> String {
    let hash = Bcrypt::parse(text).unwrap();
    let wrapped = Wrapped::over(hash, HashCost::OWASP, &mut memory());
    wrapped.unwrap().to_string()
}

#[test]
fn hashes_of_other_programs_by_bcrypt_are_read() {
    for &(password, text) in BCRYPT {
        let stored = Stored::parse(text).unwrap();
        assert_eq!(stored.scheme(), Scheme::Bcrypt);
        assert!(stored.is_outdated(HashCost::OWASP));
        assert!(is_of(text, password), "{text}");
        assert!(!is_of(text, &format!("{password} ")), "{text}");
    }
}

#[test]
fn as_in_the_older_system_72_bytes_count() {
    for (letter, times, text) in LONG {
        assert!(is_of(text, &letter.repeat(times)), "{text}");
        let (less, more) = (letter.repeat(times - 1), letter.repeat(times + 1));
        let long = letter.len() * times;
        assert_eq!(is_of(text, &more), long >= 72, "{text}");
        assert_eq!(is_of(text, &less), long - letter.len() >= 72, "{text}");
    }
}

/// `x` and what would be the same key without the zero byte at its end.
#[test]
fn password_twice_is_another_one() {
    let (password, text) = BCRYPT[1];
    assert!(is_of(text, password));
    assert!(!is_of(text, &password.repeat(2)));
}

#[test]
fn wrapped_hash_is_of_the_same_password_and_hides_the_digest() {
    for &(password, text) in BCRYPT {
        let wrapped = wrap(text);
        let stored = Stored::parse(&wrapped).unwrap();
        assert_eq!(stored.scheme(), Scheme::Wrapped);
        assert!(stored.is_outdated(HashCost::OWASP));
        assert!(wrapped.starts_with(&format!("$mxs-bcrypt{}$argon2id$", &text[..29])));
        assert!(!wrapped.contains(&text[29..]));
        assert!(is_of(&wrapped, password), "{wrapped}");
        assert!(!is_of(&wrapped, &format!("{password} ")), "{wrapped}");
    }
}

#[test]
fn wrapped_hash_is_within_the_caps_in_both_its_parts() {
    let wrapped = wrap(BCRYPT[0].1);
    for (part, beyond) in [
        ("$2b$04$", "$2b$15$"),
        ("m=19456", "m=262145"),
        ("t=2", "t=11"),
    ] {
        let text = wrapped.replacen(part, beyond, 1);
        assert_ne!(text, wrapped);
        assert!(Stored::parse(&text).is_err(), "{text}");
    }
}

#[test]
fn bits_beyond_the_salt_are_ignored_as_by_those_who_wrote_them() {
    // The last character of the salt has four bits that are none of its 16 bytes.
    let (password, text) = BCRYPT[2];
    assert_eq!(&text[28..29], "e");
    for last in ["f", "g", "r"] {
        let text = format!("{}{last}{}", &text[..28], &text[29..]);
        assert!(is_of(&text, password), "{text}");
    }
}
