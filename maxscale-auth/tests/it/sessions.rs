use std::time::Duration;

use http::{Request, StatusCode, header};
use maxscale_auth::Principal;
use maxscale_auth::session::{SessionPolicy, SessionStore, Touch, Which, Why};
use maxscale_core::fact::Subject;
use maxscale_core::id::Id;
use maxscale_shard::{Engine, Sql};

use crate::failing::Failing;
use crate::support::{Bench, Handled, PASSWORD, ask, authorization, cookie};

on_both!(
    cookie_and_bearer_token_say_who_asks,
    forged_token_costs_no_statement,
    revoked_session_is_nobody,
    stored_hash_decides,
    idle_session_ends,
    used_session_goes_on_to_its_absolute_end,
    row_hears_of_a_last_request_once_an_hour,
);

const DAY: Duration = Duration::from_secs(24 * 3600);
const SECOND: Duration = Duration::from_secs(1);
/// How far a row may lag behind.
const HOUR: Duration = Duration::from_secs(3600);

fn policy() -> SessionPolicy {
    SessionPolicy::default()
}

async fn ada(bench: &Bench) -> (Id, String) {
    let ada = bench
        .accounts
        .sign_up("ada@example.org", PASSWORD, "Ada")
        .await
        .unwrap();
    (ada.user.id, ada.token)
}

async fn cookie_and_bearer_token_say_who_asks(bench: Bench) {
    let (id, token) = ada(&bench).await;
    for request in [
        cookie(&token),
        authorization(&format!("Bearer {token}")),
        // The scheme's case does not matter (RFC 9110).
        authorization(&format!("bearer {token}")),
    ] {
        let response = ask(&bench.layer(), request).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.extensions().get::<Principal>().unwrap().user(), id);
        let subject = response.extensions().get::<Subject>().unwrap();
        assert_eq!(subject.as_str(), id.to_string());
    }
}

async fn forged_token_costs_no_statement(bench: Bench) {
    let (_, token) = ada(&bench).await;
    let layer = bench.layer_on(Failing::Untouchable);
    let mut flipped = token.clone().into_bytes();
    flipped[50] = if flipped[50] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    let short = &token[..token.len() - 1];

    for request in [
        Request::new(()),
        cookie(""),
        cookie(&flipped),
        cookie(short),
        authorization(&format!("Bearer {flipped}")),
        authorization("Bearer "),
        authorization("Basic YWRhOmhlbGxv"),
    ] {
        let response = ask(&layer, request).await;
        assert!(response.extensions().get::<Handled>().is_some());
        assert!(response.extensions().get::<Principal>().is_none());
        assert!(response.extensions().get::<Subject>().is_none());
    }
}

async fn revoked_session_is_nobody(bench: Bench) {
    let (id, token) = ada(&bench).await;
    let principal = bench.who(&token).await.unwrap();
    let sessions = bench.accounts.sessions();

    let which = Which::One(principal.session());
    let revoked = sessions.revoke(id, which, Why::LoggedOut).await.unwrap();
    assert_eq!(revoked.ended, [principal.session()]);

    let response = ask(&bench.layer(), cookie(&token)).await;
    assert!(response.extensions().get::<Handled>().is_some());
    assert!(response.extensions().get::<Principal>().is_none());
    assert!(response.extensions().get::<Subject>().is_none());
    let again = sessions.revoke(id, which, Why::LoggedOut).await.unwrap();
    assert!(again.ended.is_empty());
    // Nothing brings it back.
    let touch = Touch {
        user: id,
        session: principal.session(),
        at: bench.clock.now().after(DAY),
    };
    bench.rows().touch(&[touch]).await.unwrap();
    let loaded = bench.rows().load(id, principal.session()).await.unwrap();
    assert_eq!(loaded, None);
}

async fn stored_hash_decides(bench: Bench) {
    let (_, token) = ada(&bench).await;
    let other = Sql::both("UPDATE ms_session SET secret_hash = $1").statement();
    for node in bench.router().nodes().iter() {
        node.database()
            .execute(other.clone().bind(vec![0; 32]))
            .await
            .unwrap();
    }

    assert_eq!(bench.who(&token).await, None);
}

async fn idle_session_ends(bench: Bench) {
    let (_, token) = ada(&bench).await;

    bench.time.advance(policy().idle - SECOND);
    assert!(bench.who(&token).await.is_some());
    bench.time.advance(policy().idle);
    assert_eq!(bench.who(&token).await, None);
}

async fn used_session_goes_on_to_its_absolute_end(bench: Bench) {
    let (_, token) = ada(&bench).await;
    let mut age = Duration::ZERO;
    while age + 20 * DAY < policy().absolute {
        bench.time.advance(20 * DAY);
        age += 20 * DAY;
        assert!(bench.who(&token).await.is_some(), "{age:?}");
    }

    bench.time.advance(policy().absolute - age - SECOND);
    assert!(bench.who(&token).await.is_some());
    bench.time.advance(SECOND);
    assert_eq!(bench.who(&token).await, None);
}

async fn row_hears_of_a_last_request_once_an_hour(bench: Bench) {
    let (id, token) = ada(&bench).await;
    let session = bench.who(&token).await.unwrap().session();
    let began = bench.clock.now();
    let last_seen = async || {
        let stored = bench.rows().load(id, session).await;
        stored.unwrap().unwrap().0.last_active
    };

    bench.time.advance(HOUR - SECOND);
    bench.who(&token).await.unwrap();
    assert_eq!(last_seen().await, began);
    bench.time.advance(SECOND);
    bench.who(&token).await.unwrap();
    assert_eq!(last_seen().await, began.after(HOUR));
}

#[tokio::test]
async fn store_that_is_down_logs_nobody_out() {
    let bench = Bench::new(Engine::Sqlite).await;
    let (_, token) = ada(&bench).await;

    let response = ask(&bench.layer_on(Failing::Down), cookie(&token)).await;

    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "application/problem+json"
    );
    assert!(!response.headers().contains_key(header::SET_COOKIE));
    assert!(response.extensions().get::<Handled>().is_none());
}

#[tokio::test]
async fn store_that_takes_no_writes_still_says_who_asks() {
    let bench = Bench::new(Engine::Sqlite).await;
    let (id, token) = ada(&bench).await;
    bench.time.advance(DAY);

    let response = ask(
        &bench.layer_on(Failing::Reads(bench.rows())),
        cookie(&token),
    )
    .await;

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.extensions().get::<Principal>().unwrap().user(), id);
}
