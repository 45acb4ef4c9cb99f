//! Access tokens by EdDSA, verified by us and by jsonwebtoken.
//!
//! Both look at the header, at the signature, at who issued it for whom, and at its times,
//! and read all claims. Theirs is not asked to choose a key; ours does, by the header.

use std::hint::black_box;
use std::sync::Arc;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm as TheirAlgorithm, DecodingKey, Validation, decode};
use maxscale_auth::jwt::{AccessTokens, Algorithm, Claims, KeyState, Keys, SigningKey};
use maxscale_auth::session::{Level, Roles};
use maxscale_core::BoxError;
use maxscale_core::clock::Clock;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::{IdGenerator, KeyspaceTag};
use maxscale_core::keys::Secret;
use maxscale_measure::{Bar, Op, Plan, Report};
use serde::Deserialize;
use uuid::Uuid;

use super::USERS;

const ISSUER: &str = "https://bench.example";
const AUDIENCE: &str = "bench";

/// What both verify.
struct Tokens {
    format: AccessTokens,
    keys: Keys,
    their_key: DecodingKey,
    their_checks: Validation,
    texts: Vec<String>,
}

/// What ours say.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "read, as ours are")]
struct TheirClaims {
    iss: String,
    aud: String,
    sub: String,
    user_id: String,
    email: String,
    roles: Vec<String>,
    session_id: String,
    epoch: u64,
    aal: u8,
    auth_time: i64,
    jti: String,
    iat: i64,
    exp: i64,
}

pub(super) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let name = "auth.jwt_verify_vs_jsonwebtoken";
    let tokens = Arc::new(Tokens::new()?);
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let (by_us, by_them) = (tokens.clone(), tokens.clone());
        let ours = move |count| {
            let tokens = by_us.clone();
            async move { tokens.ours(count) }
        };
        let theirs = move |count| {
            let tokens = by_them.clone();
            async move { tokens.theirs(count) }
        };
        rounds.round(ours, theirs).await?;
    }
    let speed = rounds.speed();
    report.note(&format!("{name}: {speed}, EdDSA"));
    report.bar(Bar {
        name,
        measured: speed.value,
        op: Op::AtLeast,
        target: 0.9,
    });
    Ok(())
}

// === impl Tokens ===

impl Tokens {
    fn new() -> Result<Self, BoxError> {
        let format = AccessTokens::new(ISSUER, AUDIENCE)?;
        let key = SigningKey::random(Algorithm::EdDsa)?;
        let keys = Keys::new([(key, KeyState::Active)])?;
        let published: JwkSet = serde_json::from_str(&keys.jwks())?;
        let published = published.keys.first().ok_or("no key is published")?;
        let mut their_checks = Validation::new(TheirAlgorithm::EdDSA);
        their_checks.leeway = AccessTokens::LEEWAY.as_secs();
        their_checks.validate_nbf = true;
        their_checks.set_issuer(&[ISSUER]);
        their_checks.set_audience(&[AUDIENCE]);
        their_checks.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let clock = Clock::system();
        let ids = IdGenerator::new(clock.clone(), KeyspaceTag::default());
        let mut texts = Vec::new();
        for n in 0..USERS {
            let (now, user) = (clock.now(), ids.draw(VirtualShard::new(3)));
            let claims = Claims {
                user,
                email: format!("user-{n}@bench.example"),
                roles: Roles::new(["editor", "staff"]).ok_or("no roles")?,
                session: ids.draw(VirtualShard::new(3)),
                epoch: 1,
                level: Level::Aal1,
                authenticated_at: now,
                token: Uuid::from_bytes(Secret::random()?),
                issued_at: now,
                expires_at: now.after(format.life()),
            };
            texts.push(format.issue(&claims, &keys)?);
        }
        Ok(Self {
            format,
            their_key: DecodingKey::from_jwk(published)?,
            keys,
            their_checks,
            texts,
        })
    }

    fn texts(&self, count: u32) -> impl Iterator<Item = &String> {
        self.texts.iter().cycle().take(count as usize)
    }

    fn ours(&self, count: u32) -> Result<(), BoxError> {
        let clock = Clock::system();
        for text in self.texts(count) {
            black_box(self.format.verify(text, &self.keys, clock.now())?);
        }
        Ok(())
    }

    fn theirs(&self, count: u32) -> Result<(), BoxError> {
        for text in self.texts(count) {
            let read = decode::<TheirClaims>(text, &self.their_key, &self.their_checks)?;
            if read.header.typ.as_deref() != Some("at+jwt") {
                return Err("another type".into());
            }
            black_box(read.claims);
        }
        Ok(())
    }
}
