//! What ends keys, for a while or for good.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use maxscale_auth::api_key::{ApiKeyError, NewApiKey};
use maxscale_auth::session::Sessions;
use maxscale_auth::{Accounts, ApiKeys, AuditEvent, Audited, Client, MailKind};
use maxscale_core::id::Id;
use tokio::task::JoinSet;

use super::{DAY, Desk, HERE, builder, principal, scopes};
use crate::support::{Bench, OpenAccounts, PASSWORD};

on_both!(
    key_that_was_revoked_or_has_ended_is_nobodys,
    locked_account_has_no_keys_until_it_is_open,
    whoever_proves_that_the_address_is_his_has_no_keys_of_others,
    rotation_and_revocation_at_once_leave_no_third,
    what_happens_to_keys_is_told,
);

async fn key_that_was_revoked_or_has_ended_is_nobodys(bench: Bench) {
    let desk = Desk::of(bench).await;
    let (one, other, last) = (
        desk.make(&["read"]).await,
        desk.make(&["write"]).await,
        desk.make(&["pay"]).await,
    );
    desk.keys.revoke(desk.user, one.key.id).await.unwrap();
    assert!(!desk.lives(&one).await && desk.lives(&other).await);
    let rotated = desk.keys.rotate(&desk.principal, one.key.id, DAY).await;
    for gone in [
        desk.keys.revoke(desk.user, one.key.id).await,
        desk.keys.revoke(desk.user, desk.user).await,
        rotated.map(drop),
    ] {
        assert!(matches!(gone, Err(ApiKeyError::NoKey)), "{gone:?}");
    }
    let mut all = desk.keys.revoke_all(desk.user).await.unwrap();
    all.sort_unstable();
    assert_eq!(all, [other.key.id, last.key.id]);
    assert!(!desk.lives(&other).await && desk.listed().await.is_empty());
    assert!(desk.keys.revoke_all(desk.user).await.unwrap().is_empty());

    let brief = desk.make(&["read"]).await;
    desk.bench
        .time
        .advance(ApiKeys::DEFAULT_LIFE - Duration::from_secs(1));
    assert!(desk.lives(&brief).await);
    desk.bench.time.advance(Duration::from_secs(1));
    assert!(!desk.lives(&brief).await && desk.listed().await.is_empty());
    // All four are over.
    let mut swept = 0;
    for node in desk.bench.router().nodes().iter() {
        swept += desk.keys.sweep(node).await.unwrap();
    }
    assert_eq!(swept, 4);
}

async fn locked_account_has_no_keys_until_it_is_open(bench: Bench) {
    let desk = Desk::of(bench).await;
    let made = desk.make(&["read"]).await;
    let accounts = &desk.bench.accounts;
    assert!(accounts.lock(desk.user).await.unwrap());
    assert!(!desk.lives(&made).await);
    assert!(accounts.unlock(desk.user).await.unwrap());
    assert!(desk.lives(&made).await);
}

/// Who signs up with another's address, and is logged in at once, may have made a key.
async fn whoever_proves_that_the_address_is_his_has_no_keys_of_others(bench: Bench) {
    let desk = Desk::of(bench).await;
    let planted = desk.make(&["read"]).await;
    let (accounts, letters) = (&desk.bench.accounts, &desk.bench.letters);
    let client = Client::new("192.0.2.7");
    accounts
        .send_magic_link("ada@example.org", &client)
        .await
        .unwrap();
    let link = letters.token(MailKind::LogIn, "ada@example.org").await;
    let begun = accounts.redeem_magic_link(&link, &client).await.unwrap();
    assert!(!desk.lives(&planted).await);

    // From here on she has it, and a link is no reason to end what she made.
    let own = principal(accounts, &begun).await;
    let new = NewApiKey::new("own", scopes(&["read"]));
    let made = desk.keys.create(&own, &new).await.unwrap();
    accounts
        .send_magic_link("ada@example.org", &client)
        .await
        .unwrap();
    let link = letters.token(MailKind::LogIn, "ada@example.org").await;
    let begun = accounts.redeem_magic_link(&link, &client).await.unwrap();
    assert!(desk.lives(&made).await);

    // But somebody who takes the address away has the keys, until she takes it back.
    let thief = principal(accounts, &begun).await;
    let client = client.session(Some(&thief));
    accounts
        .change_email("eve@example.org", None, &client)
        .await
        .unwrap();
    let link = letters
        .token(MailKind::ConfirmEmail, "eve@example.org")
        .await;
    accounts.confirm_email(&link, &client).await.unwrap();
    let link = letters
        .token(MailKind::EmailChanged, "ada@example.org")
        .await;
    assert!(desk.lives(&made).await);
    accounts
        .undo_email(&link, &Client::new("192.0.2.8"))
        .await
        .unwrap();
    assert!(!desk.lives(&made).await);
}

