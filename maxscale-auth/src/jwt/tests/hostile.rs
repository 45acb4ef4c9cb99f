use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

use super::*;

/// What a token is made of, to be changed.
struct Forge {
    header: String,
    payload: String,
    key: SigningKey,
}

// === impl Forge ===

impl Forge {
    fn new() -> Self {
        let text = tokens().issue(&claims(), &keys(Algorithm::EdDsa)).unwrap();
        let part = |number| {
            let part = text.split('.').nth(number).unwrap();
            String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        Self {
            header: part(0),
            payload: part(1),
            key: key(Algorithm::EdDsa, 7),
        }
    }

    fn header(mut self, change: impl FnOnce(&str) -> String) -> Self {
        self.header = change(&self.header);
        self
    }

    /// Something else for the value of this claim.
    fn claim(mut self, name: &str, value: &str) -> Self {
        let from = self.payload.find(&format!("\"{name}\":")).unwrap() + name.len() + 3;
        let rest = &self.payload[from..];
        let length = match rest.as_bytes()[0] {
            b'[' => rest.find(']').unwrap() + 1,
            b'"' => rest[1..].find('"').unwrap() + 2,
            _ => rest.find([',', '}']).unwrap(),
        };
        self.payload.replace_range(from..from + length, value);
        self
    }

    fn payload(mut self, change: impl FnOnce(&str) -> String) -> Self {
        self.payload = change(&self.payload);
        self
    }

    fn without(self, name: &str) -> Self {
        let other = format!("\"x{name}\":");
        self.payload(|it| it.replacen(&format!("\"{name}\":"), &other, 1))
    }

    fn signed_by(mut self, key: SigningKey) -> Self {
        self.key = key;
        self
    }

    fn text(&self) -> String {
        let signed = [&self.header, &self.payload].map(|it| URL_SAFE_NO_PAD.encode(it));
        let mut text = signed.join(".");
        let signature = self.key.sign(text.as_bytes());
        write!(text, ".{}", URL_SAFE_NO_PAD.encode(signature)).unwrap();
        text
    }
}

fn refused(text: &str) -> Option<Refused> {
    tokens().verify(text, &keys(Algorithm::EdDsa), now()).err()
}

#[test]
fn forge_itself_writes_valid_tokens() {
    assert_eq!(refused(&Forge::new().text()), None);
    // What a later version of ours may say beside, and what a standard allows.
    let more = Forge::new().payload(|it| it.replacen('{', r#"{"later":{"a":[1]},"nbf":1,"#, 1));
    assert_eq!(refused(&more.text()), None);
}

/// Each is signed by the very key, so that nothing but what is wrong with it refuses it.
#[test]
fn header_is_one_that_a_key_of_ours_writes() {
    let swap = |from: &'static str, to: &'static str| {
        move |it: &str| {
            assert!(it.contains(from), "{it}");
            it.replacen(from, to, 1)
        }
    };
    let more = |more: &'static str| swap("{", more);
    let headers: [(&str, Forge); 20] = [
        ("none", Forge::new().header(swap("EdDSA", "none"))),
        ("None", Forge::new().header(swap("EdDSA", "nOnE"))),
        ("HS256", Forge::new().header(swap("EdDSA", "HS256"))),
        ("RS256", Forge::new().header(swap("EdDSA", "RS256"))),
        ("ES256", Forge::new().header(swap("EdDSA", "ES256"))),
        ("lower case", Forge::new().header(swap("EdDSA", "eddsa"))),
        ("no alg", Forge::new().header(swap(r#""alg":"EdDSA","#, ""))),
        ("typ JWT", Forge::new().header(swap("at+jwt", "JWT"))),
        ("typ logout", Forge::new().header(swap("at+jwt", "logout+jwt"))),
        ("no typ", Forge::new().header(swap(r#","typ":"at+jwt""#, ""))),
        ("crit", Forge::new().header(more(r#"{"crit":["b64"],"b64":false,"#))),
        ("crit unknown", Forge::new().header(more(r#"{"crit":["x"],"x":1,"#))),
        ("jwk", Forge::new().header(more(
            r#"{"jwk":{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},"#,
        ))),
        ("jku", Forge::new().header(more(r#"{"jku":"https://evil.example/jwks","#))),
        ("x5u", Forge::new().header(more(r#"{"x5u":"https://evil.example/x","#))),
        ("kid path", Forge::new().header(swap(r#""kid":""#, r#""kid":"../../dev/null"#))),
        ("kid SQL", Forge::new().header(swap(r#""kid":""#, r#""kid":"' OR 1=1 --"#))),
        ("two algs", Forge::new().header(more(r#"{"alg":"none","#))),
        ("zip", Forge::new().header(more(r#"{"zip":"DEF","#))),
        ("blanks", Forge::new().header(more("{ "))),
    ];
    for (name, forge) in headers {
        assert_eq!(refused(&forge.text()), Some(Refused::Key), "{name}");
    }
}

#[test]
fn key_of_a_header_alone_verifies() {
    // By the public key as a secret, as a library that takes the header's word would.
    let own = Forge::new();
    let stranger = Forge::new().signed_by(key(Algorithm::EdDsa, 8)).text();
    assert_eq!(refused(&stranger), Some(Refused::Signature));
    let other = Forge::new().signed_by(key(Algorithm::Es256, 7)).text();
    assert_eq!(refused(&other), Some(Refused::Signature));
    let header = key(Algorithm::EdDsa, 8).public().header();
    let named = String::from_utf8(URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    let unknown = own.header(|_| named).signed_by(key(Algorithm::EdDsa, 8));
    assert_eq!(refused(&unknown.text()), Some(Refused::Key));
}

#[test]
fn claims_are_there_once_and_of_their_types() {
    let required = [
        "iss",
        "aud",
        "sub",
        "user_id",
        "email",
        "roles",
        "session_id",
        "epoch",
        "aal",
        "auth_time",
        "jti",
        "iat",
        "exp",
    ];
    for name in required {
        assert_eq!(
            refused(&Forge::new().without(name).text()),
            Some(Refused::Claims),
            "no {name}"
        );
        let twice = Forge::new().payload(|it| {
            let from = it.find(&format!("\"{name}\":")).unwrap();
            let entry = it[from..]
                .split(",\"")
                .next()
                .unwrap()
                .trim_end_matches('}');
            format!("{{{entry},{}", &it[1..])
        });
        assert_eq!(
            refused(&twice.text()),
            Some(Refused::Claims),
            "two of {name}"
        );
    }
    for (name, value) in [
        ("exp", r#""1800000900""#),
        ("exp", "1e400"),
        ("exp", "1800000900.5"),
        ("exp", "null"),
        ("exp", "99999999999999999999"),
        ("exp", "9223372036854775807"),
        ("iat", "-9223372036854775808"),
        ("iat", "true"),
        ("aud", r#"["platform"]"#),
        ("aud", "null"),
        ("iss", "{}"),
        ("sub", r#""ada""#),
        ("sub", "\"00000000-0000-0000-0000-000000000000\""),
        ("user_id", "\"00000000-0000-0000-0000-000000000000\""),
        ("session_id", "7"),
        ("roles", r#""admin""#),
        ("roles", r#"["a b"]"#),
        ("roles", r#"[""]"#),
        ("epoch", "-1"),
        ("aal", "3"),
        ("aal", "0"),
        ("aal", "256"),
        ("email", "null"),
    ] {
        let text = Forge::new().claim(name, value).text();
        assert_eq!(refused(&text), Some(Refused::Claims), "{name}: {value}");
    }
    for payload in ["", "null", "[]", "{}", "\u{feff}{}", "{", "7"] {
        let text = Forge::new().payload(|_| payload.to_owned()).text();
        assert_eq!(refused(&text), Some(Refused::Claims), "{payload}");
    }
    let late = Forge::new().payload(|it| it.replacen('{', r#"{"nbf":"1","#, 1));
    assert_eq!(refused(&late.text()), Some(Refused::Claims));
}

#[test]
fn claims_are_for_here_and_now() {
    for (name, value, why) in [
        ("iss", r#""https://evil.example""#, Refused::Issuer),
        ("iss", r#""https://platform.example/""#, Refused::Issuer),
        ("aud", r#""other""#, Refused::Audience),
        ("aud", r#""""#, Refused::Audience),
        ("iat", "1800000006", Refused::Early),
        ("exp", "1799999995", Refused::Expired),
        ("exp", "0", Refused::Expired),
        ("exp", "-1", Refused::Expired),
        ("exp", "1800003601", Refused::Life),
        ("iat", "0", Refused::Life),
    ] {
        let text = Forge::new().claim(name, value).text();
        assert_eq!(refused(&text), Some(why), "{name}: {value}");
    }
    for nbf in ["1800000006", "9223372036854775807"] {
        let more = format!(r#"{{"nbf":{nbf},"#);
        let early = Forge::new().payload(|it| it.replacen('{', &more, 1));
        assert_eq!(refused(&early.text()), Some(Refused::Early));
    }
}

#[test]
fn form_is_three_parts_of_unpadded_base64url() {
    let text = Forge::new().text();
    let parts: Vec<&str> = text.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        panic!("{text}")
    };
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let texts = [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!("{header}..{signature}"),
        format!(".{payload}.{signature}"),
        format!("{text}.{signature}"),
        format!("{text} "),
        format!(" {text}"),
        format!("{text}\n"),
        format!("{header}.{payload}.{}", URL_SAFE.encode(&raw)),
        format!("{header}.{payload}.{}", URL_SAFE_NO_PAD.encode(&raw[..63])),
        format!("{header}.{payload}.{}A", signature),
        format!("{header}.{payload}.{}", STANDARD_NO_PAD.encode([0xff; 64])),
        "é".repeat(100),
    ];
    for bad in &texts {
        assert!(refused(bad).is_some(), "{bad}");
    }
    let more = format!(r#"{{"more":"{}","#, "x".repeat(AccessTokens::MAX_LEN));
    let long = Forge::new().payload(|it| it.replacen('{', &more, 1)).text();
    assert_eq!(refused(&long), Some(Refused::Length));
    // The last letter of 64 bytes has four bits that say nothing: they must be zero.
    let last = signature.chars().last().unwrap();
    for letter in ('A'..='Z')
        .chain('a'..='z')
        .chain('0'..='9')
        .chain(['-', '_'])
    {
        if letter != last {
            let other = format!("{}{letter}", &text[..text.len() - 1]);
            assert!(refused(&other).is_some(), "{letter}");
        }
    }
}
