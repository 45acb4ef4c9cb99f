//! The keys of access tokens, kept by several processes in one database.

mod away;
mod killed;

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use maxscale_auth::jwt::{
    AccessTokens, Claims, KeyStoreError, Keys, Refused, Rotation, SigningKeys, SigningKeysBuilder,
};
use maxscale_auth::session::{Level, Roles};
use maxscale_core::clock::Clock;
use maxscale_core::fact::VirtualShard;
use maxscale_core::keys::{KeyRing, Secret};
use maxscale_shard::{Router, sql};
use serde_json::Value;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::{Bench, keys, open};

on_both!(
    of_many_processes_one_makes_the_next_key,
    cut_at_any_await_a_valid_set_is_left,
    what_was_decided_long_ago_is_not_stored,
    rows_open_by_the_ring_alone_and_in_their_place,
    keys_are_sealed_anew_under_the_newest_key_of_the_ring,
);

const DAY: Duration = Duration::from_secs(24 * 3_600);
const HOUR: Duration = Duration::from_secs(3_600);
const SECOND: Duration = Duration::from_secs(1);

/// A key a day, and an hour for everybody to see it.
fn daily() -> Rotation {
    Rotation::new(DAY, HOUR, AccessTokens::DEFAULT_LIFE).unwrap()
}

fn builder(router: &Router, clock: &Clock) -> SigningKeysBuilder {
    SigningKeys::builder(router.clone(), keys(), daily()).clock(clock.clone())
}

async fn keep(router: &Router, clock: &Clock) -> SigningKeys {
    builder(router, clock).open().await.unwrap()
}

pub(crate) fn tokens() -> AccessTokens {
    AccessTokens::new("https://platform.example", "platform").unwrap()
}

impl Bench {
    pub(crate) async fn keep(&self) -> SigningKeys {
        keep(self.router(), &self.clock).await
    }

    /// A token that `keys` sign now.
    pub(crate) fn sign(&self, keys: &Keys) -> String {
        let (now, user) = (self.clock.now(), self.ids.draw(VirtualShard::new(3)));
        let claims = Claims {
            user,
            email: "ada@example.org".to_owned(),
            roles: Roles::default(),
            session: user,
            epoch: 1,
            level: Level::Aal1,
            authenticated_at: now,
            token: Uuid::new_v4(),
            issued_at: now,
            expires_at: now.after(AccessTokens::DEFAULT_LIFE),
        };
        tokens().issue(&claims, keys).unwrap()
    }

    fn verifies(&self, keys: &Keys, token: &str) -> Result<(), Refused> {
        let verified = tokens().verify(token, keys, self.clock.now());
        verified.map(drop)
    }
}

