//! What happens at the same moment, and all of it reaches the rows.

use std::sync::Arc;
use std::time::Duration;

use maxscale_auth::{Accounts, AuthError, MailKind, Principal};
use maxscale_core::id::Id;
use maxscale_shard::sql;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::mail::at;
use crate::support::{Bench, LIMIT, PASSWORD};

on_both!(
    one_of_fifty_redeems_of_a_magic_link_logs_in,
    one_of_fifty_redeems_of_a_reset_sets_its_password,
    one_of_fifty_redeems_of_a_sign_up_begins_a_session,
    of_many_links_that_are_asked_for_at_once_one_is_good,
    racing_changes_of_the_address_confirm_each_its_own,
    one_of_two_accounts_gets_the_address_that_both_want,
    old_hash_is_renewed_unless_the_password_changes,
    changed_password_survives_a_renewal_that_raced_it,
    login_that_raced_a_reset_has_no_session_after_it,
);

const EMAIL: &str = "ada@example.org";
const NEW: &str = "another horse battery";
const MANY: usize = 50;

/// Runs `work` so often at the same moment, each from an address of its own.
async fn at_once<T, W>(times: usize, work: impl Fn(usize, String) -> W) -> Vec<T>
where
    T: Send + 'static,
    W: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(Barrier::new(times));
    let mut running = JoinSet::new();
    for number in 0..times {
        let (start, work) = (start.clone(), work(number, format!("10.0.0.{number}")));
        running.spawn(async move {
            start.wait().await;
            work.await
        });
    }
    running.join_all().await
}

