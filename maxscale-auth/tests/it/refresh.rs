//! Refresh tokens: each is exchanged once, whoever asks however often.

use std::sync::Arc;
use std::time::Duration;

use maxscale_auth::session::{
    Level, Methods, Proof, RefreshError, RefreshTokens, Refreshed, Sessions, Which, Why,
};
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::Id;
use maxscale_core::keys::{KeyRing, Secret};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::signing_keys::cut;
use crate::support::{Bench, keys, open};

on_both!(
    of_64_uses_at_once_one_exchanges_and_all_get_the_same,
    token_gives_the_same_next_one_for_ten_seconds_and_ends_the_session_then,
    token_of_two_generations_ago_ends_its_session_and_no_other,
    whatever_ends_the_session_ends_its_tokens,
    end_of_the_session_does_not_move,
    cut_at_any_await_the_token_still_gives_the_next_one,
    ring_that_has_another_key_gives_the_same_next_one,
    what_was_not_issued_is_refused,
);

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3_600);

const PROOF: Proof = Proof {
    level: Level::Aal2,
    methods: Methods::PASSWORD,
};

impl Bench {
    fn refresh(&self) -> RefreshTokens {
        self.refresh_by(keys())
    }

    fn refresh_by(&self, ring: Arc<KeyRing>) -> RefreshTokens {
        RefreshTokens::new(self.all_sessions(), self.rows(), ring)
    }

    fn all_sessions(&self) -> Sessions {
        self.sessions_on(self.rows())
    }

    fn somebody(&self) -> Id {
        self.ids.draw(VirtualShard::new(3))
    }

    /// How many exchanges there were.
    async fn exchanges(&self) -> i64 {
        let counts = self
            .counts("SELECT CAST(COALESCE(SUM(version - 1), 0) AS bigint) AS n FROM ms_session");
        counts.await.iter().sum()
    }
}

async fn begin(refresh: &RefreshTokens, user: Id) -> String {
    refresh.begin(user, PROOF, "phone").await.unwrap()
}

async fn next(refresh: &RefreshTokens, token: &str) -> String {
    refresh.refresh(token).await.unwrap().token
}

fn is_over(answer: &Result<Refreshed, RefreshError>) -> bool {
    matches!(answer, Err(RefreshError::Over))
}

fn is_reused(answer: &Result<Refreshed, RefreshError>) -> bool {
    matches!(answer, Err(RefreshError::Reused))
}

async fn of_64_uses_at_once_one_exchanges_and_all_get_the_same(bench: Bench) {
    const USES: usize = 64;
    let user = bench.somebody();
    let token = begin(&bench.refresh(), user).await;
    // Two processes.
    let other = open(bench.nodes.clone()).await;
    let rows =
        maxscale_auth::session::SqlSessions::new(other.router().clone(), bench.clock.clone());
    let there = RefreshTokens::new(bench.sessions_on(rows.clone()), rows, keys());
    let (start, mut using) = (Arc::new(Barrier::new(USES)), JoinSet::new());
    for number in 0..USES {
        let refresh = if number % 2 == 0 {
            bench.refresh()
        } else {
            there.clone()
        };
        let (start, token) = (start.clone(), token.clone());
        using.spawn(async move {
            start.wait().await;
            next(&refresh, &token).await
        });
    }
    let given = using.join_all().await;
    assert!(given.iter().all(|it| *it == given[0]), "one successor");
    assert_ne!(given[0], token);
    assert_eq!(bench.exchanges().await, 1);
    let refreshed = bench.refresh().refresh(&given[0]).await.unwrap();
    assert_eq!(refreshed.principal.user(), user);
    assert_eq!(refreshed.principal.level(), Level::Aal2);
}

async fn token_gives_the_same_next_one_for_ten_seconds_and_ends_the_session_then(bench: Bench) {
    let (refresh, user) = (bench.refresh(), bench.somebody());
    let token = begin(&refresh, user).await;
    let second = next(&refresh, &token).await;
    bench.time.advance(9 * SECOND);
    assert_eq!(next(&refresh, &token).await, second);
    assert_eq!(bench.exchanges().await, 1);
    bench.time.advance(2 * SECOND);
    let late = refresh.refresh(&token).await;
    assert!(is_reused(&late), "{late:?}");
    // Whoever of the two has the next one.
    let answer = refresh.refresh(&second).await;
    assert!(is_over(&answer), "{answer:?}");
    assert!(bench.all_sessions().list(user).await.unwrap().is_empty());
}

