//! What comes by mail, and what comes of it.

use std::time::Duration;

use maxscale_auth::{
    Accounts, AuthError, Client, LoggedIn, MailKind, Principal, SignUps, SignedUp,
};
use maxscale_core::refusal::Classify;

use crate::letters::build;
use crate::support::{Bench, PASSWORD};

on_both!(
    quiet_account_begins_with_its_link_and_its_password,
    who_signed_up_first_with_anothers_address_has_nothing,
    answers_are_the_same_whether_there_is_an_account_or_not,
    reset_sets_a_password_and_ends_all_else,
    changed_password_ends_the_other_sessions_and_all_tokens,
    magic_link_logs_in_once,
    magic_link_takes_from_an_unverified_account_what_others_had,
    locked_account_is_told_only_to_who_proves_it,
    token_is_good_for_its_purpose_its_time_and_its_realm,
);

const EMAIL: &str = "ada@example.org";
const NEW: &str = "another horse battery";

impl Bench {
    /// The same accounts, which tell nobody who has one.
    pub(crate) fn quiet(&self) -> Accounts {
        let (router, ids, keys) = (self.router(), self.ids.clone(), self.keys.clone());
        let builder = Accounts::builder(router.clone(), ids, keys, self.passwords.clone());
        let builder = builder.clock(self.clock.clone()).sign_ups(SignUps::Quiet);
        build(builder, &self.letters)
    }

    /// Signs up, follows the link, and is logged in.
    pub(crate) async fn ada(&self, accounts: &Accounts) -> (LoggedIn, Principal) {
        self.join(accounts, EMAIL).await
    }

    pub(crate) async fn join(&self, accounts: &Accounts, email: &str) -> (LoggedIn, Principal) {
        let signed_up = accounts.sign_up(email, PASSWORD, "Ada", &at("join")).await;
        assert!(matches!(signed_up, Ok(SignedUp::Mailed)));
        let token = self.letters.token(MailKind::ConfirmSignUp, email).await;
        let confirmed = accounts
            .confirm_sign_up(&token, PASSWORD, &at("join"))
            .await;
        let begun = confirmed.unwrap();
        let principal = self.who(&begun.token).await.unwrap();
        (begun, principal)
    }

    pub(crate) async fn users(&self) -> i64 {
        let users = self.counts("SELECT count(*) AS n FROM ms_user").await;
        users.iter().sum()
    }
}

/// A client at an address of its own.
pub(crate) fn at(address: &str) -> Client<'_> {
    Client::new(address)
}

async fn quiet_account_begins_with_its_link_and_its_password(bench: Bench) {
    let accounts = bench.quiet();
    let signed_up = accounts.sign_up(EMAIL, PASSWORD, "Ada", &at("1")).await;
    assert!(matches!(signed_up, Ok(SignedUp::Mailed)));
    let early = accounts.log_in(EMAIL, PASSWORD, &at("2")).await;
    assert!(matches!(early, Err(AuthError::Credentials)), "{early:?}");

    let token = bench.letters.token(MailKind::ConfirmSignUp, EMAIL).await;
    let wrong = accounts.confirm_sign_up(&token, NEW, &at("3")).await;
    assert!(matches!(wrong, Err(AuthError::Credentials)), "{wrong:?}");
    let begun = accounts
        .confirm_sign_up(&token, PASSWORD, &at("4"))
        .await
        .unwrap();
    assert_eq!(begun.user.verified_at, Some(bench.clock.now()));
    assert_eq!(bench.who(&begun.token).await.unwrap().user(), begun.user.id);
    let again = accounts.confirm_sign_up(&token, PASSWORD, &at("5")).await;
    assert!(matches!(again, Err(AuthError::MailToken)), "{again:?}");

    let back = accounts.log_in(EMAIL, PASSWORD, &at("6")).await.unwrap();
    assert_eq!(back.user, begun.user);
}

