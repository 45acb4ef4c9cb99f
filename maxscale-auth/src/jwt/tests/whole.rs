use proptest::prelude::*;

use super::*;

#[test]
fn token_says_what_was_issued_by_either_algorithm_and_in_each_state_that_verifies() {
    let (tokens, claims) = (tokens(), claims());
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
        let text = tokens.issue(&claims, &keys(algorithm)).unwrap();
        assert_eq!(
            tokens.verify(&text, &keys(algorithm), now()),
            Ok(claims.clone())
        );
        let other = key(Algorithm::EdDsa, 9);
        for (state, is_known) in [
            (KeyState::Next, true),
            (KeyState::Retiring, true),
            (KeyState::Gone, false),
        ] {
            let view = [
                (other.clone(), KeyState::Active),
                (key(algorithm, 7), state),
            ];
            let found = tokens.verify(&text, &Keys::new(view).unwrap(), now());
            let expected = is_known.then(|| claims.clone()).ok_or(Refused::Key);
            assert_eq!(found, expected, "{state:?}");
        }
    }
}

#[test]
fn key_set_names_what_verifies_and_no_private_part() {
    let view = [
        (key(Algorithm::EdDsa, 1), KeyState::Next),
        (key(Algorithm::Es256, 2), KeyState::Active),
        (key(Algorithm::EdDsa, 3), KeyState::Retiring),
        (key(Algorithm::EdDsa, 4), KeyState::Gone),
    ];
    let jwks = Keys::new(view).unwrap().jwks();
    let read: serde_json::Value = serde_json::from_str(&jwks).unwrap();
    let set = read["keys"].as_array().unwrap();
    assert_eq!(set.len(), 3);
    assert!(set.iter().all(|key| key["d"].is_null()), "{jwks}");
    assert!(set.iter().all(|key| key["use"] == "sig"), "{jwks}");
    let named = |name: &str| set.iter().filter(|key| key["alg"] == name).count();
    assert_eq!((named("EdDSA"), named("ES256")), (2, 1));
}

/// RFC 8037, appendix A.3.
#[test]
fn key_has_the_thumbprint_of_the_standard() {
    let seed = [
        0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c,
        0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae,
        0x7f, 0x60,
    ];
    let key = SigningKey::from_bytes(Algorithm::EdDsa, &seed).unwrap();
    assert_eq!(
        key.kid().as_str(),
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    );
    assert_eq!(key.to_bytes().expose(), seed);
    assert!(!format!("{key:?}").contains("9d"));
}

#[test]
fn keys_that_cannot_be_used_together_are_refused() {
    let key = |byte| key(Algorithm::EdDsa, byte);
    let none = Keys::new([(key(1), KeyState::Next)]);
    assert!(matches!(none, Err(KeysError::NoneActive)));
    let two = [(key(1), KeyState::Active), (key(2), KeyState::Active)];
    assert!(matches!(Keys::new(two), Err(KeysError::SeveralActive)));
    let twice = [(key(1), KeyState::Active), (key(1), KeyState::Gone)];
    assert!(matches!(Keys::new(twice), Err(KeysError::Twice(_))));
    let zero = SigningKey::from_bytes(Algorithm::Es256, &[0; 32]);
    assert!(matches!(zero, Err(SigningKeyError::Bytes(_))));
}

#[test]
fn nonsense_is_refused_before_a_token_is_written() {
    for name in ["", &"x".repeat(257)] {
        assert!(AccessTokens::new(name, AUDIENCE).is_err());
        assert!(AccessTokens::new(ISSUER, name).is_err());
    }
    for life in [
        Duration::ZERO,
        Duration::from_millis(999),
        Duration::from_secs(3_601),
    ] {
        assert!(tokens().lives(life).is_err());
    }
    let issue = |change: fn(&mut Claims)| {
        let mut claims = claims();
        change(&mut claims);
        tokens().issue(&claims, &keys(Algorithm::EdDsa))
    };
    let never = issue(|it| it.expires_at = it.issued_at);
    assert!(matches!(never, Err(IssueError::Life)));
    let longer = issue(|it| it.expires_at = it.issued_at.after(Duration::from_secs(901)));
    assert!(matches!(longer, Err(IssueError::Life)));
    let long = issue(|it| it.email = "x".repeat(8_000));
    assert!(matches!(long, Err(IssueError::Length(_))));
}

#[test]
fn time_is_judged_with_five_seconds_for_clocks_that_differ() {
    let (tokens, keys) = (tokens(), keys(Algorithm::EdDsa));
    let text = tokens.issue(&claims(), &keys).unwrap();
    let at = |seconds: i64| {
        let when = Timestamp::from_micros(now().as_micros() + seconds * 1_000_000);
        tokens.verify(&text, &keys, when).err()
    };
    assert_eq!(at(-6), Some(Refused::Early));
    assert_eq!(at(-5), None);
    assert_eq!(at(904), None);
    assert_eq!(at(905), Some(Refused::Expired));
}

proptest! {
    /// Neither a text that nobody wrote nor one that was changed anywhere is a token, and
    /// none of them panics.
    #[test]
    fn no_other_text_is_a_token(text in ".{0,300}", place in 0_usize..500, letter in "[ -~]") {
        let (tokens, keys) = (tokens(), keys(Algorithm::EdDsa));
        prop_assert!(tokens.verify(&text, &keys, now()).is_err());
        let issued = tokens.issue(&claims(), &keys).unwrap();
        let place = place % issued.len();
        let mut changed = issued.clone();
        changed.replace_range(place..=place, &letter);
        if changed != issued {
            prop_assert!(tokens.verify(&changed, &keys, now()).is_err(), "{}", changed);
        }
    }
}