/// Whichever comes first: there is the key that replaces it or there is not, and the key
/// itself is over.
async fn rotation_and_revocation_at_once_leave_no_third(bench: Bench) {
    let desk = Desk::of(bench).await;
    for _ in 0..16 {
        let made = desk.make(&["read"]).await;
        let (keys, by, id) = (desk.keys.clone(), desk.principal.clone(), made.key.id);
        let rotating = tokio::spawn(async move { keys.rotate(&by, id, DAY).await });
        let (keys, user) = (desk.keys.clone(), desk.user);
        let mut revoking = JoinSet::new();
        revoking.spawn(async move { keys.revoke(user, id).await });
        revoking.join_next().await.unwrap().unwrap().unwrap();
        let listed = match rotating.await.unwrap() {
            Ok(next) => vec![next.key],
            Err(ApiKeyError::NoKey) => Vec::new(),
            Err(error) => panic!("{error:?}"),
        };
        assert!(!desk.lives(&made).await);
        assert_eq!(desk.listed().await, listed);
        desk.keys.revoke_all(desk.user).await.unwrap();
    }
}

async fn what_happens_to_keys_is_told(bench: Bench) {
    let events = Arc::<Mutex<Vec<AuditEvent>>>::default();
    let kept = events.clone();
    let sink = move |event: &AuditEvent| kept.lock().unwrap().push(event.clone());
    let sessions = Sessions::builder(bench.rows(), bench.keys.clone(), bench.ids.clone());
    let sessions = sessions.clock(bench.clock.clone()).audit(sink).build();
    let (router, passwords) = (bench.router().clone(), bench.passwords.clone());
    let accounts = Accounts::builder(router, bench.ids.clone(), bench.keys.clone(), passwords)
        .clock(bench.clock.clone())
        .sessions(sessions);
    let accounts = OpenAccounts::new(accounts, &bench.letters);
    let keys = builder(&accounts).build();
    let begun = accounts
        .sign_up("ada@example.org", PASSWORD, "Ada")
        .await
        .unwrap();
    let (user, by) = (begun.user.id, principal(&accounts, &begun).await);
    let told = || std::mem::take(&mut *events.lock().unwrap());
    let what = |user: Option<Id>| {
        let told = told();
        assert!(told.iter().all(|it| it.user == user), "{told:?}");
        told.into_iter().map(|it| it.what).collect::<Vec<_>>()
    };
    told();

    let new = NewApiKey::new("a program", scopes(&["read"]));
    let made = keys.create(&by, &new).await.unwrap();
    let (key, scopes) = (made.key.id, scopes(&["read"]));
    assert_eq!(
        what(Some(user)),
        [Audited::ApiKeyMade {
            key,
            scopes: scopes.clone()
        }]
    );
    let next = keys.rotate(&by, key, DAY).await.unwrap().key.id;
    let rotated = Audited::ApiKeyRotated { key, next };
    assert_eq!(
        what(Some(user)),
        [rotated, Audited::ApiKeyMade { key: next, scopes }]
    );
    keys.revoke(user, key).await.unwrap();
    let keys_ended = Audited::ApiKeysRevoked { keys: vec![key] };
    assert_eq!(what(Some(user)), [keys_ended]);
    assert_eq!(keys.recognise(&made.text, &HERE).await.unwrap(), None);
    assert_eq!(what(None), [Audited::ApiKeyRefused { user, key }]);
    keys.recognise("acme_test_AAAA", &HERE).await.unwrap();
    assert!(told().is_empty(), "what cannot be a key says nothing");
}
