use std::collections::BTreeSet;

use maxscale_auth::AuthError;
use maxscale_core::id::Id;
use maxscale_core::refusal::Classify;
use tokio::task::JoinSet;

use crate::support::{Bench, PASSWORD};

on_both!(
    session_lasts_from_sign_up_to_log_out,
    log_out_ends_one_session_and_no_other,
    wrong_password_and_unknown_email_are_one_error,
    email_has_one_account_however_it_is_spelt,
    users_live_on_the_node_in_their_id,
    sixty_four_sign_ups_of_one_email_make_one_account,
    bad_input_is_refused_and_stores_nothing,
    renamed_account_has_the_new_name,
);

const EMAIL: &str = "ada@example.org";

async fn session_lasts_from_sign_up_to_log_out(bench: Bench) {
    let ada = bench
        .accounts
        .sign_up(EMAIL, PASSWORD, " Ada ")
        .await
        .unwrap();
    assert_eq!(ada.user.name, "Ada");
    assert_eq!(ada.user.email, EMAIL);

    let principal = bench.who(&ada.token).await.unwrap();
    assert_eq!(principal.user(), ada.user.id);
    assert_eq!(
        bench.accounts.user(principal.user()).await.unwrap(),
        Some(ada.user.clone())
    );

    bench.accounts.log_out(&principal).await.unwrap();
    assert_eq!(bench.who(&ada.token).await, None);

    let again = bench.accounts.log_in(EMAIL, PASSWORD).await.unwrap();
    assert_eq!(again.user, ada.user);
    assert_ne!(again.token, ada.token);
    assert_eq!(bench.who(&again.token).await.unwrap().user(), ada.user.id);
}

async fn log_out_ends_one_session_and_no_other(bench: Bench) {
    let phone = bench
        .accounts
        .sign_up(EMAIL, PASSWORD, "Ada")
        .await
        .unwrap();
    let laptop = bench.accounts.log_in(EMAIL, PASSWORD).await.unwrap();
    let principal = bench.who(&phone.token).await.unwrap();

    bench.accounts.log_out(&principal).await.unwrap();
    // Asked again, it is done already.
    bench.accounts.log_out(&principal).await.unwrap();

    assert_eq!(bench.who(&phone.token).await, None);
    assert!(bench.who(&laptop.token).await.is_some());
}

async fn wrong_password_and_unknown_email_are_one_error(bench: Bench) {
    bench
        .accounts
        .sign_up(EMAIL, PASSWORD, "Ada")
        .await
        .unwrap();
    let long = "x".repeat(100_000);
    for (email, password) in [
        (EMAIL, "correct horse batterz"),
        (EMAIL, ""),
        (EMAIL, long.as_str()),
        ("bob@example.org", PASSWORD),
        ("bob@example.org", long.as_str()),
        ("no address", PASSWORD),
    ] {
        let refused = bench.accounts.log_in(email, password).await.unwrap_err();
        assert!(
            matches!(refused, AuthError::Credentials),
            "{email}: {refused:?}"
        );
        assert_eq!(refused.code(), "credentials");
    }
}

async fn email_has_one_account_however_it_is_spelt(bench: Bench) {
    let ada = bench
        .accounts
        .sign_up("Ada@Example.org", PASSWORD, "Ada")
        .await
        .unwrap();

    let again = bench
        .accounts
        .sign_up(" ada@example.ORG", "another password", "Eve")
        .await;

    assert!(matches!(again, Err(AuthError::EmailTaken)), "{again:?}");
    let back = bench
        .accounts
        .log_in("ADA@EXAMPLE.ORG", PASSWORD)
        .await
        .unwrap();
    assert_eq!(back.user, ada.user);
    assert!(
        bench
            .accounts
            .log_in(EMAIL, "another password")
            .await
            .is_err()
    );
}

async fn users_live_on_the_node_in_their_id(bench: Bench) {
    let mut homes = BTreeSet::new();
    for number in 0..40 {
        let email = format!("user-{number}@example.org");
        let user = bench
            .accounts
            .sign_up(&email, PASSWORD, "User")
            .await
            .unwrap()
            .user;
        homes.insert(
            bench
                .router()
                .shard(user.id)
                .unwrap()
                .node()
                .id()
                .to_string(),
        );
        if homes.len() == 2 {
            let users = bench.counts("SELECT count(*) AS n FROM ms_user").await;
            assert_eq!(
                users,
                bench.counts("SELECT count(*) AS n FROM ms_session").await
            );
            assert_eq!(users.iter().sum::<i64>(), number + 1);
            assert!(users.iter().all(|count| *count > 0), "{users:?}");
            return;
        }
    }
    panic!("40 users live on {homes:?}");
}

