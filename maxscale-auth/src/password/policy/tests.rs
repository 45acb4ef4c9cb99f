use super::filter::FilterBuilder;
use super::*;

fn check(password: &str, factors: Factors) -> Result<NewPassword, Weakness> {
    let policy = PasswordPolicy::new().service(&["Acme"]);
    let context = Context::of("ada@example.org", "Ada Lovelace");
    policy.check(password, &context, factors)
}

fn alone(password: &str) -> Result<NewPassword, Weakness> {
    check(password, Factors::PasswordAlone)
}

fn numbers(chars: usize) -> String {
    let numbers: Vec<String> = (0..chars).map(|number| number.to_string()).collect();
    numbers.join(" ")[..chars].to_owned()
}

#[test]
fn characters_are_counted_as_they_are_hashed() {
    let length = |min| Weakness::Length { min, max: 256 };
    for fits in ["fifteen letters", "pässwörd ünd só", &numbers(256)] {
        assert!(alone(fits).is_ok(), "{fits}");
    }
    // Fifteen that become fourteen: a letter and its accent are one.
    for unfit in ["fourteen chars", "fourtee\u{301}n char", "", &numbers(257)] {
        assert_eq!(alone(unfit).unwrap_err(), length(15), "{unfit}");
    }
    // Three that become more than is allowed: each is eighteen.
    assert_eq!(alone(&"\u{fdfa}".repeat(15)).unwrap_err(), length(15));
    assert_eq!(alone(&"x".repeat(1_000_000)).unwrap_err(), length(15));
    assert!(check("eight ch", Factors::WithAnother).is_ok());
    assert_eq!(
        check("seven c", Factors::WithAnother).unwrap_err(),
        length(8)
    );
}

#[test]
fn what_is_tried_first_is_not_taken() {
    let with_another = |password| check(password, Factors::WithAnother).unwrap_err();
    assert_eq!(with_another("trustno1"), Weakness::Common);
    assert_eq!(with_another("TrustNo1"), Weakness::Common);
    assert_eq!(with_another("\u{ff34}rustno1"), Weakness::Common);
    assert_eq!(alone("passwordpassword").unwrap_err(), Weakness::Pattern);
    assert_eq!(alone("123456789012345").unwrap_err(), Weakness::Pattern);
    let context = alone("Lovelace_Acme_2024").unwrap_err();
    assert_eq!(context.code(), "password_context");
    assert!(!format!("{context:?} {context}").contains("lovelace"));
}

#[test]
fn nothing_must_be_in_a_password() {
    for any in [
        "only lower case words",
        "27419 58036 11947",
        "правильная лошадь",
        "正しい馬の電池の止め具を使いなさい",
    ] {
        assert!(alone(any).is_ok(), "{any}");
    }
}

#[test]
fn stolen_passwords_are_not_taken_in_either_form() {
    let mut builder = FilterBuilder::new(3, 1e-9).unwrap();
    builder.add("the old one of ours".as_bytes());
    builder.add("\u{ff34}he wide one of ours".as_bytes());
    let policy = PasswordPolicy::new().breached(Arc::new(builder.finish()));
    let check = |password| policy.check(password, &Context::default(), Factors::PasswordAlone);
    for stolen in [
        "the old one of ours",
        "\u{ff54}he old one of ours",
        "\u{ff34}he wide one of ours",
    ] {
        assert_eq!(check(stolen).unwrap_err(), Weakness::Breached, "{stolen}");
    }
    assert!(check("The wide one of ours").is_ok());
}
