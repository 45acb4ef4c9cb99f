use std::time::{Duration, UNIX_EPOCH};

use maxscale_core::clock::Timestamp;

use super::{Mail, MailKind};

/// What a mail says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "callers write it")]
pub struct Letter {
    /// The subject, one line.
    pub subject: String,
    /// The text. It holds the link, on a line of its own.
    pub text: String,
}

/// Plain words in English, in the name of `service`.
///
/// A function of one's own with the same signature says it in another way.
pub fn english(service: &str) -> impl Fn(&Mail) -> Letter + Send + Sync + 'static {
    let service = service.to_owned();
    move |mail| {
        let (subject, before, after) = words(mail.kind());
        let mut text = format!("{before}\n\n{}\n\n", mail.link());
        if let Some(until) = mail.expires_at() {
            text.push_str(&format!("The link can be used until {}.\n", date(until)));
        }
        text.push_str(after);
        text.push_str(&format!("\n\n{service}\n"));
        Letter {
            subject: format!("{service}: {subject}"),
            text,
        }
    }
}

/// The subject, what stands before the link, and what after it.
const fn words(kind: MailKind) -> (&'static str, &'static str, &'static str) {
    match kind {
        MailKind::ConfirmSignUp => (
            "confirm your address",
            "Somebody signed up with this address. To confirm it, open",
            "If it was not you, ignore this mail.",
        ),
        MailKind::AlreadyRegistered => (
            "you have an account",
            "Somebody signed up with this address, which has an account already. If you \
             forgot the password, open",
            "If it was not you, ignore this mail: nothing has changed.",
        ),
        MailKind::ResetPassword => (
            "set a new password",
            "Somebody asked for a new password for your account. To set one, open",
            "If it was not you, ignore this mail: the password stays.",
        ),
        MailKind::LogIn => (
            "log in",
            "Somebody asked for a link to log in to your account. To log in, open",
            "If it was not you, ignore this mail.",
        ),
        MailKind::ConfirmEmail => (
            "confirm your new address",
            "Somebody made this the new address of an account. To confirm it, open",
            "If it was not you, ignore this mail.",
        ),
        MailKind::EmailChanged => (
            "your address was changed",
            "Your account has another address now. If that was not you, open",
            "It makes this one the address of the account again.",
        ),
        MailKind::PasswordChanged => (
            "your password was changed",
            "Your account has another password now. If that was not you, open",
            "There you can ask for a new one.",
        ),
    }
}

/// As people and programs read it, in UTC.
fn date(at: Timestamp) -> String {
    let since = Duration::from_millis(at.as_millis());
    httpdate::fmt_http_date(UNIX_EPOCH + since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letter_has_the_link_on_a_line_of_its_own_and_its_end() {
        let until = Timestamp::from_micros(1_800_000_000_000_000);
        let link = "https://app.test/reset?token=t";
        let mail = |until| {
            let to = "a@example.com".to_owned();
            Mail::new(MailKind::ResetPassword, to, link.to_owned(), until)
        };
        let letter = english("Acme")(&mail(Some(until)));
        assert_eq!(letter.subject, "Acme: set a new password");
        assert!(letter.text.lines().any(|line| line == link));
        assert!(letter.text.contains("until Fri, 15 Jan 2027 08:00:00 GMT."));
        assert!(!english("Acme")(&mail(None)).text.contains("until"));
    }
}