async fn sixty_four_sign_ups_of_one_email_make_one_account(bench: Bench) {
    let mut sign_ups = JoinSet::new();
    for number in 0..64 {
        let accounts = bench.accounts.clone();
        let name = format!("User {number}");
        sign_ups.spawn(async move { accounts.sign_up(EMAIL, PASSWORD, &name).await });
    }
    let (done, refused): (Vec<_>, Vec<_>) = sign_ups
        .join_all()
        .await
        .into_iter()
        .partition(Result::is_ok);

    for error in refused.into_iter().map(Result::unwrap_err) {
        assert!(matches!(error, AuthError::EmailTaken), "{error:?}");
    }
    let [Ok(winner)] = &done[..] else {
        panic!("{} signed up", done.len());
    };
    for table in [
        "SELECT count(*) AS n FROM ms_user",
        "SELECT count(*) AS n FROM ms_claim WHERE held",
    ] {
        assert_eq!(bench.counts(table).await.iter().sum::<i64>(), 1, "{table}");
    }
    let back = bench.accounts.log_in(EMAIL, PASSWORD).await.unwrap();
    assert_eq!(back.user, winner.user);
}

async fn bad_input_is_refused_and_stores_nothing(bench: Bench) {
    let sign_up = async |email, password, name: &str| {
        bench
            .accounts
            .sign_up(email, password, name)
            .await
            .unwrap_err()
    };
    assert!(matches!(
        sign_up("ada", PASSWORD, "Ada").await,
        AuthError::Email
    ));
    let short = sign_up(EMAIL, "fourteen chars", "Ada").await;
    assert!(matches!(
        short,
        AuthError::PasswordLength { min: 15, max: 256 }
    ));
    for name in ["", " ", "a\0b", "line\nline", &"x".repeat(101)] {
        let refused = sign_up(EMAIL, PASSWORD, name).await;
        assert!(
            matches!(refused, AuthError::Name { max: 100 }),
            "{name:?}: {refused:?}"
        );
    }
    assert_eq!(
        bench.counts("SELECT count(*) AS n FROM ms_claim").await,
        [0, 0]
    );
    bench
        .accounts
        .sign_up(EMAIL, PASSWORD, &"ß".repeat(100))
        .await
        .unwrap();
}

async fn renamed_account_has_the_new_name(bench: Bench) {
    let user = bench
        .accounts
        .sign_up(EMAIL, PASSWORD, "Ada")
        .await
        .unwrap()
        .user;

    assert!(
        bench
            .accounts
            .rename(user.id, " Ada Lovelace ")
            .await
            .unwrap()
    );
    assert!(matches!(
        bench.accounts.rename(user.id, "").await,
        Err(AuthError::Name { .. })
    ));

    let found = bench.accounts.user(user.id).await.unwrap().unwrap();
    assert_eq!(found.name, "Ada Lovelace");
    let nobody: Id = bench.ids.draw(user.id.shard());
    assert_eq!(bench.accounts.user(nobody).await.unwrap(), None);
    assert!(!bench.accounts.rename(nobody, "Nobody").await.unwrap());

    let shard = bench.fleet.router().shard(user.id).unwrap();
    let mut tx = shard.begin().await.unwrap();
    let renamed = bench.accounts.rename_in(&mut tx, user.id, "Countess");
    assert!(renamed.await.unwrap());
    drop(tx);
    let found = bench.accounts.user(user.id).await.unwrap().unwrap();
    assert_eq!(found.name, "Ada Lovelace", "not committed");
    let mut tx = shard.begin().await.unwrap();
    let renamed = bench.accounts.rename_in(&mut tx, user.id, "Countess");
    assert!(renamed.await.unwrap());
    tx.commit().await.unwrap();
    let found = bench.accounts.user(user.id).await.unwrap().unwrap();
    assert_eq!(found.name, "Countess");
}
