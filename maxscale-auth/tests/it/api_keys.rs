//! API keys: who brings one, what replaces it, and what ends it.

mod ends;
mod layer;
mod limited;
mod remembered;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use maxscale_auth::api_key::{
    ApiKey, ApiKeyError, ApiKeyForm, ApiKeysBuilder, MadeApiKey, NewApiKey, Scopes,
};
use maxscale_auth::session::{Level, Methods, Roles, Which, Why};
use maxscale_auth::{Accounts, ApiKeys, AuthError, Client, Denied, LoggedIn, Principal};
use maxscale_core::fact::ClientIp;
use maxscale_core::id::Id;
use maxscale_core::keys::Secret;
use maxscale_core::refusal::Classify as _;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use crate::support::{Bench, PASSWORD};

on_both!(
    key_is_its_owner_within_its_scopes,
    secret_is_shown_once_and_kept_nowhere,
    key_goes_on_beside_the_one_that_replaces_it,
    key_that_is_replaced_again_ends_no_later,
    only_a_user_in_person_who_has_just_proved_it_makes_keys,
    what_makes_no_key_is_told_so_and_leaves_none,
    user_has_no_more_keys_than_he_may_however_many_at_once,
);

const DAY: Duration = Duration::from_secs(24 * 3_600);
const HERE: ClientIp = ClientIp(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));

fn scopes(names: &[&str]) -> Scopes {
    Scopes::new(names.iter().copied()).unwrap()
}

/// A user who has just logged in, and the keys of a service.
struct Desk {
    bench: Bench,
    keys: ApiKeys,
    user: Id,
    begun: LoggedIn,
    principal: Principal,
}

fn builder(accounts: &Accounts) -> ApiKeysBuilder {
    let form = ApiKeyForm::new("acme", "test").unwrap();
    ApiKeys::builder(accounts.clone(), form, scopes(&["read", "write", "pay"]))
}

impl Desk {
    async fn of(bench: Bench) -> Self {
        let keys = builder(&bench.accounts).build();
        let begun = bench.accounts.sign_up("ada@example.org", PASSWORD, "Ada");
        let begun = begun.await.unwrap();
        let (user, principal) = (begun.user.id, principal(&bench.accounts, &begun).await);
        Self {
            bench,
            keys,
            user,
            begun,
            principal,
        }
    }

    async fn make(&self, names: &[&str]) -> MadeApiKey {
        let new = NewApiKey::new("a program", scopes(names));
        self.keys.create(&self.principal, &new).await.unwrap()
    }

    async fn who(&self, text: &str) -> Option<Principal> {
        self.keys.recognise(text, &HERE).await.unwrap()
    }

    async fn lives(&self, made: &MadeApiKey) -> bool {
        self.who(&made.text).await.is_some()
    }

    async fn listed(&self) -> Vec<ApiKey> {
        self.keys.list(self.user).await.unwrap()
    }
}

async fn principal(accounts: &Accounts, begun: &LoggedIn) -> Principal {
    let sessions = accounts.sessions();
    let token = sessions.read(&begun.token).unwrap();
    sessions.recognise(&token).await.unwrap().unwrap()
}

async fn key_is_its_owner_within_its_scopes(bench: Bench) {
    let desk = Desk::of(bench).await;
    let made = desk.make(&["read", "pay"]).await;
    assert_eq!(desk.listed().await[0], made.key);
    let roles = Roles::new(["staff"]).unwrap();
    let sessions = desk.bench.accounts.sessions();
    let _ = sessions.set_roles(desk.user, &roles).await.unwrap();
    let who = desk.who(&made.text).await.unwrap();
    assert_eq!(who.user(), desk.user);
    assert_eq!(who.subject(), desk.principal.subject());
    assert_eq!(
        who.api_key(),
        Some((made.key.id, &scopes(&["pay", "read"])))
    );
    assert_eq!(who.roles(), &roles, "those of now");
    assert_eq!(
        (who.level(), who.methods()),
        (Level::Aal1, Methods::default())
    );
    assert_eq!(who.life_left(), ApiKeys::DEFAULT_LIFE);
    assert_eq!(desk.principal.api_key(), None);

    // Another one's, and another realm's or service's.
    let other = desk
        .bench
        .accounts
        .sign_up("eve@example.org", PASSWORD, "Eve");
    let other = other.await.unwrap();
    assert!(desk.keys.list(other.user.id).await.unwrap().is_empty());
    let gone = desk.keys.revoke(other.user.id, who.session()).await;
    assert!(matches!(gone, Err(ApiKeyError::NoKey)), "{gone:?}");
    let form = ApiKeyForm::new("acme", "live").unwrap();
    let live = ApiKeys::builder(
        Accounts::clone(&desk.bench.accounts),
        form,
        scopes(&["read"]),
    );
    assert_eq!(
        live.build().recognise(&made.text, &HERE).await.unwrap(),
        None
    );
}

