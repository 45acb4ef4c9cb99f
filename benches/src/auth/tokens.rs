//! What it costs to know who brings an access token that was verified before, against
//! verifying it each time.

use std::hint::black_box;
use std::sync::Arc;

use maxscale_auth::jwt::{AccessTokens, Keys, Rotation, SessionTokens, SigningKeys};
use maxscale_auth::session::{Level, Methods, Proof, SqlSessions};
use maxscale_auth::{MIGRATIONS, Sessions};
use maxscale_cache::Hub;
use maxscale_core::BoxError;
use maxscale_core::clock::Clock;
use maxscale_core::id::IdGenerator;
use maxscale_measure::{Bar, Op, Plan, Report};
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::{Fleet, FleetConfig};

use super::keys;

/// Few enough that their rows, which are read once a second, are not what is measured.
const USERS: usize = 64;

const PROOF: Proof = Proof {
    level: Level::Aal1,
    methods: Methods::PASSWORD,
};

/// Tokens, and what knows them.
#[derive(Clone)]
struct Desk {
    format: AccessTokens,
    keys: Keys,
    tokens: SessionTokens,
    texts: Arc<[String]>,
}

pub(super) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let name = "auth.jwt_cached_vs_verify";
    let rows = tempfile::tempdir()?;
    let node = NodeSpec::parse(&format!("sqlite:{}/rows.db", rows.path().display()), 1)?;
    let fleet = Fleet::open(FleetConfig::new(vec![node]).migrations(MIGRATIONS)).await?;
    let desk = Desk::new(&fleet).await?;
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let ours = |count| desk.clone().recognise(count);
        let theirs = |count| desk.clone().verify(count);
        rounds.round(ours, theirs).await?;
    }
    let speed = rounds.speed();
    report.note(&format!("{name}: {speed}, EdDSA"));
    report.bar(Bar {
        name,
        measured: speed.value,
        op: Op::AtLeast,
        target: 10.0,
    });
    Ok(())
}

// === impl Desk ===

impl Desk {
    async fn new(fleet: &Fleet) -> Result<Self, BoxError> {
        let router = fleet.router();
        let ids = Arc::new(IdGenerator::new(Clock::system(), router.keyspace()));
        let rows = SqlSessions::new(router.clone(), Clock::system());
        let sessions = Sessions::builder(rows, keys()?, ids.clone()).near(&Hub::builder().build());
        let sessions = sessions.build();
        let format = AccessTokens::new("https://bench.example", "bench")?;
        let rotation = Rotation::new(
            Rotation::DEFAULT_EVERY,
            Rotation::DEFAULT_SEEN_WITHIN,
            format.life(),
        )?;
        let signing = SigningKeys::builder(router.clone(), keys()?, rotation);
        let signing = signing.open().await?;
        let tokens = SessionTokens::new(sessions.clone(), format.clone(), signing.clone())?;
        let mut texts = Vec::new();
        for n in 0..USERS {
            let user = ids.draw_anywhere(router.shards());
            let session = sessions.begin(user, PROOF, "").await?;
            let session = sessions.read(&session).ok_or("a token that is not read")?;
            let principal = sessions.recognise(&session).await?.ok_or("nobody")?;
            let email = format!("user-{n}@bench.example");
            texts.push(tokens.issue(&principal, &email).await?);
        }
        Ok(Self {
            format,
            keys: signing.keys(),
            tokens,
            texts: texts.into(),
        })
    }

    /// Who has them, with all that their sessions say.
    async fn recognise(self, count: u32) -> Result<(), BoxError> {
        for text in self.texts.iter().cycle().take(count as usize) {
            black_box(self.tokens.recognise(text).await?);
        }
        Ok(())
    }

    /// What they say.
    async fn verify(self, count: u32) -> Result<(), BoxError> {
        let clock = Clock::system();
        for text in self.texts.iter().cycle().take(count as usize) {
            black_box(self.format.verify(text, &self.keys, clock.now())?);
        }
        Ok(())
    }
}
