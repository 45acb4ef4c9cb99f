//! What a login, a list of sessions and an email looked up ask of PostgreSQL, among
//! a million users and among a hundred thousand.
//!
//! The hash of a login is left out: it takes as long with any number of users.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;

use maxscale_auth::session::{Level, Methods, Proof};
use maxscale_auth::{
    Accounts, Client, MIGRATIONS, Mail, Mailer, PasswordPool, PasswordPoolConfig, SignUps,
};
use maxscale_core::BoxError;
use maxscale_core::clock::Clock;
use maxscale_core::id::{Id, IdGenerator};
use maxscale_measure::{Bar, Op, Plan, Report};
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::{Fleet, FleetConfig};
use maxscale_tests::{Database, PostgresServer};
use sqlx::postgres::PgPool;

use super::keys;

/// What a login needs of a user, a table each.
const TABLES: [&str; 4] = ["ms_user", "ms_session_user", "ms_session", "ms_claim"];

/// The users that are asked for, in turn: enough to be on pages of their own.
const KNOWN: u32 = 2_048;

const BY_PASSWORD: Proof = Proof {
    level: Level::Aal1,
    methods: Methods::PASSWORD,
};

const HERE: Client<'static> = Client::new("192.0.2.1");

/// Nobody reads mails here.
struct NoMail;

/// A node full of users.
struct Crowd {
    accounts: Accounts,
    known: Arc<[(Id, String)]>,
    _fleet: Fleet,
    _database: Database,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
enum Question {
    LogIn,
    Sessions,
    Email,
}

pub(crate) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let name = "auth.lookup_1m_vs_100k";
    let known = plan.pick(KNOWN, 64);
    let many = Crowd::gather(plan.pick(1_000_000, 10_000), known).await?;
    let few = Crowd::gather(plan.pick(100_000, 1_000), known).await?;
    let mut worst = 0_f64;
    for question in [Question::LogIn, Question::Sessions, Question::Email] {
        let mut rounds = plan.compare();
        // What may be threefold needs no interval of a hundredth.
        for _ in 0..plan.pick(25, 3) {
            let many = |count| many.ask(question, count);
            let few = |count| few.ask(question, count);
            rounds.round(many, few).await?;
        }
        let cost = rounds.cost();
        report.note(&format!("{name}: {question:?} {:.3}, {cost}", cost.value));
        worst = worst.max(cost.value);
    }
    report.bar(Bar {
        name,
        measured: worst,
        op: Op::AtMost,
        target: 3.0,
    });
    Ok(())
}

impl Mailer for NoMail {
    type Error = Infallible;

    async fn send(&self, _mail: &Mail) -> Result<(), Infallible> {
        Ok(())
    }
}

// === impl Crowd ===

impl Crowd {
    /// A database with `count` users, and `known` ones besides.
    async fn gather(count: u32, known: u32) -> Result<Self, BoxError> {
        let database = PostgresServer::shared().await.database().await;
        let node = NodeSpec::parse(&database.url(), 1)?;
        let fleet = Fleet::open(FleetConfig::new(vec![node]).migrations(MIGRATIONS)).await?;
        let router = fleet.router().clone();
        let ids = Arc::new(IdGenerator::new(Clock::system(), router.keyspace()));
        let known: Arc<[_]> = (0..known)
            .map(|n| {
                let id = ids.draw_anywhere(router.shards());
                (id, format!("known-{n}@example.com"))
            })
            .collect();
        let passwords = PasswordPool::new(PasswordPoolConfig::default()).await?;
        let accounts = Accounts::builder(router, ids, keys()?, passwords)
            .base_url("https://app.example")
            .mailer(NoMail)
            .sign_ups(SignUps::Open)
            .build()?;
        let this = Self {
            accounts,
            known,
            _fleet: fleet,
            _database: database,
        };
        this.fill(count).await?;
        Ok(this)
    }

    async fn fill(&self, count: u32) -> Result<(), BoxError> {
        let model =
            self.accounts
                .sign_up("model@example.com", "correct horse battery", "Model", &HERE);
        model.await?;
        let pool = PgPool::connect(&self._database.url()).await?;
        for table in TABLES {
            let others = "SELECT n % 1024 AS shard, md5(n::text)::uuid AS id
                          FROM generate_series(1, $1) AS n";
            let copies = copies(table, others);
            let copies = sqlx::query(sqlx::AssertSqlSafe(copies)).bind(i64::from(count));
            copies.execute(&pool).await?;
        }
        let (shards, ids): (Vec<i64>, Vec<_>) = (self.known.iter())
            .map(|(id, _)| (id.shard().as_i64(), id.as_uuid()))
            .unzip();
        let known = "SELECT * FROM unnest($1::bigint[], $2::uuid[]) AS known (shard, id)";
        let copies = copies("ms_user", known);
        let copies = sqlx::query(sqlx::AssertSqlSafe(copies))
            .bind(shards)
            .bind(ids);
        copies.execute(&pool).await?;
        for (id, email) in self.known.iter() {
            let claim = self.accounts.emails().reserve(email, *id).await?;
            self.accounts.emails().confirm(&claim).await?;
            (self.accounts.sessions())
                .begin(*id, BY_PASSWORD, "")
                .await?;
        }
        sqlx::query("VACUUM ANALYZE").execute(&pool).await?;
        pool.close().await;
        Ok(())
    }

    fn ask(
        &self,
        question: Question,
        count: u32,
    ) -> impl Future<Output = Result<(), BoxError>> + Send + 'static {
        let (accounts, known) = (self.accounts.clone(), self.known.clone());
        async move {
            for (id, email) in known.iter().cycle().take(count as usize) {
                match question {
                    Question::LogIn => {
                        let found = accounts.emails().find(email).await?.ok_or("no email")?;
                        black_box(accounts.user(found).await?.ok_or("no user")?);
                        let begun = accounts.sessions().begin(found, BY_PASSWORD, "");
                        black_box(begun.await?);
                    }
                    Question::Sessions => {
                        let listed = accounts.sessions().list(*id).await?;
                        black_box(listed.first().ok_or("no session")?);
                    }
                    Question::Email => {
                        black_box(accounts.emails().find(email).await?.ok_or("no email")?);
                    }
                }
            }
            Ok(())
        }
    }
}

/// Copies the first row of `table` once for each shard and id of `others`. Of the
/// names below a table takes those that it has.
fn copies(table: &str, others: &str) -> String {
    format!(
        "INSERT INTO {table} SELECT copy.*
         FROM (SELECT it AS model FROM {table} AS it LIMIT 1) AS one,
              ({others}) AS other,
              LATERAL jsonb_populate_record(one.model, jsonb_build_object(
                  'shard_id', other.shard, 'user_id', other.id, 'session_id', other.id,
                  'owner', other.id, 'token', other.id,
                  'value_hash', sha256(other.id::text::bytea))) AS copy"
    )
}
