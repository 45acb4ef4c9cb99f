//! Who is let through, and what the others are told.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use maxscale_auth::session::{
    ImpersonateError, Impersonation, Level, Methods, Proof, Roles, Sessions, Which, Why,
};
use maxscale_auth::{
    Aal2, Allowed, AuditEvent, Audited, CookiePolicy, CsrfLayer, Demand, Denied, Fresh, Guard,
    Principal, RequireLayer, SessionLayer, StrongLayer,
};
use maxscale_core::id::Id;
use maxscale_core::refusal::Classify as _;
use tower::{Layer, ServiceExt as _};

use crate::activity::{Desk, PROOF};
use crate::support::{ask, cookie, handler, keys};

const SECOND: Duration = Duration::from_secs(1);
const STRONGER: Proof = Proof {
    level: Level::Aal2,
    methods: Methods::CODE,
};

struct Admin;

impl Demand for Admin {
    fn guard() -> Guard {
        Guard::logged_in().role("admin")
    }
}

impl Desk {
    pub(crate) async fn who(&self, text: &str) -> Option<Principal> {
        let token = self.sessions.read(text)?;
        self.sessions.recognise(&token).await.unwrap()
    }

    /// The user of a new session, who has these roles.
    async fn with_roles(&self, roles: &[&str]) -> (Id, String) {
        let user = self.user();
        let roles = Roles::new(roles.iter().copied()).unwrap();
        let _ = self.sessions.set_roles(user, &roles).await.unwrap();
        (user, self.sessions.begin(user, PROOF, "").await.unwrap())
    }

    /// The same sessions, whose events are kept.
    pub(crate) fn audited(&self) -> (Sessions, Arc<Mutex<Vec<AuditEvent>>>) {
        let events = Arc::<Mutex<Vec<AuditEvent>>>::default();
        let kept = events.clone();
        let sink = move |event: &AuditEvent| kept.lock().unwrap().push(event.clone());
        let builder = Sessions::builder(self.store.clone(), keys(), self.ids.clone());
        let sessions = builder.clock(self.clock.clone()).audit(sink).build();
        (sessions, events)
    }
}

fn missing(guard: &Guard, principal: Option<&Principal>) -> &'static str {
    guard.check(principal).map_or_else(|it| it.code(), |()| "")
}

#[tokio::test]
async fn guard_says_what_is_missing() {
    let desk = Desk::new();
    let (_, token) = desk.with_roles(&["admin", "editor"]).await;
    let any = Guard::logged_in;
    let recent = any().fresh(60 * SECOND);
    assert_eq!(missing(&any(), None), "not_logged_in");
    let young = desk.who(&token).await;
    for (guard, code) in [
        (any(), ""),
        (any().role("editor"), ""),
        (any().role("admin").role("editor"), ""),
        (any().role("admin").role("owner"), "role_required"),
        (any().role("admi"), "role_required"),
        (any().aal2(), "aal2_required"),
        (any().in_person(), ""),
        (recent.clone(), ""),
    ] {
        assert_eq!(missing(&guard, young.as_ref()), code, "{guard:?}");
    }
    desk.time.advance(60 * SECOND);
    assert_eq!(missing(&recent, desk.who(&token).await.as_ref()), "");
    desk.time.advance(SECOND);
    let old = desk.who(&token).await;
    assert_eq!(missing(&recent, old.as_ref()), "fresh_auth_required");

    let exchanged = desk.sessions.rotate(&old.unwrap(), STRONGER).await;
    let exchanged = desk.who(&exchanged.unwrap().unwrap()).await;
    assert_eq!(missing(&recent.aal2(), exchanged.as_ref()), "");
}

#[tokio::test]
async fn exchanged_secret_counts_for_its_grace_at_its_own_level() {
    let desk = Desk::new();
    let token = desk.begin().await;
    desk.time.advance(3_600 * SECOND);
    let before = desk.who(&token).await.unwrap();
    let new = desk.sessions.rotate(&before, STRONGER).await;
    let new = new.unwrap().unwrap();

    let old = desk.who(&token).await.unwrap();
    assert_eq!(old.level(), Level::Aal1);
    assert!(
        Fresh::<60>::check(Some(&old)).is_err(),
        "the proof was of the new one"
    );
    assert!(Aal2::check(Some(&old)).is_err());
    assert!(
        desk.sessions
            .rotate(&old, STRONGER)
            .await
            .unwrap()
            .is_none()
    );
    let now = desk.who(&new).await.unwrap();
    assert_eq!((now.level(), now.methods()), (Level::Aal2, Methods::CODE));
    assert!(Fresh::<60>::check(Some(&now)).is_ok());
    // Of two at once one has won.
    assert!(
        desk.sessions
            .rotate(&before, STRONGER)
            .await
            .unwrap()
            .is_none()
    );

    desk.time.advance(10 * SECOND - Duration::from_micros(1));
    assert!(desk.who(&token).await.is_some());
    desk.time.advance(Duration::from_micros(1));
    assert!(desk.who(&token).await.is_none());
    let now = desk.who(&new).await.unwrap();
    let left = desk.sessions.policy().absolute - 3_610 * SECOND;
    assert_eq!(now.life_left(), left, "an exchange makes no session longer");
}

