//! What an attacker runs into, and what is refused before anything runs.

use maxscale_auth::session::MemorySessions;
use maxscale_auth::{
    Accounts, AccountsBuilder, AccountsError, AuthError, Realm, Sessions, SignedUp,
};
use maxscale_core::refusal::{Class, Classify};

use crate::mail::at;
use crate::support::{Bench, PASSWORD};

on_both!(
    owner_logs_in_by_a_known_device_while_others_burn_the_attempts,
    too_many_mails_are_refused_alike_for_every_address,
    token_that_was_not_issued_here_costs_no_statement,
    accounts_that_would_not_be_safe_are_not_built,
);

const EMAIL: &str = "ada@example.org";
const WRONG: &str = "a wrong horse battery";

fn builder(bench: &Bench) -> AccountsBuilder {
    let (router, ids, keys) = (bench.router(), bench.ids.clone(), bench.keys.clone());
    Accounts::builder(router.clone(), ids, keys, bench.passwords.clone()).clock(bench.clock.clone())
}

/// With the limits that there are by default.
fn limited(bench: &Bench) -> Accounts {
    let builder = builder(bench).base_url("https://app.example");
    builder.mailer(bench.letters.clone()).build().unwrap()
}

async fn owner_logs_in_by_a_known_device_while_others_burn_the_attempts(bench: Bench) {
    bench.ada(&bench.quiet()).await;
    let accounts = limited(&bench);
    let home = accounts.log_in(EMAIL, PASSWORD, &at("home")).await.unwrap();
    let mut checked = 0;
    for number in 0..60 {
        let from = format!("attacker {number}");
        match accounts.log_in(EMAIL, WRONG, &at(&from)).await {
            Err(AuthError::Credentials) => checked += 1,
            Err(AuthError::Attempts(error)) => assert_eq!(error.class(), Class::Limited),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(checked, 50);
    // Who is at the address of one of them is not helped by his password.
    let away = accounts.log_in(EMAIL, PASSWORD, &at("attacker 1")).await;
    assert!(matches!(away, Err(AuthError::Attempts(_))), "{away:?}");
    let known = at("attacker 1").device(Some(&home.device));
    let back = accounts.log_in(EMAIL, PASSWORD, &known).await.unwrap();
    assert_eq!(bench.who(&back.token).await.unwrap().user(), home.user.id);
    assert_eq!(back.device, home.device);
    // A device of somebody else's is none here.
    bench.join(&bench.quiet(), "eve@example.org").await;
    let eve = accounts
        .log_in("eve@example.org", PASSWORD, &at("eve"))
        .await
        .unwrap();
    let eve = at("attacker 2").device(Some(&eve.device));
    let refused = accounts.log_in(EMAIL, WRONG, &eve).await;
    assert!(
        matches!(refused, Err(AuthError::Attempts(_))),
        "{refused:?}"
    );
}

async fn too_many_mails_are_refused_alike_for_every_address(bench: Bench) {
    bench.ada(&bench.quiet()).await;
    let accounts = limited(&bench);
    for email in [EMAIL, "nobody@example.org"] {
        accounts.forgot_password(email, &at("1")).await.unwrap();
        let again = accounts.send_magic_link(email, &at("1")).await;
        assert!(matches!(again, Err(AuthError::Attempts(_))), "{again:?}");
        let signed_up = accounts.sign_up(email, PASSWORD, "Ada", &at("1")).await;
        assert!(
            matches!(signed_up, Err(AuthError::Attempts(_))),
            "{signed_up:?}"
        );
    }
}

async fn token_that_was_not_issued_here_costs_no_statement(bench: Bench) {
    let accounts = bench.quiet();
    let (_, own) = bench.ada(&accounts).await;
    let client = at("1").session(Some(&own));
    accounts.send_magic_link(EMAIL, &client).await.unwrap();
    let token = bench
        .letters
        .token(maxscale_auth::MailKind::LogIn, EMAIL)
        .await;
    // From here on every statement about tokens fails.
    bench
        .everywhere("ALTER TABLE ms_mail_token RENAME TO hidden")
        .await;
    bench
        .everywhere("ALTER TABLE ms_user RENAME TO hidden_user")
        .await;
    let asked = accounts.redeem_magic_link(&token, &at("2")).await;
    assert!(matches!(asked, Err(AuthError::Shard(_))), "{asked:?}");
    for number in 0..token.len() {
        let mut forged = token.clone().into_bytes();
        forged[number] = if forged[number] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        let refused = accounts.redeem_magic_link(&forged, &at("3")).await;
        assert!(
            matches!(refused, Err(AuthError::MailToken)),
            "{number}: {refused:?}"
        );
        let refused = accounts.reset_password(&forged, PASSWORD, &at("3")).await;
        assert!(
            matches!(refused, Err(AuthError::MailToken)),
            "{number}: {refused:?}"
        );
    }
}

async fn accounts_that_would_not_be_safe_are_not_built(bench: Bench) {
    let refused = |builder: AccountsBuilder| builder.build().unwrap_err();
    let mailed = || builder(&bench).mailer(bench.letters.clone());

    assert!(matches!(refused(mailed()), AccountsError::NoBaseUrl));
    for base in ["http://app.example", "app.example", "https://a@b.example"] {
        let error = refused(mailed().base_url(base));
        assert!(
            matches!(error, AccountsError::BaseUrl { secure: true }),
            "{base}"
        );
    }
    let error = refused(builder(&bench).base_url("https://app.example"));
    assert!(matches!(error, AccountsError::NoOutbox), "{error:?}");
    let others = MemorySessions::new(bench.clock.clone());
    let others = Sessions::builder(others, bench.keys.clone(), bench.ids.clone());
    let others = others.realm(Realm::new(1)).build();
    let error = refused(mailed().base_url("https://app.example").sessions(others));
    assert!(matches!(error, AccountsError::Realm { .. }), "{error:?}");

    let plain = mailed()
        .base_url("http://localhost:8080")
        .secure(false)
        .build()
        .unwrap();
    let signed_up = plain.sign_up(EMAIL, PASSWORD, "Ada", &at("1")).await;
    assert!(matches!(signed_up, Ok(SignedUp::Mailed)), "{signed_up:?}");
}
