//! Access tokens of sessions: who brings one is who its session says.

mod layer;
mod remembered;
mod revoked;
mod succeeds;

use std::time::Duration;

use maxscale_auth::jwt::{
    AccessTokens, Refused, SessionTokens, SessionTokensError, SigningKeys, TokenError,
};
use maxscale_auth::session::{
    Impersonation, Level, Methods, Proof, RefreshTokens, Roles, Sessions, Which, Why,
};
use maxscale_auth::{AuthError, Guard, Principal, Realm};
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::Id;

use crate::signing_keys::tokens;
use crate::support::{Bench, keys};

on_both!(
    token_tells_the_facts_that_the_session_has,
    proof_that_came_later_is_not_the_token_s,
    session_that_ended_has_no_tokens,
    token_that_is_over_recognises_nobody,
    who_has_not_the_session_himself_gets_no_token,
    tokens_and_keys_that_do_not_go_together_are_refused,
);

const EMAIL: &str = "ada@example.org";

const PROOF: Proof = Proof {
    level: Level::Aal1,
    methods: Methods::PASSWORD,
};

const BETTER: Proof = Proof {
    level: Level::Aal2,
    methods: Methods::CODE,
};

/// A user, and who issues tokens to him.
struct Desk {
    bench: Bench,
    keys: SigningKeys,
    sessions: Sessions,
    tokens: SessionTokens,
    user: Id,
}

impl Desk {
    async fn of(bench: Bench) -> Self {
        let sessions = bench.sessions_on(bench.rows());
        Self::with(bench, sessions).await
    }

    async fn with(bench: Bench, sessions: Sessions) -> Self {
        let keys = bench.keep().await;
        let tokens = SessionTokens::new(sessions.clone(), tokens(), keys.clone()).unwrap();
        let user = bench.ids.draw(VirtualShard::new(3));
        Self {
            bench,
            keys,
            sessions,
            tokens,
            user,
        }
    }

    /// Who has a new session, and its token.
    async fn begin(&self, proof: Proof) -> (String, Principal) {
        let token = self.sessions.begin(self.user, proof, "").await.unwrap();
        let who = self.who(&token).await;
        (token, who)
    }

    async fn who(&self, text: &str) -> Principal {
        let token = self.sessions.read(text).unwrap();
        self.sessions.recognise(&token).await.unwrap().unwrap()
    }

    async fn issue(&self, principal: &Principal) -> String {
        self.tokens.issue(principal, EMAIL).await.unwrap()
    }

    async fn is_over(&self, token: &str) -> bool {
        let known = self.tokens.recognise(token).await;
        matches!(known, Err(TokenError::Over))
    }

    async fn roles(&self, role: &str) -> Roles {
        let roles = Roles::new([role]).unwrap();
        let _ = self.sessions.set_roles(self.user, &roles).await.unwrap();
        roles
    }
}

async fn token_tells_the_facts_that_the_session_has(bench: Bench) {
    let desk = Desk::of(bench).await;
    desk.roles("staff").await;
    let (_, principal) = desk.begin(BETTER).await;
    let token = desk.issue(&principal).await;
    let other = desk.roles("admin").await;
    let known = desk.tokens.recognise(&token).await.unwrap();
    assert_eq!(known.user(), principal.user());
    assert_eq!(known.session(), principal.session());
    assert_eq!(known.subject(), principal.subject());
    assert_eq!(
        (known.level(), known.methods()),
        (Level::Aal2, Methods::CODE)
    );
    assert_eq!(known.authenticated_at(), principal.authenticated_at());
    assert_eq!(known.life_left(), principal.life_left());
    assert_eq!(known.roles(), &other, "those of now");
}

