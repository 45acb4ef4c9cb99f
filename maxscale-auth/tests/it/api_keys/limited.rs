//! How many wrong keys are looked for, how often a key may be used, and when it was.

use std::time::Duration;

use maxscale_auth::ApiKeys;
use maxscale_auth::api_key::{ApiKeyError, MadeApiKey, NewApiKey};
use maxscale_core::fact::ClientIp;
use maxscale_core::limit::Quota;
use maxscale_shard::Engine;
use tokio::task::JoinSet;

use super::{DAY, Desk, HERE, scopes};
use crate::support::Bench;

on_both!(
    key_has_its_quota_together_with_what_replaces_it,
    last_request_is_noted
);

const THERE: ClientIp = ClientIp(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_keys_are_not_looked_for_without_end() {
    let desk = Desk::of(Bench::new(Engine::Sqlite).await).await;
    let right = desk.make(&["read"]).await;
    let refuses = async |text: &str| match desk.keys.recognise(text, &HERE).await {
        Err(ApiKeyError::Wrong { retry_after }) => {
            assert!(retry_after.is_some_and(|it| it <= 2 * ApiKeys::WRONG_WINDOW));
            true
        }
        known => {
            known.unwrap();
            false
        }
    };
    // A program that does not know that its key has ended does no harm to others.
    let ended = desk.end_one().await;
    for n in 0..10 * ApiKeys::MAX_WRONG {
        assert_eq!(refuses(&ended).await, n >= ApiKeys::MAX_AGAIN);
    }
    for _ in 1..ApiKeys::MAX_WRONG {
        assert!(desk.lives(&right).await);
        assert_eq!(desk.who(&desk.end_one().await).await, None);
    }
    // Of what cannot be a key nobody was asked, and nobody is.
    assert_eq!(desk.who("acme_test_AAAA").await, None);
    assert!(refuses(&desk.end_one().await).await);
    assert!(refuses(&right.text).await);
    let elsewhere = desk.keys.recognise(&right.text, &THERE).await.unwrap();
    assert!(elsewhere.is_some());
    desk.bench.time.advance(2 * ApiKeys::WRONG_WINDOW);
    assert!(desk.lives(&right).await);
}

impl Desk {
    /// A key that has ended.
    async fn end_one(&self) -> String {
        let made = self.make(&["read"]).await;
        self.keys.revoke(self.user, made.key.id).await.unwrap();
        made.text
    }
}

async fn key_has_its_quota_together_with_what_replaces_it(bench: Bench) {
    let desk = Desk::of(bench).await;
    let quota = Quota::new(10, Duration::from_secs(3_600)).unwrap();
    let new = NewApiKey::new("a program", scopes(&["read"])).quota(quota);
    let made = desk.keys.create(&desk.principal, &new).await.unwrap();
    assert_eq!(desk.listed().await[0].quota, Some(quota));
    let next = desk
        .keys
        .rotate(&desk.principal, made.key.id, DAY)
        .await
        .unwrap();
    let mut asking = JoinSet::new();
    for n in 0..40 {
        let keys = desk.keys.clone();
        let text = if n % 2 == 0 { &made.text } else { &next.text }.clone();
        asking.spawn(async move { keys.recognise(&text, &HERE).await });
    }
    let answers = asking.join_all().await;
    let through = answers
        .iter()
        .filter(|it| matches!(it, Ok(Some(_))))
        .count();
    let full = |it: &&Result<_, _>| {
        matches!(
            it,
            Err(ApiKeyError::Quota {
                retry_after: Some(_)
            })
        )
    };
    assert_eq!((through, answers.iter().filter(full).count()), (10, 30));
    desk.bench.time.advance(Duration::from_secs(2 * 3_600));
    assert!(desk.lives(&made).await);
    // One without has none.
    let other = desk.make(&["read"]).await;
    for _ in 0..40 {
        assert!(desk.lives(&other).await);
    }
}

async fn last_request_is_noted(bench: Bench) {
    let desk = Desk::of(bench).await;
    let (used, idle) = (desk.make(&["read"]).await, desk.make(&["read"]).await);
    let used_at = async |of: &MadeApiKey| {
        desk.keys.shutdown().await.unwrap();
        let listed = desk.listed().await;
        let found = listed.into_iter().find(|it| it.id == of.key.id);
        found.unwrap().used_at
    };
    let first = desk.bench.clock.now();
    assert!(desk.lives(&used).await);
    assert_eq!(used_at(&used).await, Some(first));
    // Once a minute is enough.
    desk.bench.time.advance(ApiKeys::TOUCH_EVERY / 2);
    assert!(desk.lives(&used).await);
    assert_eq!(used_at(&used).await, Some(first));
    desk.bench.time.advance(ApiKeys::TOUCH_EVERY / 2);
    assert!(desk.lives(&used).await);
    assert_eq!(used_at(&used).await, Some(desk.bench.clock.now()));
    assert_eq!(used_at(&idle).await, None);

    // A late note brings none back.
    assert!(desk.lives(&idle).await);
    desk.keys.revoke(desk.user, idle.key.id).await.unwrap();
    desk.keys.shutdown().await.unwrap();
    assert!(!desk.lives(&idle).await);
}