async fn secret_is_shown_once_and_kept_nowhere(bench: Bench) {
    let desk = Desk::of(bench).await;
    let made = desk.make(&["read"]).await;
    assert!(made.text.starts_with("acme_test_"));
    assert!(
        !format!("{made:?}").contains(&made.text[10..40]),
        "{made:?}"
    );
    let secret = &URL_SAFE_NO_PAD.decode(&made.text[10..]).unwrap()[35..67];
    let row = match desk.bench.urls[0].starts_with("sqlite") {
        true => "SELECT hex(secret_hash) || name AS row FROM ms_api_key",
        false => "SELECT t::text AS row FROM ms_api_key t",
    };
    let kept = desk.bench.texts(row).await.to_lowercase();
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|it| format!("{it:02x}"))
            .collect::<String>()
    };
    let found = kept.contains(&hex(&Sha256::digest(secret)));
    assert!(found, "this is how it would be found");
    assert!(!kept.contains(&hex(secret)), "{kept}");
    assert!(!kept.contains(&made.text[60..80].to_lowercase()), "{kept}");
}

async fn key_goes_on_beside_the_one_that_replaces_it(bench: Bench) {
    let desk = Desk::of(bench).await;
    let new = NewApiKey::new("a program", scopes(&["read"])).lives(30 * DAY);
    let old = desk.keys.create(&desk.principal, &new).await.unwrap();
    desk.bench.time.advance(Duration::from_secs(60));
    let next = desk.keys.rotate(&desk.principal, old.key.id, DAY).await;
    let next = next.unwrap();
    assert_ne!((next.key.id, &next.text), (old.key.id, &old.text));
    assert_eq!(next.key.lineage, old.key.id);
    assert_eq!(
        (&next.key.name, &next.key.scopes),
        (&old.key.name, &old.key.scopes)
    );
    let life = next.key.expires_at.since(next.key.created_at);
    assert_eq!(life, 30 * DAY, "as long as the one before");
    desk.bench.time.advance(DAY - Duration::from_secs(1));
    assert!(desk.lives(&old).await && desk.lives(&next).await);
    assert_eq!(desk.listed().await.len(), 2);
    desk.bench.time.advance(Duration::from_secs(1));
    assert!(!desk.lives(&old).await && desk.lives(&next).await);
    assert_eq!(desk.listed().await.len(), 1);
    // What ends earlier than the overlap does.
    desk.bench.time.advance(29 * DAY);
    assert!(!desk.lives(&next).await);
}

/// As after an answer that was lost: the key that is in use goes on.
async fn key_that_is_replaced_again_ends_no_later(bench: Bench) {
    let desk = Desk::of(bench).await;
    let old = desk.make(&["read"]).await;
    let rotate = async |overlap| {
        let rotated = desk.keys.rotate(&desk.principal, old.key.id, overlap).await;
        rotated.unwrap()
    };
    let lost = rotate(DAY).await;
    let next = rotate(2 * DAY).await;
    for key in [&old, &lost, &next] {
        assert!(desk.lives(key).await);
    }
    desk.bench.time.advance(DAY);
    assert!(!desk.lives(&old).await);
    assert!(desk.lives(&lost).await && desk.lives(&next).await);
    // One that has ended is replaced by none.
    let again = desk.keys.rotate(&desk.principal, old.key.id, DAY).await;
    assert!(matches!(again, Err(ApiKeyError::NoKey)), "{again:?}");
    assert_eq!(desk.listed().await.len(), 2);
}

