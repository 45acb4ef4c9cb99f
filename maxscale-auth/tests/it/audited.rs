//! What the audit hears of each flow: exactly what was done, why something was refused,
//! and nothing that is of use to who reads it.

use std::sync::{Arc, Mutex};

use maxscale_auth::session::{Level, Methods, Sessions, Why};
use maxscale_auth::{
    Accounts, AccountsBuilder, AuditEvent, Audited, AuthError, LoggedIn, MailKind, Principal,
    Purpose, SignUps, Unproved,
};
use maxscale_core::id::Id;
use maxscale_core::limit::{Attempts, Limits, LocalLimits, Log};
use maxscale_tests::eventually;

use crate::letters::build;
use crate::mail::at;
use crate::support::{Bench, LIMIT, PASSWORD};

on_both!(
    sign_up_is_told_with_its_mail_and_its_link,
    login_is_told_with_why_it_failed,
    too_many_attempts_are_told,
    password_that_changes_is_told,
    magic_link_is_told,
    address_that_changes_and_comes_back_is_told,
    lock_is_told,
    renewed_hash_is_told,
    what_was_taken_back_is_not_told,
);

const EMAIL: &str = "ada@example.org";
const OTHER: &str = "countess@example.org";
const NEW: &str = "another horse battery";

/// Accounts, and what their audit heard.
struct Desk {
    bench: Bench,
    accounts: Accounts,
    heard: Heard,
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<AuditEvent>>>);

// === impl Heard ===

impl Heard {
    /// What was heard since the last call, all of it of `user`.
    fn of(&self, user: Id) -> Vec<Audited> {
        self.about(Some(user))
    }

    /// The same of nobody who is known.
    fn of_nobody(&self) -> Vec<Audited> {
        self.about(None)
    }

    fn about(&self, user: Option<Id>) -> Vec<Audited> {
        let events = std::mem::take(&mut *self.0.lock().unwrap());
        assert!(events.iter().all(|it| it.user == user), "{events:?}");
        let shown = format!("{events:?}");
        for secret in ["mxm_", "mxs_", "mxd_", "$argon2", "horse", "@"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        events.into_iter().map(|it| it.what).collect()
    }

    fn forget(&self) {
        self.0.lock().unwrap().clear();
    }
}

// === impl Desk ===

impl Desk {
    fn new(bench: Bench) -> Self {
        Self::of(bench, SignUps::Quiet)
    }

    fn of(bench: Bench, sign_ups: SignUps) -> Self {
        let heard = Heard::default();
        let accounts = build(bench.told_to(&heard).sign_ups(sign_ups), &bench.letters);
        Self {
            bench,
            accounts,
            heard,
        }
    }

    /// Ada, of whom nothing was heard yet.
    async fn ada(&self) -> (LoggedIn, Principal) {
        let ada = self.bench.ada(&self.accounts).await;
        self.heard.forget();
        ada
    }

    /// Signs up; gives whose the address is then.
    async fn sign_up(&self, email: &str) -> Id {
        let client = at("sign up");
        let signed_up = self.accounts.sign_up(email, PASSWORD, "Ada", &client).await;
        signed_up.unwrap();
        self.accounts.emails().find(email).await.unwrap().unwrap()
    }

