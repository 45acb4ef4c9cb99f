//! Tokens that a process remembers to have verified, and those that are nearly so.

use std::sync::Arc;

use maxscale_auth::session::{Level, Methods, Sessions, SessionsBuilder};
use maxscale_auth::{CookiePolicy, Principal, Realm, SessionLayer};
use maxscale_cache::Hub;
use maxscale_core::keys::{KeyRing, Secret};

use crate::activity::{Desk, PROOF};
use crate::support::{ask, cookie, keys};

/// The sessions of a desk, remembered on a hub.
struct Remembering {
    desk: Desk,
    hub: Hub,
}

impl Remembering {
    fn new() -> Self {
        Self {
            desk: Desk::new(),
            hub: Hub::builder().build(),
        }
    }

    fn handle(&self, keys: Arc<KeyRing>) -> SessionsBuilder {
        Sessions::builder(self.desk.store.clone(), keys, self.desk.ids.clone())
            .clock(self.desk.clock.clone())
            .near(&self.hub)
    }

    /// How often the store was asked for a request with this token, and who it was.
    async fn asked(&self, sessions: &Sessions, token: &str) -> (u64, Option<Principal>) {
        let before = self.desk.store.loads();
        let layer = SessionLayer::new(sessions.clone(), CookiePolicy::new(true));
        let answer = ask(&layer, cookie(token)).await;
        let principal = answer.extensions().get().cloned();
        (self.desk.store.loads() - before, principal)
    }
}

#[tokio::test(start_paused = true)]
async fn token_is_remembered_to_its_last_byte() {
    let it = Remembering::new();
    let sessions = it.handle(keys()).build();
    let token = it.desk.begin().await;
    assert_eq!(it.asked(&sessions, &token).await.0, 1);

    for at in 0..token.len() {
        let mut bad = token.clone().into_bytes();
        bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
        let bad = String::from_utf8(bad).unwrap();
        assert_eq!(it.asked(&sessions, &bad).await, (0, None), "byte {at}");
    }
    let (asked, who) = it.asked(&sessions, &token).await;
    assert!(asked == 0 && who.is_some(), "it was remembered meanwhile");
}

#[tokio::test(start_paused = true)]
async fn handles_on_one_hub_do_not_believe_what_others_have_verified() {
    let it = Remembering::new();
    let sessions = it.handle(keys()).build();
    let other_keys = Arc::new(KeyRing::new(1, Secret::new([8; 32])).unwrap());
    let strangers = [
        it.handle(keys()).realm(Realm::new(1)).build(),
        it.handle(other_keys).build(),
    ];
    let token = it.desk.begin().await;
    assert_eq!(it.asked(&sessions, &token).await.0, 1);

    for stranger in &strangers {
        assert_eq!(it.asked(stranger, &token).await, (0, None));
    }
    let (asked, who) = it.asked(&sessions, &token).await;
    assert!(asked == 0 && who.is_some(), "it was remembered meanwhile");
}

#[tokio::test(start_paused = true)]
async fn remembered_token_ends_when_its_session_does() {
    let it = Remembering::new();
    let sessions = it.handle(keys()).build();
    let token = it.desk.begin().await;
    assert_eq!(it.asked(&sessions, &token).await.0, 1);

    // What is remembered counts by another clock, which stands still.
    it.desk.time.advance(sessions.policy().idle);
    assert_eq!(it.asked(&sessions, &token).await, (1, None));
}

#[tokio::test(start_paused = true)]
async fn remembered_secret_that_was_exchanged_ends_with_its_grace() {
    let it = Remembering::new();
    let sessions = it.handle(keys()).build();
    let old = it.desk.begin().await;
    let principal = it.asked(&sessions, &old).await.1.unwrap();
    let mut proof = PROOF;
    proof.level = Level::Aal2;
    let new = sessions.rotate(&principal, proof).await.unwrap().unwrap();

    for (token, level) in [(&old, Level::Aal1), (&new, Level::Aal2)] {
        for asked in [1, 0] {
            let (loads, who) = it.asked(&sessions, token).await;
            assert_eq!((loads, who.unwrap().level()), (asked, level));
        }
    }
    it.desk.time.advance(sessions.policy().grace);
    assert_eq!(it.asked(&sessions, &old).await, (1, None));
    let (asked, who) = it.asked(&sessions, &new).await;
    assert!(asked == 0 && who.is_some());
}

/// What was kept of the old secret before another process exchanged it is judged by the
/// record that the new one was found in.
#[tokio::test(start_paused = true)]
async fn what_is_heard_of_one_token_counts_for_the_others_of_its_session() {
    let it = Remembering::new();
    let sessions = it.handle(keys()).build();
    let old = it.desk.begin().await;
    let principal = it.asked(&sessions, &old).await.1.unwrap();
    let elsewhere = &it.desk.sessions;
    let new = elsewhere.rotate(&principal, PROOF).await.unwrap().unwrap();
    assert_eq!(it.asked(&sessions, &new).await.0, 1);

    let (asked, who) = it.asked(&sessions, &old).await;
    assert_eq!(asked, 0);
    let who = who.unwrap();
    assert_eq!(
        who.methods(),
        Methods::default(),
        "the proof is the new one's"
    );
    let rotated = sessions.rotate(&who, PROOF).await.unwrap();
    assert!(rotated.is_none(), "of an exchanged secret");
}
