//! Tokens that a process remembers to have verified, and those that are nearly so.

use std::time::Duration;

use maxscale_auth::jwt::{AccessTokens, Refused, SessionTokens, TokenError};
use maxscale_auth::session::{Level, Sessions, Which, Why};
use maxscale_cache::Hub;
use maxscale_shard::Engine;

use super::{BETTER, Desk, PROOF};
use crate::support::{Bench, keys};

async fn remembering() -> Desk {
    let bench = Bench::new(Engine::Sqlite).await;
    let sessions = Sessions::builder(bench.rows(), keys(), bench.ids.clone())
        .clock(bench.clock.clone())
        .near(&Hub::builder().build())
        .build();
    Desk::with(bench, sessions).await
}

impl Desk {
    /// A token of a new session, which was verified.
    async fn verified(&self) -> String {
        let (_, principal) = self.begin(BETTER).await;
        let token = self.issue(&principal).await;
        let known = self.tokens.recognise(&token).await.unwrap();
        assert_eq!(known.level(), Level::Aal2);
        token
    }

    async fn refused(&self, token: &str) -> Option<Refused> {
        match self.tokens.recognise(token).await {
            Ok(_) => None,
            Err(TokenError::Refused(why)) => Some(why),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verified_token_is_remembered_to_its_last_byte() {
    let desk = remembering().await;
    let token = desk.verified().await;
    for at in 0..token.len() {
        let mut bad = token.clone().into_bytes();
        bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
        let bad = String::from_utf8(bad).unwrap();
        assert!(desk.refused(&bad).await.is_some(), "byte {at}");
    }
    for bad in [&token[1..], &token[..token.len() - 1]] {
        assert!(desk.refused(bad).await.is_some(), "{bad}");
    }
    assert_eq!(desk.refused(&token).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verified_token_ends_with_its_time_its_key_and_its_session() {
    let desk = remembering().await;
    let token = desk.verified().await;
    let life = AccessTokens::DEFAULT_LIFE + AccessTokens::LEEWAY;
    desk.bench.time.advance(life - Duration::from_secs(1));
    assert_eq!(desk.refused(&token).await, None);
    desk.bench.time.advance(Duration::from_secs(1));
    assert_eq!(desk.refused(&token).await, Some(Refused::Expired));

    let token = desk.verified().await;
    let other = desk.verified().await;
    let session = desk.tokens.recognise(&token).await.unwrap().session();
    let revoked = desk
        .sessions
        .revoke(desk.user, Which::One(session), Why::Ordered);
    assert_eq!(revoked.await.unwrap().ended.len(), 1);
    assert!(desk.is_over(&token).await);
    assert_eq!(desk.refused(&other).await, None);

    // Somebody may have the keys, and they are taken away.
    desk.bench.everywhere("DELETE FROM ms_signing_keys").await;
    desk.keys.look().await.unwrap();
    assert_eq!(desk.refused(&other).await, Some(Refused::Key));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handles_on_one_hub_do_not_believe_what_others_have_verified() {
    let desk = remembering().await;
    let token = desk.verified().await;
    let theirs = AccessTokens::new("https://platform.example", "another").unwrap();
    let other = SessionTokens::new(desk.sessions.clone(), theirs, desk.keys.clone()).unwrap();
    for _ in 0..2 {
        let known = other.recognise(&token).await;
        let refused = matches!(known, Err(TokenError::Refused(Refused::Audience)));
        assert!(refused, "{known:?}");
        assert_eq!(desk.refused(&token).await, None);
    }
}

/// What is remembered of a session is said of each of its tokens by what that one says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_one_session_are_remembered_apart() {
    let desk = remembering().await;
    let (session, weak) = desk.begin(PROOF).await;
    let before = desk.issue(&weak).await;
    desk.bench.time.advance(Duration::from_secs(2));
    let rotated = desk.sessions.rotate(&weak, BETTER).await.unwrap().unwrap();
    let better = desk.who(&rotated).await;
    let after = desk.issue(&better).await;
    for _ in 0..2 {
        for (token, level) in [(&before, Level::Aal1), (&after, Level::Aal2)] {
            let known = desk.tokens.recognise(token).await.unwrap();
            assert_eq!(known.level(), level);
            assert_eq!(known.session(), weak.session());
        }
        assert_eq!(desk.who(&rotated).await.level(), Level::Aal2);
        assert_eq!(desk.who(&session).await.level(), Level::Aal1);
    }
}