/// The names of all keys that are published.
fn names(keys: &Keys) -> BTreeSet<String> {
    let set: Value = serde_json::from_str(&keys.jwks()).unwrap();
    let keys = set["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

async fn of_many_processes_one_makes_the_next_key(bench: Bench) {
    const PROCESSES: usize = 8;
    let (mut processes, mut starting) = (Vec::new(), JoinSet::new());
    for _ in 0..PROCESSES {
        let (nodes, clock) = (bench.nodes.clone(), bench.clock.clone());
        starting.spawn(async move {
            let fleet = open(nodes).await;
            (keep(fleet.router(), &clock).await, fleet)
        });
    }
    processes.extend(starting.join_all().await);
    let mut ever = names(&processes[0].0.keys());
    assert_eq!(ever.len(), 1, "one first key");
    for period in 0..6 {
        // The next key, the exchange, and the end of the old one.
        for wait in [DAY - HOUR + 6 * SECOND, HOUR + 6 * SECOND, 2 * HOUR] {
            bench.time.advance(wait);
            let (start, mut looking) = (Arc::new(Barrier::new(PROCESSES)), JoinSet::new());
            for (process, _) in &processes {
                let (process, start) = (process.clone(), start.clone());
                looking.spawn(async move {
                    start.wait().await;
                    process.look().await.unwrap();
                    (
                        names(&process.keys()),
                        process.keys().active().kid().clone(),
                    )
                });
            }
            let seen = looking.join_all().await;
            assert!(seen.iter().all(|it| *it == seen[0]), "{seen:?}");
            ever.extend(seen[0].0.clone());
            bench.time.advance(6 * SECOND);
        }
        assert_eq!(ever.len(), period + 2, "one more key in each period");
        assert_eq!(
            names(&processes[0].0.keys()).len(),
            1,
            "the old one is gone"
        );
    }
}

/// Drops `future` after so many polls.
pub(crate) async fn cut<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut polled) = (Box::pin(future), 0);
    poll_fn(|cx| {
        if polled == polls {
            return Poll::Ready(None);
        }
        polled += 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

async fn cut_at_any_await_a_valid_set_is_left(bench: Bench) {
    for polls in 0..10_000 {
        // Something is to be done each time: a key is added, made active, or taken away.
        bench.time.advance(DAY + HOUR);
        let began = cut(polls, builder(bench.router(), &bench.clock).open()).await;
        let found = bench.keep().await;
        let (keys, token) = (found.keys(), bench.sign(&found.keys()));
        assert!((1..=3).contains(&names(&keys).len()));
        assert_eq!(bench.verifies(&keys, &token), Ok(()));
        if polls > 60 && began.is_some() {
            return;
        }
    }
    panic!("it never came to its end");
}

async fn what_was_decided_long_ago_is_not_stored(bench: Bench) {
    let process = bench.keep().await;
    let first = process.keys().active().kid().clone();
    bench.time.advance(DAY);
    // It reads that a key is to be added, and then cannot write.
    let mut held = Vec::new();
    for node in bench.router().nodes().iter() {
        let mut tx = node.database().begin().await.unwrap();
        tx.execute(sql("UPDATE ms_signing_keys SET version = version"))
            .await
            .unwrap();
        held.push(tx);
    }
    let looking = tokio::spawn({
        let process = process.clone();
        async move { process.look().await }
    });
    // It counts from when it has read, which may take a while.
    for _ in 0..12 {
        tokio::time::sleep(SECOND).await;
        // The server ends transactions that do nothing for long.
        for tx in &mut held {
            tx.fetch_all(sql("SELECT 1 AS one")).await.unwrap();
        }
    }
    bench.time.advance(2 * HOUR);
    for tx in held {
        tx.rollback().await.unwrap();
    }
    looking.await.unwrap().unwrap();
    let keys = process.keys();
    assert_eq!(names(&keys).len(), 2);
    assert_eq!(
        *keys.active().kid(),
        first,
        "nobody had an hour to see the other"
    );
    bench.time.advance(HOUR + 6 * SECOND);
    process.look().await.unwrap();
    assert_ne!(*process.keys().active().kid(), first);
}

async fn rows_open_by_the_ring_alone_and_in_their_place(bench: Bench) {
    let process = bench.keep().await;
    let other = KeyRing::new(1, Secret::new([8; 32])).unwrap();
    let with = SigningKeys::builder(bench.router().clone(), Arc::new(other), daily());
    let opened = with.clock(bench.clock.clone()).open().await;
    assert!(
        matches!(opened, Err(KeyStoreError::Sealed(_))),
        "{opened:?}"
    );
    // The keys of before, the keys of another realm, and a changed byte.
    for (spoil, mend) in [
        (
            "UPDATE ms_signing_keys SET version = version + 1",
            "UPDATE ms_signing_keys SET version = version - 1",
        ),
        (
            "UPDATE ms_signing_keys SET realm = 1",
            "UPDATE ms_signing_keys SET realm = 0",
        ),
    ] {
        bench.everywhere(spoil).await;
        let realm = maxscale_auth::Realm::new(u16::from(spoil.contains("realm")));
        let opened = builder(bench.router(), &bench.clock)
            .realm(realm)
            .open()
            .await;
        assert!(
            matches!(opened, Err(KeyStoreError::Sealed(_))),
            "{opened:?}"
        );
        bench.everywhere(mend).await;
    }
    let before = names(&process.keys());
    process.look().await.unwrap();
    assert_eq!(names(&process.keys()), before);
}

async fn keys_are_sealed_anew_under_the_newest_key_of_the_ring(bench: Bench) {
    let process = bench.keep().await;
    let newer = || Secret::new([9; 32]);
    let both = KeyRing::clone(&keys()).with_old(2, newer()).unwrap();
    let promoted = Arc::new(both.promoted(2).unwrap());
    let with = |ring| SigningKeys::builder(bench.router().clone(), ring, daily());
    let moved = with(promoted)
        .clock(bench.clock.clone())
        .open()
        .await
        .unwrap();
    assert_eq!(names(&moved.keys()), names(&process.keys()));
    // Nothing is left that the old key of the ring is needed for.
    let alone = Arc::new(KeyRing::new(2, newer()).unwrap());
    let alone = with(alone).clock(bench.clock.clone()).open().await.unwrap();
    assert_eq!(names(&alone.keys()), names(&process.keys()));
}