async fn who_signed_up_first_with_anothers_address_has_nothing(bench: Bench) {
    let accounts = bench.quiet();
    accounts
        .sign_up(EMAIL, "a long one of mallory's own", "Eve", &at("1"))
        .await
        .unwrap();
    let mallorys = bench.letters.token(MailKind::ConfirmSignUp, EMAIL).await;
    accounts
        .sign_up(EMAIL, PASSWORD, "Ada", &at("2"))
        .await
        .unwrap();
    let adas = bench.letters.token(MailKind::ConfirmSignUp, EMAIL).await;

    // Ada may follow the link of a sign-up that was not hers: her password is not its.
    let misled = accounts
        .confirm_sign_up(&mallorys, PASSWORD, &at("3"))
        .await;
    assert!(matches!(misled, Err(AuthError::Credentials)), "{misled:?}");
    let ada = accounts
        .confirm_sign_up(&adas, PASSWORD, &at("4"))
        .await
        .unwrap();
    assert_eq!(ada.user.name, "Ada");

    let late = accounts
        .confirm_sign_up(&mallorys, "a long one of mallory's own", &at("5"))
        .await;
    assert!(matches!(late, Err(AuthError::MailToken)), "{late:?}");
    let eve = accounts
        .log_in(EMAIL, "a long one of mallory's own", &at("6"))
        .await;
    assert!(matches!(eve, Err(AuthError::Credentials)), "{eve:?}");
    assert_eq!(bench.users().await, 1);
}

/// What a client sees of an answer.
fn seen<T>(answer: &Result<T, AuthError>) -> String {
    match answer {
        Ok(_) => "ok".to_owned(),
        Err(error) => format!(
            "{:?} {} {error} {:?}",
            error.class(),
            error.code(),
            error.detail()
        ),
    }
}

async fn answers_are_the_same_whether_there_is_an_account_or_not(bench: Bench) {
    let accounts = bench.quiet();
    bench.ada(&accounts).await;
    bench.join(&accounts, "locked@example.org").await;
    let locked = accounts
        .log_in("locked@example.org", PASSWORD, &at("l"))
        .await
        .unwrap();
    accounts.lock(locked.user.id).await.unwrap();
    accounts
        .sign_up("half@example.org", PASSWORD, "Half", &at("h"))
        .await
        .unwrap();

    let mut answers: Vec<(&str, Vec<String>)> = Vec::new();
    for email in [
        EMAIL,
        "locked@example.org",
        "half@example.org",
        "free@example.org",
    ] {
        let here = |flow: &str| format!("{flow} of {email}");
        let wrong = seen(&accounts.log_in(email, NEW, &at(&here("log in"))).await);
        let forgot = seen(&accounts.forgot_password(email, &at(&here("forgot"))).await);
        let magic = seen(&accounts.send_magic_link(email, &at(&here("magic"))).await);
        let resend = seen(&accounts.resend_sign_up(email, &at(&here("resend"))).await);
        let short = seen(
            &accounts
                .sign_up(email, "short", "Ada", &at(&here("short")))
                .await,
        );
        let sign_up = accounts
            .sign_up(email, NEW, "Ada", &at(&here("sign up")))
            .await;
        assert!(matches!(sign_up, Ok(SignedUp::Mailed)), "{sign_up:?}");
        answers.push((
            email,
            vec![wrong, forgot, magic, resend, short, seen(&sign_up)],
        ));
    }
    for (email, answer) in &answers {
        assert_eq!(answer, &answers[0].1, "{email}");
    }
    // The address that has an account hears of it, and not by a token.
    let told = bench.letters.take(MailKind::AlreadyRegistered, EMAIL).await;
    assert_eq!(told.link(), "https://app.example/auth/forgot");
}

