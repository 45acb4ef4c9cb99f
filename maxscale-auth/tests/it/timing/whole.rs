//! What a whole login or sign-up tells, through its route: its time, status, headers and
//! body, each of an account that nobody asked about before.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use http::{Request, header};
use http_body_util::BodyExt as _;
use maxscale_auth::password::OlderHashes;
use maxscale_auth::{Accounts, PasswordPool, PasswordPoolConfig};
use maxscale_shard::{Engine, sql};
use serde_json::json;
use tokio::time::Instant;
use tower::ServiceExt as _;

use super::{ALONE, ARGON2, BY_2_000, Times, WARM, WRONG, all_within, assert_alike};
use crate::letters::build;
use crate::routes::router;
use crate::support::{Bench, LIMIT};

/// Of a password that nobody knows, and checked in a twentieth of the time of `ARGON2`.
const BCRYPT_4: &str = "$2b$04$s35aummpv/VuhfMEcJ9Ff.ng96QDr9tQTT0sX7Fxk2URc224qXHu6";

const KINDS: [&str; 5] = ["unknown", "argon2", "bcrypt", "unverified", "locked"];

/// What a stranger does with an address.
#[derive(Clone, Copy, Debug)]
enum Flow {
    LogIn,
    SignUp,
}

struct Stranger {
    bench: Bench,
    accounts: Accounts,
    router: Router,
    flow: Flow,
    /// The accounts of each kind that were asked about.
    next: [AtomicUsize; KINDS.len()],
    /// All answers, but for their times.
    seen: Mutex<BTreeSet<String>>,
}

// === impl Stranger ===

impl Stranger {
    async fn new(flow: Flow) -> Self {
        let bench = Bench::new(Engine::Postgres).await;
        let mut config = PasswordPoolConfig::default();
        config.wait = LIMIT;
        // None waits for another, which would hide what each takes.
        config.threads = 4;
        config.older = Some(OlderHashes::bcrypt(4));
        let pool = PasswordPool::new(config).await.unwrap();
        let (ids, keys) = (bench.ids.clone(), bench.keys.clone());
        let builder = Accounts::builder(bench.router().clone(), ids, keys, pool);
        let accounts = build(builder.clock(bench.clock.clone()), &bench.letters);
        Self {
            router: router(accounts.clone()),
            bench,
            accounts,
            flow,
            next: Default::default(),
            seen: Mutex::default(),
        }
    }

    /// Makes accounts of each kind.
    async fn prepare(&self, numbers: Range<usize>) {
        let of = |kind| {
            let numbers = numbers.clone();
            Box::pin(async move {
                for number in numbers {
                    self.account(kind, &email(kind, number)).await;
                }
            })
        };
        tokio::join!(of(1), of(2), of(3), of(4));
    }

    /// Makes the database take its time for a new account, as under load: what a
    /// sign-up does is else small beside its hash.
    async fn write_slowly(&self) {
        let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
                    'BEGIN PERFORM pg_sleep(0.03); RETURN NEW; END'";
        self.bench.everywhere(slow).await;
        let trigger = "CREATE TRIGGER slow BEFORE INSERT ON ms_user
                       FOR EACH ROW EXECUTE FUNCTION slow()";
        self.bench.everywhere(trigger).await;
    }

    async fn account(&self, kind: usize, email: &str) {
        let (hash, status, verified) = match KINDS[kind] {
            "bcrypt" => (BCRYPT_4, 0, true),
            "unverified" => ("", 0, false),
            "locked" => (ARGON2, 1, true),
            _ => (ARGON2, 0, true),
        };
        let id = self.bench.ids.draw_anywhere(16);
        let emails = self.accounts.emails();
        let claim = emails.reserve(email, id).await.unwrap();
        let insert = sql(
            "INSERT INTO ms_user (shard_id, user_id, email, name, created_at,
                                  password_hash, status, email_verified_at)
             VALUES ($1, $2, $3, 'Ada', 1, $4, $5, $6)",
        );
        let insert = insert.bind(id.shard()).bind(id).bind(email);
        let insert = insert
            .bind(hash)
            .bind(status)
            .bind(verified.then_some(1_i64));
        let shard = self.bench.router().shard(id).unwrap();
        let mut tx = shard.begin().await.unwrap();
        tx.execute(insert).await.unwrap();
        emails.write_in(&mut tx, &claim).await.unwrap();
        tx.commit().await.unwrap();
        emails.confirm(&claim).await.unwrap();
    }

    /// The seconds until a stranger has the answer about one more account.
    async fn ask(&self, kind: usize) -> f64 {
        let number = self.next[kind].fetch_add(1, Ordering::SeqCst);
        let email = email(kind, number);
        let (path, body) = match self.flow {
            Flow::LogIn => ("/auth/login", json!({ "email": email, "password": WRONG })),
            Flow::SignUp => (
                "/auth/signup",
                json!({ "email": email, "password": WRONG, "name": "Eve" }),
            ),
        };
        let request = Request::post(path)
            .header("sec-fetch-site", "same-origin")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()));
        let begun = Instant::now();
        let answer = self.router.clone().oneshot(request.unwrap()).await;
        let (head, body) = answer.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let took = begun.elapsed().as_secs_f64();
        let seen = format!("{} {:?} {body:?}", head.status, head.headers);
        self.seen.lock().unwrap().insert(seen);
        took
    }

    async fn warm(&self) -> Times<5> {
        Times::warm(KINDS, async |kind| self.ask(kind).await).await
    }

    /// That all answers were one and the same, and this one.
    fn assert_one_answer(&self) {
        let seen = self.seen.lock().unwrap();
        let status = match self.flow {
            Flow::LogIn => "401",
            Flow::SignUp => "202",
        };
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert!(seen.iter().all(|it| it.starts_with(status)), "{seen:?}");
    }
}

fn email(kind: usize, number: usize) -> String {
    format!("{kind}-{number:06}@example.org")
}

async fn assert_nothing_tells(flow: Flow) {
    let _alone = ALONE.lock().await;
    let stranger = Stranger::new(flow).await;
    stranger.prepare(0..WARM + 600).await;
    stranger.write_slowly().await;
    let mut times = stranger.warm().await;
    assert_alike(&mut times, async |kind| stranger.ask(kind).await).await;
    stranger.assert_one_answer();
}

async fn assert_two_thousand_tell_nothing(flow: Flow) {
    let _alone = ALONE.lock().await;
    let stranger = Stranger::new(flow).await;
    stranger.prepare(0..WARM + 2_000).await;
    let mut times = stranger.warm().await;
    times
        .take(2_000, async |kind| stranger.ask(kind).await)
        .await;
    stranger.assert_one_answer();
    let pairs = times.pairs();
    assert!(all_within(&pairs, &BY_2_000), "{pairs:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn login_tells_nothing_of_the_account() {
    assert_nothing_tells(Flow::LogIn).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sign_up_tells_nothing_of_the_account() {
    assert_nothing_tells(Flow::SignUp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "10,000 logins take minutes; CONTRIBUTING.md has the command"]
async fn login_tells_nothing_in_two_thousand_samples_either() {
    assert_two_thousand_tell_nothing(Flow::LogIn).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "10,000 sign-ups take minutes; CONTRIBUTING.md has the command"]
async fn sign_up_tells_nothing_in_two_thousand_samples_either() {
    assert_two_thousand_tell_nothing(Flow::SignUp).await;
}
