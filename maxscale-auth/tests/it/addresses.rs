//! Another address, and the way back.

use std::time::Duration;

use maxscale_auth::{Accounts, AuthError, MailKind, Principal, SignedUp};

use crate::mail::at;
use crate::support::{Bench, PASSWORD};

on_both!(
    address_is_changed_by_its_link_and_the_old_one_takes_it_back,
    way_back_outlives_further_changes,
    former_address_is_nobodys_until_it_is_free,
    own_address_is_no_other_one,
);

const EMAIL: &str = "ada@example.org";
const OTHER: &str = "countess@example.org";
const NEW: &str = "another horse battery";

/// Moves Ada's account to `OTHER`; gives the token that takes it back.
async fn moved(bench: &Bench, accounts: &Accounts, own: &Principal) -> String {
    move_to(bench, accounts, own, OTHER).await;
    bench.letters.token(MailKind::EmailChanged, EMAIL).await
}

async fn move_to(bench: &Bench, accounts: &Accounts, own: &Principal, to: &str) {
    let client = at(to).session(Some(own));
    let asked = accounts.change_email(to, Some(PASSWORD), &client).await;
    asked.unwrap();
    let token = bench.letters.token(MailKind::ConfirmEmail, to).await;
    accounts.confirm_email(&token, &client).await.unwrap();
}

/// Who took the account over moves it on and on.
async fn way_back_outlives_further_changes(bench: Bench) {
    let accounts = bench.quiet();
    let (ada, own) = bench.ada(&accounts).await;
    let undo = moved(&bench, &accounts, &own).await;
    for number in 0..7 {
        let next = format!("next-{number}@example.org");
        move_to(&bench, &accounts, &own, &next).await;
    }
    accounts.undo_email(&undo, &at("undo")).await.unwrap();
    let user = accounts.user(ada.user.id).await.unwrap().unwrap();
    assert_eq!(user.email, EMAIL);
    // Nothing takes that back.
    let later = bench.letters.token(MailKind::EmailChanged, OTHER).await;
    let refused = accounts.undo_email(&later, &at("later")).await;
    assert!(matches!(refused, Err(AuthError::MailToken)), "{refused:?}");
}

async fn own_address_is_no_other_one(bench: Bench) {
    let accounts = bench.quiet();
    let (_, own) = bench.ada(&accounts).await;
    let client = at("1").session(Some(&own));
    let asked = accounts
        .change_email("Ada@example.org", Some(PASSWORD), &client)
        .await;
    assert!(matches!(asked, Err(AuthError::EmailTaken)), "{asked:?}");
}

async fn address_is_changed_by_its_link_and_the_old_one_takes_it_back(bench: Bench) {
    let accounts = bench.quiet();
    let (ada, own) = bench.ada(&accounts).await;
    let other = accounts.log_in(EMAIL, PASSWORD, &at("1")).await.unwrap();
    let undo = moved(&bench, &accounts, &own).await;

    assert!(bench.who(&ada.token).await.is_some());
    assert_eq!(bench.who(&other.token).await, None);
    assert!(accounts.log_in(EMAIL, PASSWORD, &at("2")).await.is_err());
    accounts.log_in(OTHER, PASSWORD, &at("3")).await.unwrap();
    // Who took the account over may change its password: the way back stays.
    let client = at("4").session(Some(&own));
    accounts
        .change_password(Some(PASSWORD), NEW, &client)
        .await
        .unwrap();

    accounts.undo_email(&undo, &at("5")).await.unwrap();
    assert_eq!(bench.who(&ada.token).await, None);
    assert_eq!(
        accounts.user(ada.user.id).await.unwrap().unwrap().email,
        EMAIL
    );
    assert!(accounts.log_in(EMAIL, NEW, &at("6")).await.is_err());
    let reset = bench.letters.token(MailKind::ResetPassword, EMAIL).await;
    accounts
        .reset_password(&reset, PASSWORD, &at("7"))
        .await
        .unwrap();
    accounts.log_in(EMAIL, PASSWORD, &at("8")).await.unwrap();
    // The other address is free.
    let (bob, _) = bench.join(&accounts, OTHER).await;
    assert_ne!(bob.user.id, ada.user.id);
    let again = accounts.undo_email(&undo, &at("9")).await;
    assert!(matches!(again, Err(AuthError::MailToken)), "{again:?}");
}

async fn former_address_is_nobodys_until_it_is_free(bench: Bench) {
    let accounts = bench.quiet();
    let (ada, own) = bench.ada(&accounts).await;
    let undo = moved(&bench, &accounts, &own).await;

    // Nobody is told, and nobody gets it.
    let signed_up = accounts.sign_up(EMAIL, NEW, "Eve", &at("1")).await;
    assert!(matches!(signed_up, Ok(SignedUp::Mailed)));
    assert_eq!(bench.users().await, 1);
    accounts.forgot_password(EMAIL, &at("2")).await.unwrap();
    let sweep = async || {
        let mut freed = 0;
        for node in bench.router().nodes().iter() {
            freed += accounts.sweep(node).await.unwrap().freed;
        }
        freed
    };
    assert_eq!(sweep().await, 0);
    let sent = bench.letters.all();
    assert!(sent.iter().all(|mail| mail.to() != EMAIL), "{sent:?}");

    bench.time.advance(Duration::from_secs(15 * 86_400));
    assert_eq!(sweep().await, 1);
    assert_eq!(sweep().await, 0);
    let tokens = bench
        .counts("SELECT count(*) AS n FROM ms_mail_token")
        .await;
    assert_eq!(tokens.iter().sum::<i64>(), 0);
    let late = accounts.undo_email(&undo, &at("3")).await;
    assert!(matches!(late, Err(AuthError::MailToken)), "{late:?}");
    let (bob, _) = bench.join(&accounts, EMAIL).await;
    assert_ne!(bob.user.id, ada.user.id);
}