async fn reset_sets_a_password_and_ends_all_else(bench: Bench) {
    let accounts = bench.quiet();
    let (ada, _) = bench.ada(&accounts).await;
    accounts.send_magic_link(EMAIL, &at("1")).await.unwrap();
    let magic = bench.letters.token(MailKind::LogIn, EMAIL).await;
    accounts.forgot_password(EMAIL, &at("2")).await.unwrap();
    let older = bench.letters.token(MailKind::ResetPassword, EMAIL).await;
    accounts.forgot_password(EMAIL, &at("3")).await.unwrap();
    let token = bench.letters.token(MailKind::ResetPassword, EMAIL).await;

    let replaced = accounts.reset_password(&older, NEW, &at("4")).await;
    assert!(
        matches!(replaced, Err(AuthError::MailToken)),
        "{replaced:?}"
    );
    let short = accounts.reset_password(&token, "short", &at("5")).await;
    assert!(
        matches!(short, Err(AuthError::PasswordLength { .. })),
        "{short:?}"
    );
    accounts
        .reset_password(&token, NEW, &at("6"))
        .await
        .unwrap();

    assert_eq!(bench.who(&ada.token).await, None);
    let magic = accounts.redeem_magic_link(&magic, &at("7")).await;
    assert!(matches!(magic, Err(AuthError::MailToken)), "{magic:?}");
    assert!(accounts.log_in(EMAIL, PASSWORD, &at("8")).await.is_err());
    accounts.log_in(EMAIL, NEW, &at("9")).await.unwrap();
    bench.letters.take(MailKind::PasswordChanged, EMAIL).await;
}

async fn changed_password_ends_the_other_sessions_and_all_tokens(bench: Bench) {
    let accounts = bench.quiet();
    let (phone, _) = bench.ada(&accounts).await;
    let laptop = accounts.log_in(EMAIL, PASSWORD, &at("1")).await.unwrap();
    let own = bench.who(&laptop.token).await.unwrap();
    accounts.forgot_password(EMAIL, &at("2")).await.unwrap();
    let reset = bench.letters.token(MailKind::ResetPassword, EMAIL).await;

    let change = async |address: &str, old| {
        let client = at(address).session(Some(&own));
        accounts.change_password(old, NEW, &client).await
    };
    assert!(matches!(change("3", None).await, Err(AuthError::NotFresh)));
    assert!(matches!(
        change("4", Some(NEW)).await,
        Err(AuthError::Credentials)
    ));
    let token = change("5", Some(PASSWORD)).await.unwrap().unwrap();

    assert_eq!(bench.who(&phone.token).await, None);
    assert_eq!(bench.who(&token).await.unwrap().session(), own.session());
    assert_ne!(token, laptop.token);
    assert!(
        accounts
            .reset_password(&reset, NEW, &at("6"))
            .await
            .is_err()
    );
    assert!(accounts.log_in(EMAIL, PASSWORD, &at("7")).await.is_err());
    accounts.log_in(EMAIL, NEW, &at("8")).await.unwrap();
}

async fn magic_link_logs_in_once(bench: Bench) {
    let accounts = bench.quiet();
    let (_, old) = bench.ada(&accounts).await;
    accounts.send_magic_link(EMAIL, &at("1")).await.unwrap();
    let token = bench.letters.token(MailKind::LogIn, EMAIL).await;

    // The session that it is brought with ends.
    let client = at("2").session(Some(&old));
    let begun = accounts.redeem_magic_link(&token, &client).await.unwrap();
    let sessions = accounts.sessions().list(begun.user.id).await.unwrap();
    let ids: Vec<_> = sessions.iter().map(|it| it.session.id).collect();
    assert_eq!(ids, [bench.who(&begun.token).await.unwrap().session()]);
    let again = accounts.redeem_magic_link(&token, &at("3")).await;
    assert!(matches!(again, Err(AuthError::MailToken)), "{again:?}");
    accounts.log_in(EMAIL, PASSWORD, &at("4")).await.unwrap();
}