async fn proof_that_came_later_is_not_the_token_s(bench: Bench) {
    let desk = Desk::of(bench).await;
    let (_, weak) = desk.begin(PROOF).await;
    let token = desk.issue(&weak).await;
    desk.bench.time.advance(Duration::from_secs(60));
    let rotated = desk.sessions.rotate(&weak, BETTER).await.unwrap().unwrap();
    let known = desk.tokens.recognise(&token).await.unwrap();
    assert_eq!(known.level(), Level::Aal1);
    assert_eq!(known.methods(), Methods::default());
    assert_eq!(known.proof_age(), Duration::from_secs(60));
    // Nor does it exchange the session's secret.
    assert_eq!(desk.sessions.rotate(&known, BETTER).await.unwrap(), None);
    assert_eq!(desk.who(&rotated).await.level(), Level::Aal2);
}

async fn session_that_ended_has_no_tokens(bench: Bench) {
    let desk = Desk::of(bench).await;
    let refresh = RefreshTokens::new(desk.sessions.clone(), desk.bench.rows(), keys());
    let begun = refresh.begin(desk.user, PROOF, "phone").await.unwrap();
    let refreshed = refresh.refresh(&begun).await.unwrap().principal;
    let (_, web) = desk.begin(PROOF).await;
    for principal in [refreshed, web] {
        let token = desk.issue(&principal).await;
        desk.tokens.recognise(&token).await.unwrap();
        let which = Which::One(principal.session());
        let revoked = desk.sessions.revoke(desk.user, which, Why::Ordered).await;
        assert_eq!(revoked.unwrap().ended.len(), 1);
        assert!(desk.is_over(&token).await);
        let issued = desk.tokens.issue(&principal, EMAIL).await;
        assert!(matches!(issued, Err(TokenError::Over)), "{issued:?}");
    }
}

async fn token_that_is_over_recognises_nobody(bench: Bench) {
    let desk = Desk::of(bench).await;
    let (_, principal) = desk.begin(PROOF).await;
    let token = desk.issue(&principal).await;
    let life = AccessTokens::DEFAULT_LIFE + AccessTokens::LEEWAY;
    desk.bench.time.advance(life - Duration::from_secs(1));
    desk.tokens.recognise(&token).await.unwrap();
    desk.bench.time.advance(Duration::from_secs(1));
    let known = desk.tokens.recognise(&token).await;
    let expired = matches!(known, Err(TokenError::Refused(Refused::Expired)));
    assert!(expired, "{known:?}");
}

async fn who_has_not_the_session_himself_gets_no_token(bench: Bench) {
    let desk = Desk::of(bench).await;
    let (_, by) = desk.begin(PROOF).await;
    let other = desk.bench.ids.draw(VirtualShard::new(4));
    let policy = Impersonation::by(Guard::logged_in());
    let text = desk.sessions.impersonate(&by, other, &policy).await;
    let acting = desk.who(&text.unwrap()).await;
    let issued = desk.tokens.issue(&acting, EMAIL).await;
    let refused = matches!(issued, Err(TokenError::Auth(AuthError::ActsForUser)));
    assert!(refused, "{issued:?}");

    let token = desk.issue(&by).await;
    let by_token = desk.tokens.recognise(&token).await.unwrap();
    let issued = desk.tokens.issue(&by_token, EMAIL).await;
    assert!(matches!(issued, Err(TokenError::ByToken)), "{issued:?}");
}

async fn tokens_and_keys_that_do_not_go_together_are_refused(bench: Bench) {
    let sessions = || Sessions::builder(bench.rows(), keys(), bench.ids.clone());
    let kept = bench.keep().await;
    let long = tokens().lives(AccessTokens::MAX_LIFE).unwrap();
    let made = SessionTokens::new(sessions().build(), long, kept.clone());
    let refused = matches!(made, Err(SessionTokensError::LivesTooLong { .. }));
    assert!(refused, "{made:?}");
    let elsewhere = sessions().realm(Realm::new(1)).build();
    let made = SessionTokens::new(elsewhere, tokens(), kept);
    assert!(matches!(made, Err(SessionTokensError::Realm)), "{made:?}");
}