#[tokio::test]
async fn session_from_before_a_login_is_not_kept() {
    let desk = Desk::new();
    // Planted: the attacker's own, and known to him.
    let planted = desk.begin().await;
    let found = desk.who(&planted).await;
    let victim = desk.user();
    let token = desk.sessions.begin_over(found.as_ref(), victim, PROOF, "");
    let token = token.await.unwrap();

    assert!(desk.who(&planted).await.is_none());
    let principal = desk.who(&token).await.unwrap();
    assert_eq!(principal.user(), victim);
    assert_ne!(principal.session(), found.unwrap().session());
}

#[tokio::test]
async fn layer_answers_with_what_is_missing() {
    let desk = Desk::new();
    let (_, admin) = desk.with_roles(&["admin"]).await;
    let nobody = desk.begin().await;
    let (sessions, events) = desk.audited();
    let layer = SessionLayer::new(sessions, CookiePolicy::new(true));
    let guarded = layer.layer(RequireLayer::new(Admin::guard()).layer(handler()));
    let status = async |request: Request<()>| {
        let answer = guarded.clone().oneshot(request).await.unwrap();
        answer.status()
    };
    assert_eq!(status(cookie(&admin)).await, StatusCode::OK);
    assert_eq!(status(cookie(&nobody)).await, StatusCode::FORBIDDEN);
    assert_eq!(status(Request::new(())).await, StatusCode::UNAUTHORIZED);
    let told: Vec<_> = {
        let events = events.lock().unwrap();
        events.iter().map(|it| (it.user, it.what.clone())).collect()
    };
    let user = desk.who(&nobody).await.unwrap().user();
    let code = "role_required";
    assert_eq!(told, [(Some(user), Audited::Refused { code })]);

    let without = RequireLayer::new(Admin::guard()).layer(handler());
    let answer = without.oneshot(cookie(&admin)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn extractors_of_axum_answer_like_the_layer() {
    let desk = Desk::new();
    let (_, admin) = desk.with_roles(&["admin"]).await;
    let nobody = desk.begin().await;
    desk.time.advance(61 * SECOND);
    let router = Router::new()
        .route("/who", get(async |it: Principal| it.user().to_string()))
        .route(
            "/admin",
            get(async |it: Allowed<Admin>| it.user().to_string()),
        )
        .route("/fresh", get(async |_: Fresh<60>| ""))
        .route("/older", get(async |_: Fresh<61>| ""))
        .route("/aal2", get(async |_: Aal2| ""));
    // As they stand in a service: on routes, and around all of them.
    let policy = CookiePolicy::new(true);
    let app = router
        .clone()
        .route_layer(StrongLayer)
        .route_layer(RequireLayer::new(Guard::default()))
        .route(
            "/perhaps",
            get(async |it: Option<Principal>| it.is_some().to_string()),
        )
        .layer(CsrfLayer::new(policy, []).unwrap())
        .layer(SessionLayer::new(desk.sessions.clone(), policy));
    let answer = async |app: &Router, path: &str, token: &str| {
        let request = Request::get(path).header("cookie", format!("__Host-maxscale={token}"));
        let request = request.body(axum::body::Body::empty()).unwrap();
        let answer = app.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    for (path, token, status, said) in [
        ("/who", &*admin, 200, ""),
        ("/who", "", 401, "not_logged_in"),
        ("/perhaps", &admin, 200, "true"),
        ("/perhaps", "", 200, "false"),
        ("/admin", &admin, 200, ""),
        ("/admin", &nobody, 403, "role_required"),
        ("/admin", "", 401, "not_logged_in"),
        ("/fresh", &admin, 403, "fresh_auth_required"),
        ("/older", &admin, 200, ""),
        ("/aal2", &admin, 403, "aal2_required"),
    ] {
        let (found, body) = answer(&app, path, token).await;
        assert_eq!(found, status, "{path}: {body}");
        assert!(body.contains(said), "{path}: {body}");
    }
    let (status, _) = answer(&router, "/who", &admin).await;
    assert_eq!(status, 500, "without a session layer nobody can say");
}

#[tokio::test]
async fn who_acts_for_another_is_told_and_does_nothing_sensitive() {
    let desk = Desk::new();
    let (helper, token) = desk.with_roles(&["support"]).await;
    let (sessions, events) = desk.audited();
    let user = desk.user();
    // As many as he may have: none of them ends.
    let most = sessions.policy().per_user.get();
    for _ in 0..most {
        sessions.begin(user, PROOF, "").await.unwrap();
    }
    events.lock().unwrap().clear();
    let by = desk.who(&token).await.unwrap();
    let policy = Impersonation::by(Guard::logged_in().role("support")).life(7_200 * SECOND);

    let acting = sessions.impersonate(&by, user, &policy).await.unwrap();
    let acting_as = desk.who(&acting).await.unwrap();
    assert_eq!((acting_as.user(), acting_as.actor()), (user, Some(helper)));
    assert_eq!(acting_as.level(), Level::Aal1);
    assert_eq!(acting_as.life_left(), Impersonation::LONGEST);
    let listed = sessions.list(user).await.unwrap().len();
    assert_eq!(u32::try_from(listed).unwrap(), most + 1);
    for sensitive in [
        Guard::logged_in().in_person(),
        Guard::logged_in().fresh(3_600 * SECOND),
    ] {
        assert_eq!(sensitive.check(Some(&acting_as)), Err(Denied::Actor));
    }
    // Not even to act for a third.
    let anybody = Impersonation::by(Guard::logged_in());
    let third = sessions
        .impersonate(&acting_as, desk.user(), &anybody)
        .await;
    assert!(matches!(
        third,
        Err(ImpersonateError::Denied(Denied::Actor))
    ));
    let plain = desk.who(&desk.begin().await).await.unwrap();
    let refused = sessions.impersonate(&plain, user, &policy).await;
    assert!(matches!(
        refused,
        Err(ImpersonateError::Denied(Denied::Role { .. }))
    ));

    let told: Vec<_> = {
        let events = events.lock().unwrap();
        let told = events.iter().map(|it| (it.user, it.actor, it.what.clone()));
        told.collect()
    };
    let denied = |code| Audited::Refused { code };
    assert_eq!(
        told,
        [
            (Some(user), Some(helper), Audited::Impersonated),
            (Some(user), Some(helper), denied("actor_refused")),
            (Some(plain.user()), None, denied("role_required")),
        ]
    );

    // Used or not, it ends with its time.
    for _ in 0..3 {
        desk.time.advance(600 * SECOND - Duration::from_micros(1));
        assert!(desk.who(&acting).await.is_some());
        desk.sessions.shutdown().await.unwrap();
    }
    desk.time.advance(SECOND);
    assert!(desk.who(&acting).await.is_none());
}

#[tokio::test]
async fn audit_hears_what_happens_to_sessions() {
    let desk = Desk::new();
    let (sessions, events) = desk.audited();
    let user = desk.user();
    let token = sessions.begin(user, PROOF, "").await.unwrap();
    let principal = desk.who(&token).await.unwrap();
    sessions
        .rotate(&principal, STRONGER)
        .await
        .unwrap()
        .unwrap();
    let why = Why::PasswordChanged;
    sessions.revoke(user, Which::All, why).await.unwrap();

    let events = events.lock().unwrap();
    let told: Vec<_> = events.iter().map(|it| it.what.clone()).collect();
    let (level, methods) = (PROOF.level, PROOF.methods);
    let ended = vec![principal.session()];
    assert_eq!(
        told,
        [
            Audited::SessionBegun { level, methods },
            Audited::SessionRotated {
                level: STRONGER.level,
                methods: STRONGER.methods,
            },
            Audited::SessionsRevoked { ended, why },
        ]
    );
    assert!(events.iter().all(|it| it.user == Some(user)));
    let shown = format!("{events:?}");
    assert!(!shown.contains("mxs_"));
}

#[tokio::test]
async fn no_changed_token_reaches_the_store() {
    let desk = Desk::new();
    let token = desk.begin().await;
    let layer = SessionLayer::new(desk.sessions.clone(), CookiePolicy::new(true));
    let before = desk.store.loads();
    for at in 0..token.len() {
        for bit in 0..8 {
            let mut bad = token.clone().into_bytes();
            bad[at] ^= 1 << bit;
            // What is no text is no header either.
            let Ok(bad) = String::from_utf8(bad) else {
                continue;
            };
            let Ok(request) = Request::builder()
                .header("cookie", format!("__Host-maxscale={bad}"))
                .body(())
            else {
                continue;
            };
            let answer = layer.layer(handler()).oneshot(request).await;
            let answer: Result<_, Infallible> = answer;
            assert!(
                answer.unwrap().extensions().get::<Principal>().is_none(),
                "{bad}"
            );
        }
    }
    assert_eq!(desk.store.loads(), before);
    assert!(
        ask(&layer, cookie(&token))
            .await
            .extensions()
            .get::<Principal>()
            .is_some()
    );
    assert_eq!(desk.store.loads(), before + 1);
}