    async fn token(&self, kind: MailKind, to: &str) -> String {
        self.bench.letters.token(kind, to).await
    }
}

impl Bench {
    fn told_to(&self, heard: &Heard) -> AccountsBuilder {
        let heard = heard.clone();
        let sink = move |event: &AuditEvent| heard.0.lock().unwrap().push(event.clone());
        let sessions = Sessions::builder(self.rows(), self.keys.clone(), self.ids.clone());
        let sessions = sessions.clock(self.clock.clone()).audit(sink).build();
        let (router, ids, keys) = (self.router(), self.ids.clone(), self.keys.clone());
        let builder = Accounts::builder(router.clone(), ids, keys, self.passwords.clone());
        builder.clock(self.clock.clone()).sessions(sessions)
    }
}

const BY_PASSWORD: Audited = begun(Methods::PASSWORD);

const fn begun(methods: Methods) -> Audited {
    let level = Level::Aal1;
    Audited::SessionBegun { level, methods }
}

const fn mailed(kind: MailKind) -> Audited {
    Audited::Mailed { kind }
}

const fn redeemed(purpose: Purpose) -> Audited {
    Audited::MailTokenRedeemed { purpose }
}

const fn refused(purpose: Purpose, why: Unproved) -> Audited {
    Audited::MailTokenRefused { purpose, why }
}

const fn not_proved(why: Unproved) -> Audited {
    Audited::NotProved { why }
}

fn ended(sessions: &[&Principal], why: Why) -> Audited {
    let ended = sessions.iter().map(|it| it.session()).collect();
    Audited::SessionsRevoked { ended, why }
}

async fn sign_up_is_told_with_its_mail_and_its_link(bench: Bench) {
    let desk = Desk::new(bench);
    let (accounts, heard) = (&desk.accounts, &desk.heard);
    let user = desk.sign_up(EMAIL).await;
    let mail = mailed(MailKind::ConfirmSignUp);
    assert_eq!(heard.of(user), [Audited::SignedUp, mail.clone()]);
    desk.sign_up(EMAIL).await;
    assert_eq!(heard.of(user), [mail]);

    let token = desk.token(MailKind::ConfirmSignUp, EMAIL).await;
    let confirm = async |from, password| {
        let client = at(from);
        drop(accounts.confirm_sign_up(&token, password, &client).await);
    };
    confirm("3", NEW).await;
    let wrong = refused(Purpose::SignUp, Unproved::WrongPassword);
    assert_eq!(heard.of(user), [wrong]);
    confirm("4", PASSWORD).await;
    let confirmed = [
        redeemed(Purpose::SignUp),
        Audited::PasswordChanged,
        BY_PASSWORD,
    ];
    assert_eq!(heard.of(user), confirmed);
    confirm("5", PASSWORD).await;
    let again = || refused(Purpose::SignUp, Unproved::Token);
    assert_eq!(heard.of(user), [again()]);
    let client = at("6");
    let forged = accounts.confirm_sign_up("mxm_forged", PASSWORD, &client);
    assert!(forged.await.is_err());
    assert_eq!(heard.of_nobody(), [again()]);

    desk.sign_up(EMAIL).await;
    assert_eq!(heard.of(user), [mailed(MailKind::AlreadyRegistered)]);

    let open = Desk::of(desk.bench, SignUps::Open);
    let heard = &open.heard;
    let user = open.sign_up(OTHER).await;
    let mail = mailed(MailKind::ConfirmSignUp);
    assert_eq!(heard.of(user), [Audited::SignedUp, BY_PASSWORD, mail]);
}

async fn login_is_told_with_why_it_failed(bench: Bench) {
    let desk = Desk::new(bench);
    let (accounts, heard) = (&desk.accounts, &desk.heard);
    let (ada, first) = desk.ada().await;
    let user = ada.user.id;
    let client = at("1").session(Some(&first));
    accounts.log_in(EMAIL, PASSWORD, &client).await.unwrap();
    let loggedout = ended(&[&first], Why::LoggedOut);
    assert_eq!(heard.of(user), [loggedout, BY_PASSWORD]);

    let log_in = async |email, password, from| accounts.log_in(email, password, &at(from)).await;
    let alike = |answer: Result<LoggedIn, AuthError>| {
        assert!(matches!(answer, Err(AuthError::Credentials)), "{answer:?}");
    };
    alike(log_in(EMAIL, NEW, "2").await);
    assert_eq!(heard.of(user), [not_proved(Unproved::WrongPassword)]);
    alike(log_in(OTHER, NEW, "3").await);
    assert_eq!(heard.of_nobody(), [not_proved(Unproved::NoAccount)]);

    let half = desk.sign_up(OTHER).await;
    heard.forget();
    alike(log_in(OTHER, PASSWORD, "5").await);
    assert_eq!(heard.of(half), [not_proved(Unproved::NoPassword)]);

    let spoil = "UPDATE ms_user SET password_hash = 'none' WHERE email = 'ada@example.org'";
    desk.bench.everywhere(spoil).await;
    alike(log_in(EMAIL, PASSWORD, "6").await);
    assert_eq!(heard.of(user), [not_proved(Unproved::UnreadableHash)]);

    let open = Desk::of(desk.bench, SignUps::Open);
    let eve = open.sign_up("eve@example.org").await;
    let quiet = Desk::new(open.bench);
    let (accounts, heard) = (&quiet.accounts, &quiet.heard);
    let unverified = accounts.log_in("eve@example.org", PASSWORD, &at("8")).await;
    assert!(unverified.is_err());
    assert_eq!(heard.of(eve), [not_proved(Unproved::Unverified)]);
}

async fn too_many_attempts_are_told(bench: Bench) {
    let heard = Heard::default();
    let limits = Limits::local(LocalLimits::new(bench.clock.clone()));
    let one = Log::new(1, LIMIT).unwrap();
    let attempts = Attempts::builder("one", &limits).per_pair(one).build();
    let builder = bench.told_to(&heard).base_url("https://app.example");
    let builder = builder.mailer(bench.letters.clone());
    let accounts = builder.attempts(attempts.unwrap()).build().unwrap();
    for _ in 0..2 {
        assert!(accounts.log_in(EMAIL, NEW, &at("1")).await.is_err());
    }
    let told = [Unproved::NoAccount, Unproved::TooMany].map(not_proved);
    assert_eq!(heard.of_nobody(), told);
}

async fn password_that_changes_is_told(bench: Bench) {
    let desk = Desk::new(bench);
    let (accounts, heard) = (&desk.accounts, &desk.heard);
    let (ada, own) = desk.ada().await;
    let user = ada.user.id;
    let change = async |from: &str, old, new| {
        let client = at(from).session(Some(&own));
        accounts.change_password(Some(old), new, &client).await
    };
    assert!(change("1", NEW, NEW).await.is_err());
    assert_eq!(heard.of(user), [not_proved(Unproved::WrongPassword)]);
    change("2", PASSWORD, NEW).await.unwrap();
    let mail = mailed(MailKind::PasswordChanged);
    let (level, methods) = (Level::Aal1, Methods::PASSWORD);
    let rotated = Audited::SessionRotated { level, methods };
    let changed = [Audited::PasswordChanged, mail.clone(), rotated];
    assert_eq!(heard.of(user), changed);

    accounts.forgot_password(EMAIL, &at("3")).await.unwrap();
    assert_eq!(heard.of(user), [mailed(MailKind::ResetPassword)]);
    let token = desk.token(MailKind::ResetPassword, EMAIL).await;
    let reset = async |from| accounts.reset_password(&token, PASSWORD, &at(from)).await;
    reset("4").await.unwrap();
    let told = [
        redeemed(Purpose::ResetPassword),
        Audited::PasswordChanged,
        ended(&[&own], Why::PasswordChanged),
        mail,
    ];
    assert_eq!(heard.of(user), told);
    assert!(reset("5").await.is_err());
    let again = refused(Purpose::ResetPassword, Unproved::Token);
    assert_eq!(heard.of(user), [again]);
    // Of an address that has no account nothing is told.
    accounts.forgot_password(OTHER, &at("6")).await.unwrap();
    assert_eq!(heard.of(user), []);
}

async fn magic_link_is_told(bench: Bench) {
    let open = Desk::of(bench, SignUps::Open);
    let user = open.sign_up(EMAIL).await;
    let desk = Desk::new(open.bench);
    let (accounts, heard) = (&desk.accounts, &desk.heard);
    let squatters = accounts.sessions().list(user).await.unwrap();
    let squatters = squatters.iter().map(|it| it.session.id).collect();

    let log_in = async |from: &str| {
        accounts.send_magic_link(EMAIL, &at(from)).await.unwrap();
        assert_eq!(heard.of(user), [mailed(MailKind::LogIn)]);
        let token = desk.token(MailKind::LogIn, EMAIL).await;
        accounts.redeem_magic_link(&token, &at(from)).await.unwrap();
    };
    log_in("2").await;
    // What the one had who signed up with it is gone.
    let (ended, why) = (squatters, Why::PasswordChanged);
    let first = [
        redeemed(Purpose::LogIn),
        Audited::PasswordChanged,
        Audited::SessionsRevoked { ended, why },
        begun(Methods::MAIL),
    ];
    assert_eq!(heard.of(user), first);
    log_in("3").await;
    let later = [redeemed(Purpose::LogIn), begun(Methods::MAIL)];
    assert_eq!(heard.of(user), later);
}

async fn address_that_changes_and_comes_back_is_told(bench: Bench) {
    let desk = Desk::new(bench);
    let (accounts, heard) = (&desk.accounts, &desk.heard);
    let (ada, own) = desk.ada().await;
    let user = ada.user.id;
    let client = at("1").session(Some(&own));
    let asked = accounts.change_email(OTHER, Some(PASSWORD), &client);
    asked.await.unwrap();
    assert_eq!(heard.of(user), [mailed(MailKind::ConfirmEmail)]);
    let token = desk.token(MailKind::ConfirmEmail, OTHER).await;
    accounts.confirm_email(&token, &client).await.unwrap();
    let changed = [
        redeemed(Purpose::ConfirmEmail),
        Audited::EmailChanged,
        mailed(MailKind::EmailChanged),
    ];
    assert_eq!(heard.of(user), changed);

    let undo = desk.token(MailKind::EmailChanged, EMAIL).await;
    accounts.undo_email(&undo, &at("2")).await.unwrap();
    let undone = [
        redeemed(Purpose::UndoEmail),
        Audited::EmailUndone,
        mailed(MailKind::ResetPassword),
        ended(&[&own], Why::EmailChanged),
    ];
    assert_eq!(heard.of(user), undone);
    let again = accounts.undo_email(&undo, &at("3")).await;
    assert!(again.is_err());
    let again = refused(Purpose::UndoEmail, Unproved::Token);
    assert_eq!(heard.of(user), [again]);
}

async fn lock_is_told(bench: Bench) {
    let desk = Desk::new(bench);
    let (accounts, heard) = (&desk.accounts, &desk.heard);
    let (ada, own) = desk.ada().await;
    let user = ada.user.id;
    accounts.send_magic_link(EMAIL, &at("1")).await.unwrap();
    let token = desk.token(MailKind::LogIn, EMAIL).await;
    heard.forget();
    accounts.lock(user).await.unwrap();
    let locked = [Audited::Locked, ended(&[&own], Why::Ordered)];
    assert_eq!(heard.of(user), locked);

    let right = accounts.log_in(EMAIL, PASSWORD, &at("2")).await;
    assert!(matches!(right, Err(AuthError::Locked)), "{right:?}");
    assert_eq!(heard.of(user), [not_proved(Unproved::Locked)]);
    assert!(accounts.redeem_magic_link(&token, &at("3")).await.is_err());
    let link = refused(Purpose::LogIn, Unproved::Locked);
    assert_eq!(heard.of(user), [link]);
    accounts.unlock(user).await.unwrap();
    assert_eq!(heard.of(user), [Audited::Unlocked]);
}

async fn renewed_hash_is_told(bench: Bench) {
    let desk = Desk::new(bench);
    let (accounts, heard) = (&desk.accounts, &desk.heard);
    let (ada, _) = desk.ada().await;
    desk.bench.age_hash(ada.user.id).await;
    accounts.log_in(EMAIL, PASSWORD, &at("1")).await.unwrap();
    // It is made anew beside the answer.
    let told = eventually(LIMIT, async || {
        let both = heard.0.lock().unwrap().len() >= 2;
        both.then(|| heard.of(ada.user.id))
    });
    let mut told = told.await;
    told.sort_by_key(|it| *it == Audited::HashRenewed);
    assert_eq!(told, [BY_PASSWORD, Audited::HashRenewed]);
}

async fn what_was_taken_back_is_not_told(bench: Bench) {
    let desk = Desk::new(bench);
    let (accounts, heard) = (&desk.accounts, &desk.heard);
    let (_, own) = desk.ada().await;
    // The sessions end after the password was changed.
    let hide = "ALTER TABLE ms_session RENAME TO hidden";
    desk.bench.everywhere(hide).await;
    let client = at("1").session(Some(&own));
    let failed = accounts.change_password(Some(PASSWORD), NEW, &client).await;
    assert!(matches!(failed, Err(AuthError::Shard(_))), "{failed:?}");
    assert_eq!(heard.of(own.user()), []);
}
