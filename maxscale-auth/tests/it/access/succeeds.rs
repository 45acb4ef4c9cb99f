//! A session of a browser that goes on as one of refresh tokens.

use std::sync::Arc;
use std::time::Duration;

use maxscale_auth::session::{
    Impersonation, Level, Methods, RefreshError, RefreshTokens, Which, Why,
};
use maxscale_auth::{AuthError, Guard};
use maxscale_core::fact::VirtualShard;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::{BETTER, Desk, PROOF};
use crate::support::{Bench, keys};

on_both!(
    session_goes_on_with_its_proof_and_its_end,
    of_many_at_once_one_goes_on,
    what_ends_all_sessions_ends_the_next_one,
    exchanged_secret_and_who_acts_for_a_user_get_no_next_one,
);

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3_600);

impl Desk {
    fn refresh(&self) -> RefreshTokens {
        RefreshTokens::new(self.sessions.clone(), self.bench.rows(), keys())
    }

    /// How many sessions the user has.
    async fn living(&self) -> usize {
        self.sessions.list(self.user).await.unwrap().len()
    }
}

async fn session_goes_on_with_its_proof_and_its_end(bench: Bench) {
    let desk = Desk::of(bench).await;
    let (old, principal) = desk.begin(BETTER).await;
    desk.bench.time.advance(MINUTE);
    // Those that are begun so may last for longer; this one does not.
    let refresh = desk.refresh().lasts(DAY, 365 * DAY);
    let next = refresh.succeed(&principal, "phone").await.unwrap();
    assert_eq!(next.principal.life_left() + MINUTE, principal.life_left());
    let token = desk.sessions.read(&old).unwrap();
    assert_eq!(desk.sessions.recognise(&token).await.unwrap(), None);
    let listed = desk.sessions.list(desk.user).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].device, "phone");
    assert_ne!(next.principal.session(), principal.session());
    let refreshed = desk.refresh().refresh(&next.token).await.unwrap();
    for who in [&next.principal, &refreshed.principal] {
        assert_eq!((who.level(), who.methods()), (Level::Aal2, Methods::CODE));
        assert_eq!(who.authenticated_at(), principal.authenticated_at());
    }
    assert!(refreshed.epoch > next.epoch);
}

async fn of_many_at_once_one_goes_on(bench: Bench) {
    const USES: usize = 16;
    let desk = Desk::of(bench).await;
    let (_, principal) = desk.begin(PROOF).await;
    let (start, mut using) = (Arc::new(Barrier::new(USES)), JoinSet::new());
    for _ in 0..USES {
        let (refresh, principal) = (desk.refresh(), principal.clone());
        let start = start.clone();
        using.spawn(async move {
            start.wait().await;
            refresh.succeed(&principal, "").await
        });
    }
    let all = using.join_all().await;
    let next: Vec<_> = all.iter().flatten().collect();
    assert_eq!(next.len(), 1, "{all:?}");
    let over = |it: &&Result<_, _>| matches!(it, Err(RefreshError::Over));
    assert_eq!(all.iter().filter(over).count(), USES - 1, "{all:?}");
    assert_eq!(desk.living().await, 1);
    desk.refresh().refresh(&next[0].token).await.unwrap();
}

async fn what_ends_all_sessions_ends_the_next_one(bench: Bench) {
    let desk = Desk::of(bench).await;
    for _ in 0..10 {
        let (_, principal) = desk.begin(PROOF).await;
        let start = Arc::new(Barrier::new(2));
        let (refresh, began) = (desk.refresh(), start.clone());
        let going_on = tokio::spawn(async move {
            began.wait().await;
            refresh.succeed(&principal, "").await
        });
        start.wait().await;
        let revoked = desk.sessions.revoke(desk.user, Which::All, Why::Ordered);
        let revoked = revoked.await.unwrap();
        let next = going_on.await.unwrap();
        // Whichever came first.
        assert!(!revoked.ended.is_empty());
        assert_eq!(desk.living().await, 0, "{next:?}");
    }
}

async fn exchanged_secret_and_who_acts_for_a_user_get_no_next_one(bench: Bench) {
    let desk = Desk::of(bench).await;
    let (_, before) = desk.begin(PROOF).await;
    let rotated = desk
        .sessions
        .rotate(&before, BETTER)
        .await
        .unwrap()
        .unwrap();
    let next = desk.refresh().succeed(&before, "").await;
    assert!(matches!(next, Err(RefreshError::Over)), "{next:?}");
    let current = desk.who(&rotated).await;
    let token = desk.issue(&current).await;
    let by_token = desk.tokens.recognise(&token).await.unwrap();
    let next = desk.refresh().succeed(&by_token, "").await;
    assert!(matches!(next, Err(RefreshError::Over)), "{next:?}");

    let other = desk.bench.ids.draw(VirtualShard::new(4));
    let policy = Impersonation::by(Guard::logged_in());
    let text = desk.sessions.impersonate(&current, other, &policy).await;
    let acting = desk.who(&text.unwrap()).await;
    let next = desk.refresh().succeed(&acting, "").await;
    let refused = matches!(next, Err(RefreshError::Auth(AuthError::ActsForUser)));
    assert!(refused, "{next:?}");
    assert_eq!(desk.living().await, 1);
}