async fn token_of_two_generations_ago_ends_its_session_and_no_other(bench: Bench) {
    let (refresh, user) = (bench.refresh(), bench.somebody());
    let other = begin(&refresh, user).await;
    let token = begin(&refresh, user).await;
    let second = next(&refresh, &token).await;
    let third = next(&refresh, &second).await;
    let old = refresh.refresh(&token).await;
    assert!(is_reused(&old), "{old:?}");
    for ended in [&token, &second, &third] {
        let answer = refresh.refresh(ended).await;
        assert!(is_over(&answer), "{answer:?}");
    }
    next(&refresh, &other).await;
}

async fn whatever_ends_the_session_ends_its_tokens(bench: Bench) {
    let (refresh, sessions) = (bench.refresh(), bench.all_sessions());
    for which in [None, Some(Which::All)] {
        let user = bench.somebody();
        let token = begin(&refresh, user).await;
        let second = next(&refresh, &token).await;
        let listed = sessions.list(user).await.unwrap();
        let which = which.unwrap_or(Which::One(listed[0].session.id));
        let _ = sessions.revoke(user, which, Why::Ordered).await.unwrap();
        // Also the one that would be answered again.
        for ended in [&token, &second] {
            let answer = refresh.refresh(ended).await;
            assert!(is_over(&answer), "{answer:?}");
        }
    }
}

async fn end_of_the_session_does_not_move(bench: Bench) {
    let (refresh, user) = (bench.refresh(), bench.somebody());
    let idle = begin(&refresh, user).await;
    let mut token = begin(&refresh, user).await;
    for _ in 0..5 {
        bench.time.advance(6 * DAY - SECOND);
        token = next(&refresh, &token).await;
    }
    assert!(
        is_over(&refresh.refresh(&idle).await),
        "it was not used for a week"
    );
    bench.time.advance(6 * SECOND);
    assert!(is_over(&refresh.refresh(&token).await), "it is a month old");
}

async fn cut_at_any_await_the_token_still_gives_the_next_one(bench: Bench) {
    let refresh = bench.refresh();
    let mut token = begin(&refresh, bench.somebody()).await;
    let mut dropped = 0;
    // On a busy machine answers come in few polls: then it is done once more.
    while dropped <= 10 {
        for polls in 0.. {
            let whole = cut(polls, refresh.refresh(&token)).await;
            let again = next(&refresh, &token).await;
            if let Some(answer) = whole {
                assert_eq!(answer.unwrap().token, again, "after {polls} polls");
                token = again;
                break;
            }
            dropped += 1;
            token = again;
        }
    }
}

async fn ring_that_has_another_key_gives_the_same_next_one(bench: Bench) {
    let newer = KeyRing::clone(&keys()).with_old(2, Secret::new([9; 32]));
    let promoted = newer.unwrap().promoted(2).unwrap();
    let (before, after) = (bench.refresh(), bench.refresh_by(Arc::new(promoted)));
    let token = begin(&before, bench.somebody()).await;
    let second = next(&before, &token).await;
    let again = next(&after, &token).await;
    assert_eq!(bench.exchanges().await, 1);
    // The same secret, with a MAC by another key.
    assert_eq!(next(&after, &again).await, next(&after, &second).await);
}

async fn what_was_not_issued_is_refused(bench: Bench) {
    let refresh = bench.refresh();
    let session = bench.all_sessions();
    let web = session
        .begin(bench.somebody(), PROOF, "browser")
        .await
        .unwrap();
    let foreign = bench.refresh_by(Arc::new(KeyRing::new(1, Secret::new([8; 32])).unwrap()));
    let theirs = begin(&foreign, bench.somebody()).await;
    for text in ["", "mxr_", &web, &web.replace("mxs_", "mxr_"), &theirs] {
        let answer = refresh.refresh(text).await;
        assert!(
            matches!(answer, Err(RefreshError::Foreign)),
            "{text}: {answer:?}"
        );
    }
    // Nor is a refresh token one of a session.
    let token = begin(&refresh, bench.somebody()).await;
    assert!(bench.who(&token).await.is_none());
    assert!(bench.who(&token.replace("mxr_", "mxs_")).await.is_none());
}