async fn only_a_user_in_person_who_has_just_proved_it_makes_keys(bench: Bench) {
    let desk = Desk::of(bench).await;
    let made = desk.make(&["read"]).await;
    let new = NewApiKey::new("another", scopes(&["read"]));
    let by_key = desk.who(&made.text).await.unwrap();
    let rotated = async |by| desk.keys.rotate(by, made.key.id, DAY).await;
    for refused in [
        desk.keys.create(&by_key, &new).await,
        rotated(&by_key).await,
    ] {
        let denied = matches!(refused, Err(ApiKeyError::Denied(Denied::ApiKey)));
        assert!(denied, "{refused:?}");
    }
    // Nor are the account's own flows for keys.
    let client = Client::new("192.0.2.1").session(Some(&by_key));
    let accounts = &desk.bench.accounts;
    let changed = accounts.change_password(Some(PASSWORD), "another horse battery", &client);
    let changed = changed.await;
    assert!(
        matches!(changed, Err(AuthError::ActsForUser)),
        "{changed:?}"
    );

    // A session that ended meanwhile.
    let begun = desk
        .bench
        .accounts
        .log_in("ada@example.org", PASSWORD)
        .await
        .unwrap();
    let other = principal(&desk.bench.accounts, &begun).await;
    let sessions = desk.bench.accounts.sessions();
    let which = Which::One(other.session());
    let _ = sessions
        .revoke(desk.user, which, Why::Ordered)
        .await
        .unwrap();
    for refused in [desk.keys.create(&other, &new).await, rotated(&other).await] {
        let over = matches!(refused, Err(ApiKeyError::Auth(AuthError::NotLoggedIn)));
        assert!(over, "{refused:?}");
    }
    // A proof of too long ago.
    let long = Accounts::FRESH_FOR + Duration::from_secs(1);
    desk.bench.time.advance(long);
    let stale = principal(&desk.bench.accounts, &desk.begun).await;
    for refused in [desk.keys.create(&stale, &new).await, rotated(&stale).await] {
        let denied = matches!(refused, Err(ApiKeyError::Denied(Denied::Stale { .. })));
        assert!(denied, "{refused:?}");
    }
    assert_eq!(desk.listed().await.len(), 1);
}

async fn what_makes_no_key_is_told_so_and_leaves_none(bench: Bench) {
    let desk = Desk::of(bench).await;
    let read = || scopes(&["read"]);
    let second = Duration::from_secs(1);
    for (new, code) in [
        (NewApiKey::new("", read()), "name_invalid"),
        (NewApiKey::new("a\nb", read()), "name_invalid"),
        (NewApiKey::new(&"a".repeat(101), read()), "name_invalid"),
        (
            NewApiKey::new("a", scopes(&["read", "admin"])),
            "scope_unknown",
        ),
        (
            NewApiKey::new("a", read()).lives(Duration::ZERO),
            "life_invalid",
        ),
        (
            NewApiKey::new("a", read()).lives(ApiKeys::MAX_LIFE + second),
            "life_invalid",
        ),
    ] {
        let refused = desk.keys.create(&desk.principal, &new).await.unwrap_err();
        assert_eq!(refused.code(), code, "{new:?}");
    }
    assert!(desk.listed().await.is_empty());
    assert!(Scopes::new([]).is_none() && Scopes::new([""]).is_none());
    let made = desk.make(&["read"]).await;
    let long = ApiKeys::MAX_OVERLAP + second;
    let refused = desk.keys.rotate(&desk.principal, made.key.id, long).await;
    assert!(matches!(refused, Err(ApiKeyError::Overlap)), "{refused:?}");
    let none = desk.keys.rotate(&desk.principal, desk.user, DAY).await;
    assert!(matches!(none, Err(ApiKeyError::NoKey)), "{none:?}");
    assert_eq!(desk.listed().await, [made.key]);

    // What is no key is nobody's, and takes nothing.
    let random: String = URL_SAFE_NO_PAD.encode(Secret::random::<71>().unwrap());
    for none in [
        "",
        "acme_test_",
        &made.text[..made.text.len() - 1],
        &format!("{}A", made.text),
        &made.text.replace("_test_", "_live_"),
        &made.text.to_uppercase(),
        &format!("acme_test_{random}"),
    ] {
        assert_eq!(desk.who(none).await, None, "{none}");
    }
}

async fn user_has_no_more_keys_than_he_may_however_many_at_once(bench: Bench) {
    let desk = Desk::of(bench).await;
    let most = usize::try_from(ApiKeys::MAX_PER_USER).unwrap();
    let mut making = JoinSet::new();
    for _ in 0..most + 8 {
        let (keys, principal) = (desk.keys.clone(), desk.principal.clone());
        let new = NewApiKey::new("a program", scopes(&["read"]));
        making.spawn(async move { keys.create(&principal, &new).await });
    }
    let made = making.join_all().await;
    let refused = made.iter().filter_map(|it| it.as_ref().err());
    let refused: Vec<_> = refused.collect();
    assert!(
        refused.iter().all(|it| matches!(it, ApiKeyError::TooMany)),
        "{refused:?}"
    );
    assert_eq!(refused.len(), 8);
    assert_eq!(desk.listed().await.len(), most);
    // One of them gives its place to the next.
    let one = made.into_iter().find_map(Result::ok).unwrap();
    let next = desk.keys.rotate(&desk.principal, one.key.id, DAY).await;
    assert!(matches!(next, Err(ApiKeyError::TooMany)), "{next:?}");
    assert!(desk.lives(&one).await, "and nothing was done");
    desk.keys.revoke(desk.user, one.key.id).await.unwrap();
    desk.make(&["read"]).await;
}