async fn magic_link_takes_from_an_unverified_account_what_others_had(bench: Bench) {
    let squatter = bench
        .accounts
        .sign_up(EMAIL, PASSWORD, "Eve")
        .await
        .unwrap();
    let accounts = bench.quiet();
    let unverified = accounts.log_in(EMAIL, PASSWORD, &at("1")).await;
    assert!(
        matches!(unverified, Err(AuthError::Unverified)),
        "{unverified:?}"
    );

    accounts.send_magic_link(EMAIL, &at("2")).await.unwrap();
    let token = bench.letters.token(MailKind::LogIn, EMAIL).await;
    let ada = accounts.redeem_magic_link(&token, &at("3")).await.unwrap();

    assert!(bench.who(&ada.token).await.is_some());
    assert_eq!(bench.who(&squatter.token).await, None);
    let eve = accounts.log_in(EMAIL, PASSWORD, &at("4")).await;
    assert!(matches!(eve, Err(AuthError::Credentials)), "{eve:?}");
}

async fn locked_account_is_told_only_to_who_proves_it(bench: Bench) {
    let accounts = bench.quiet();
    let (ada, _) = bench.ada(&accounts).await;
    accounts.send_magic_link(EMAIL, &at("1")).await.unwrap();
    let magic = bench.letters.token(MailKind::LogIn, EMAIL).await;
    assert!(accounts.lock(ada.user.id).await.unwrap());

    assert_eq!(bench.who(&ada.token).await, None);
    let right = accounts.log_in(EMAIL, PASSWORD, &at("2")).await;
    assert!(matches!(right, Err(AuthError::Locked)), "{right:?}");
    let wrong = accounts.log_in(EMAIL, NEW, &at("3")).await;
    assert!(matches!(wrong, Err(AuthError::Credentials)), "{wrong:?}");
    let link = accounts.redeem_magic_link(&magic, &at("4")).await;
    assert!(matches!(link, Err(AuthError::Locked)), "{link:?}");

    assert!(accounts.unlock(ada.user.id).await.unwrap());
    accounts.redeem_magic_link(&magic, &at("5")).await.unwrap();
}

async fn token_is_good_for_its_purpose_its_time_and_its_realm(bench: Bench) {
    let accounts = bench.quiet();
    bench.ada(&accounts).await;
    accounts.forgot_password(EMAIL, &at("1")).await.unwrap();
    let token = bench.letters.token(MailKind::ResetPassword, EMAIL).await;

    let magic = accounts.redeem_magic_link(&token, &at("2")).await;
    assert!(matches!(magic, Err(AuthError::MailToken)), "{magic:?}");
    assert_eq!(
        accounts.purpose(&token),
        Some(maxscale_auth::Purpose::ResetPassword)
    );
    assert_eq!(accounts.purpose("mxm_x"), None);
    bench.time.advance(Duration::from_secs(1_801));
    let late = accounts.reset_password(&token, NEW, &at("3")).await;
    assert!(matches!(late, Err(AuthError::MailToken)), "{late:?}");

    let (ids, keys) = (bench.ids.clone(), bench.keys.clone());
    let router = bench.router().clone();
    let elsewhere = Accounts::builder(router, ids, keys, bench.passwords.clone());
    let elsewhere = elsewhere
        .realm(maxscale_auth::Realm::new(1))
        .clock(bench.clock.clone());
    let elsewhere = build(elsewhere, &bench.letters);
    assert_eq!(elsewhere.purpose(&token), None);
    // The same address has an account of its own there.
    let signed_up = elsewhere.sign_up(EMAIL, NEW, "Ada", &at("4")).await;
    assert!(matches!(signed_up, Ok(SignedUp::Mailed)));
    let token = bench.letters.token(MailKind::ConfirmSignUp, EMAIL).await;
    let other = elsewhere
        .confirm_sign_up(&token, NEW, &at("5"))
        .await
        .unwrap();
    assert_eq!(bench.users().await, 2);
    assert_eq!(accounts.user(other.user.id).await.unwrap(), None);
}