/// One got it, and all others heard that the token is of no use.
fn one_of<T>(answers: Vec<Result<T, AuthError>>) -> T {
    let (mut done, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(done.len(), 1);
    for error in refused.into_iter().filter_map(Result::err) {
        assert!(matches!(error, AuthError::MailToken), "{error:?}");
    }
    done.remove(0).unwrap_or_else(|_| unreachable!())
}

/// As [`at_once`], `MANY` of whom each comes again until it passes the attempts: who is
/// late waits for a failure of others.
async fn all_reach<T, W>(
    work: impl Fn(usize, String) -> W + Clone + Send + 'static,
) -> Vec<Result<T, AuthError>>
where
    T: Send + 'static,
    W: Future<Output = Result<T, AuthError>> + Send + 'static,
{
    let insist = |number, from: String| {
        let work = work.clone();
        async move {
            loop {
                match work(number, from.clone()).await {
                    Err(AuthError::Attempts(_)) => sleep(Duration::from_millis(1)).await,
                    reached => return reached,
                }
            }
        }
    };
    at_once(MANY, insist).await
}

impl Bench {
    async fn sessions(&self, accounts: &Accounts, user: Id) -> usize {
        accounts.sessions().list(user).await.unwrap().len()
    }

    /// Gives Ada's password a hash of an older kind.
    pub(crate) async fn age_hash(&self, user: Id) {
        // argon2id with 8 KiB of `PASSWORD`, as another program made it.
        let old = self.old_hash();
        let shard = self.router().shard(user).unwrap();
        let age = sql("UPDATE ms_user SET password_hash = $3 WHERE shard_id = $1 AND user_id = $2");
        let age = age.bind(shard.id()).bind(user).bind(old);
        assert_eq!(shard.execute(age).await.unwrap(), 1);
    }

    fn old_hash(&self) -> String {
        use argon2::password_hash::PasswordHasher;
        let params = argon2::Params::new(8, 1, 1, None).unwrap();
        let old = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let hashed = old.hash_password_with_salt(PASSWORD.as_bytes(), &[7; 16]);
        hashed.unwrap().to_string()
    }

    async fn stored_hash(&self, user: Id) -> String {
        let shard = self.router().shard(user).unwrap();
        let load = sql("SELECT password_hash FROM ms_user WHERE shard_id = $1 AND user_id = $2");
        let row = shard.fetch_optional(load.bind(shard.id()).bind(user)).await;
        row.unwrap().unwrap().get("password_hash").unwrap()
    }
}

async fn one_of_fifty_redeems_of_a_magic_link_logs_in(bench: Bench) {
    let accounts = bench.quiet();
    let (ada, _) = bench.ada(&accounts).await;
    accounts.send_magic_link(EMAIL, &at("1")).await.unwrap();
    let token = bench.letters.token(MailKind::LogIn, EMAIL).await;
    let asked = accounts.clone();
    let answers = all_reach(move |_, from| {
        let (accounts, token) = (asked.clone(), token.clone());
        async move { accounts.redeem_magic_link(&token, &at(&from)).await }
    });
    assert!(bench.who(&one_of(answers.await).token).await.is_some());
    // That one, and the one from before.
    assert_eq!(bench.sessions(&accounts, ada.user.id).await, 2);
}

async fn one_of_fifty_redeems_of_a_reset_sets_its_password(bench: Bench) {
    let accounts = bench.quiet();
    bench.ada(&accounts).await;
    accounts.forgot_password(EMAIL, &at("1")).await.unwrap();
    let token = bench.letters.token(MailKind::ResetPassword, EMAIL).await;
    let asked = accounts.clone();
    let answers = all_reach(move |number, from| {
        let (accounts, token) = (asked.clone(), token.clone());
        async move {
            let password = format!("the password of number {number}");
            let reset = accounts.reset_password(&token, &password, &at(&from)).await;
            reset.map(|()| password)
        }
    });
    let password = one_of(answers.await);
    accounts.log_in(EMAIL, &password, &at("2")).await.unwrap();
}

async fn one_of_fifty_redeems_of_a_sign_up_begins_a_session(bench: Bench) {
    let accounts = bench.quiet();
    accounts
        .sign_up(EMAIL, PASSWORD, "Ada", &at("1"))
        .await
        .unwrap();
    let token = bench.letters.token(MailKind::ConfirmSignUp, EMAIL).await;
    let asked = accounts.clone();
    let answers = all_reach(move |_, from| {
        let (accounts, token) = (asked.clone(), token.clone());
        async move { accounts.confirm_sign_up(&token, PASSWORD, &at(&from)).await }
    });
    let ada = one_of(answers.await);
    assert_eq!(bench.sessions(&accounts, ada.user.id).await, 1);
}

async fn of_many_links_that_are_asked_for_at_once_one_is_good(bench: Bench) {
    let accounts = bench.quiet();
    bench.ada(&accounts).await;
    let asked = at_once(16, |_, from| {
        let accounts = accounts.clone();
        async move { accounts.send_magic_link(EMAIL, &at(&from)).await }
    });
    assert!(asked.await.iter().all(Result::is_ok));
    let mut good = 0;
    for number in 0..16 {
        let token = bench.letters.token(MailKind::LogIn, EMAIL).await;
        let from = format!("redeem {number}");
        good += usize::from(accounts.redeem_magic_link(&token, &at(&from)).await.is_ok());
    }
    assert_eq!(good, 1);
}

async fn change_to(accounts: &Accounts, own: &Principal, email: &str, from: &str) {
    let client = at(from).session(Some(own));
    let asked = accounts.change_email(email, Some(PASSWORD), &client).await;
    asked.unwrap();
}

/// Devise, CVE-2026-32700: the token of one change confirmed the address of the other.
async fn racing_changes_of_the_address_confirm_each_its_own(bench: Bench) {
    let accounts = bench.quiet();
    let mut confirmed = 0;
    for round in 0..10 {
        let from = format!("eve-{round}@example.org");
        let (eve, own) = bench.join(&accounts, &from).await;
        let to = ["owned", "anothers"].map(|whose| format!("{whose}-{round}@example.org"));
        at_once(2, |number, _| {
            let (accounts, own, to) = (accounts.clone(), own.clone(), to[number].clone());
            async move { change_to(&accounts, &own, &to, &to).await }
        })
        .await;
        // Eve reads what came to her own address, and only that.
        let [owned, anothers] = &to;
        let token = bench.letters.token(MailKind::ConfirmEmail, owned).await;
        let client = at("eve").session(Some(&own));
        let answer = accounts.confirm_email(&token, &client).await;
        let email = accounts.user(eve.user.id).await.unwrap().unwrap().email;
        assert_ne!(email, *anothers);
        match answer {
            Ok(()) => {
                assert_eq!(email, *owned);
                let undo = bench.letters.token(MailKind::EmailChanged, &from).await;
                accounts.undo_email(&undo, &at("undo")).await.unwrap();
                confirmed += 1;
            }
            // The other change was later, and ended it.
            Err(error) => {
                assert!(matches!(error, AuthError::MailToken), "{error:?}");
                assert_eq!(email, from);
            }
        }
    }
    eprintln!("{confirmed} of 10 changes were the later ones");
}

async fn one_of_two_accounts_gets_the_address_that_both_want(bench: Bench) {
    const WANTED: &str = "wanted@example.org";
    let accounts = bench.quiet();
    let mut tokens = Vec::new();
    for email in ["a@example.org", "b@example.org"] {
        let (begun, own) = bench.join(&accounts, email).await;
        change_to(&accounts, &own, WANTED, email).await;
        let token = bench.letters.token(MailKind::ConfirmEmail, WANTED).await;
        tokens.push((begun.user.id, own, token));
    }
    let answers = at_once(2, |number, from| {
        let (accounts, (user, own, token)) = (accounts.clone(), tokens[number].clone());
        async move {
            let client = at(&from).session(Some(&own));
            accounts.confirm_email(&token, &client).await.map(|()| user)
        }
    });
    let (done, refused): (Vec<_>, Vec<_>) = answers.await.into_iter().partition(Result::is_ok);
    let [Ok(winner)] = done[..] else {
        panic!("{done:?} {refused:?}");
    };
    assert!(
        matches!(refused[..], [Err(AuthError::EmailTaken)]),
        "{refused:?}"
    );
    assert_eq!(accounts.emails().find(WANTED).await.unwrap(), Some(winner));
    // The other keeps its own, and nothing of the attempt is left.
    for (user, ..) in tokens {
        let email = accounts.user(user).await.unwrap().unwrap().email;
        assert_eq!(email == WANTED, user == winner);
    }
    let open = bench
        .counts("SELECT count(*) AS n FROM ms_claim WHERE NOT held")
        .await;
    assert_eq!(open.iter().sum::<i64>(), 0);
}

async fn old_hash_is_renewed_unless_the_password_changes(bench: Bench) {
    let accounts = bench.quiet();
    let (ada, _) = bench.ada(&accounts).await;
    bench.age_hash(ada.user.id).await;
    accounts.log_in(EMAIL, PASSWORD, &at("1")).await.unwrap();
    maxscale_tests::eventually(LIMIT, async || {
        bench
            .stored_hash(ada.user.id)
            .await
            .contains("m=19456,t=2,p=1")
    })
    .await;
    accounts.log_in(EMAIL, PASSWORD, &at("2")).await.unwrap();
}

async fn changed_password_survives_a_renewal_that_raced_it(bench: Bench) {
    let accounts = bench.quiet();
    let (ada, own) = bench.ada(&accounts).await;
    for round in 0..8 {
        bench.age_hash(ada.user.id).await;
        let new = format!("the password of round {round}");
        at_once(2, |number, _| {
            let (accounts, own, new) = (accounts.clone(), own.clone(), new.clone());
            async move {
                let from = format!("{round} {number}");
                match number {
                    0 => {
                        let client = at(&from).session(Some(&own));
                        let current = Some(PASSWORD);
                        accounts
                            .change_password(current, &new, &client)
                            .await
                            .unwrap();
                    }
                    // Right or wrong, as it comes; if right, it renews the hash.
                    _ => drop(accounts.log_in(EMAIL, PASSWORD, &at(&from)).await),
                }
            }
        })
        .await;
        // A renewal that was begun has ended by then: it waits for the same pool.
        for again in 0..3 {
            let from = format!("{round} again {again}");
            accounts.log_in(EMAIL, &new, &at(&from)).await.unwrap();
            let old = accounts
                .log_in(EMAIL, PASSWORD, &at(&format!("{from} old")))
                .await;
            assert!(matches!(old, Err(AuthError::Credentials)), "{old:?}");
        }
    }
}

async fn login_that_raced_a_reset_has_no_session_after_it(bench: Bench) {
    let accounts = bench.quiet();
    let (ada, _) = bench.ada(&accounts).await;
    accounts.forgot_password(EMAIL, &at("1")).await.unwrap();
    let token = bench.letters.token(MailKind::ResetPassword, EMAIL).await;
    let answers = at_once(12, |number, from| {
        let (accounts, token) = (accounts.clone(), token.clone());
        async move {
            match number {
                0 => {
                    accounts
                        .reset_password(&token, NEW, &at(&from))
                        .await
                        .unwrap();
                    true
                }
                _ => accounts.log_in(EMAIL, PASSWORD, &at(&from)).await.is_ok(),
            }
        }
    });
    let logged_in = answers.await.into_iter().filter(|it| *it).count() - 1;
    eprintln!("{logged_in} of 11 logins came before the reset");
    assert_eq!(bench.sessions(&accounts, ada.user.id).await, 0);
}
