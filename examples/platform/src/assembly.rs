//! Puts the parts together, in the order in which they need each other.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use maxscale_auth::{
    Accounts, CookiePolicy, Mail, Outbox, PasswordPool, PasswordPoolConfig, SessionLayer, SignUps,
};
use maxscale_cache::Hub;
use maxscale_cache::http::HttpCache;
use maxscale_cache::remote::RedisRemote;
use maxscale_core::clock::Clock;
use maxscale_core::fact::RegionId;
use maxscale_core::health::Health;
use maxscale_core::id::IdGenerator;
use maxscale_core::keys::{KeyRing, Keys};
use maxscale_core::limit::{Attempts, Limits, LocalLimits, RedisLimits};
use maxscale_core::meter::Meter;
use maxscale_core::meter::span::Sampler;
use maxscale_core::redis::{RedisHandles, Role};
use maxscale_queue::{Queue, Worker};
use maxscale_shard::fleet::{ChangeError, FleetError, Migrate, NodeSpec, Waves};
use maxscale_shard::layer::{FreshnessCookie, FreshnessLayer};
use maxscale_shard::residency::Residency;
use maxscale_shard::telemetry::Telemetry;
use maxscale_shard::{Claims, Fleet, FleetConfig, Recovering, Recovery, Router, Tx};
use tokio::task::JoinHandle;

use crate::checks;
use crate::folder::DataFolder;
use crate::forget::Forgetter;
use crate::http::{App, Parts};
use crate::keyring::Keyring;
use crate::limiting::{Limiting, Rates};
use crate::measure::Measurer;
use crate::newest::Newest;
use crate::objects::Objects;
use crate::profile::Profiles;
use crate::project::Projects;
use crate::reads::LIVES;
use crate::redis;
use crate::settings::{EMBEDDED_NODES, Settings};
use crate::start::StartError;
use crate::sweep;
use crate::track::Tracks;

/// The platform, assembled, without its listeners.
#[derive(Debug)]
pub struct Platform {
    /// What handlers work with.
    pub app: App,
    /// Recognises sessions.
    pub sessions: SessionLayer,
    /// Carries what a user has written and seen from request to request.
    pub freshness: FreshnessLayer,
    /// Finds the shard of a user.
    pub router: Router,
    /// Limits, shared through Redis if there is one.
    pub limits: Limits,
    /// Who is limited by what.
    pub limiting: Limiting,
    /// Which traces that begin here are recorded.
    pub sampler: Sampler,
    /// The checks behind `/readyz` and `/health`.
    pub health: Health,
    fleet: Fleet,
    worker: Option<Worker>,
    redis: RedisHandles,
    sweeper: JoinHandle<()>,
    recovering: Recovering,
    // Held to the end: another process may take the folder only then.
    folder: Option<DataFolder>,
}

// === impl Platform ===

impl Platform {
    /// Opens and connects everything that `settings` name.
    ///
    /// # Errors
    ///
    /// Returns [`StartError`]. Redis or a node that is down is none: it is used
    /// once it is there.
    pub async fn assemble(
        settings: &Settings,
        meter: &Meter,
        sampler: Sampler,
    ) -> Result<Self, StartError> {
        let clock = Clock::system();
        check(settings)?;
        let keyring = Keyring::new(settings.secret.as_ref(), &settings.other_secrets)?;
        let rates = Rates::of(settings)?;
        let redis = redis::table(settings)?;

        let telemetry = Telemetry::new().meter(meter);
        let (folder, fleet) = open_fleet(settings, migrate_mode(settings), &telemetry).await?;
        let keys = Arc::new(keyring.open(&fleet).await?);
        let redis = redis.open(&redis::ROLES);
        // One page asks all nodes, and nothing else may.
        let newest = Newest::new(fleet.router().clone(), Keys::new(KeyRing::clone(&keys)));
        let router = fleet.router().deny_scatter();
        let ids = IdGenerator::new(clock.clone(), router.keyspace()).measured(meter);
        let ids = Arc::new(ids);
        let objects = objects_of(settings, &fleet, &ids).await?;

        let hub = hub(&redis, meter);
        let (limits, shared) = limits(&redis, &keys, clock.clone());
        let limiting = Limiting::new(rates, limits.clone(), shared, meter)?;
        let attempts = attempts(&limits, meter)?;
        let accounts = accounts(&router, &ids, &keys, attempts).await?;
        let queue = Queue::new(router.clone(), ids.clone());
        let tracks = Tracks::new(router.clone(), queue.clone(), ids.clone(), clock.clone());
        let cookie = CookiePolicy::new(settings.tls);
        let app = App::new(Parts {
            profiles: Profiles::new(accounts.clone(), router.clone(), queue.clone(), &hub),
            projects: Projects::new(ids, clock.clone(), &hub),
            newest,
            pages: HttpCache::builder(&hub, "page")
                .l2_ttl(LIVES)
                .meter(meter)
                .build(),
            tracks: tracks.clone(),
            queue: queue.clone(),
            objects: objects.clone(),
            cookie,
            secure: settings.tls,
            upload_limit: settings.upload_limit,
            accounts: accounts.clone(),
        });
        let measurer = Measurer {
            router: fleet.router().clone(),
            tracks: tracks.clone(),
            objects: objects.clone(),
        };
        let health = checks::health(&fleet, &redis, &objects, &queue, &hub, meter);
        let worker = worker(
            settings,
            queue,
            (measurer, Forgetter { hub }),
            meter,
            sampler,
        )?;
        Ok(Self {
            sessions: SessionLayer::new(accounts.sessions().clone(), cookie),
            freshness: freshness(settings, &keys, clock.clone()),
            limits,
            limiting,
            health,
            recovering: recover(&router, &accounts, meter),
            sweeper: tokio::spawn(sweep::run(
                objects,
                tracks,
                clock,
                settings.upload_deadline(),
            )),
            app,
            sampler,
            router,
            fleet,
            worker,
            redis,
            folder,
        })
    }

    /// Closes what was opened.
    pub async fn close(self) {
        self.sweeper.abort();
        // What its passes leave half-way is found by the next process's.
        drop(self.recovering);
        self.health.shutdown();
        self.redis.close().await;
        self.fleet.close().await;
        drop(self.folder);
    }

    /// Takes the worker out, so that it can end while requests still run.
    pub const fn take_worker(&mut self) -> Option<Worker> {
        self.worker.take()
    }
}

/// Drops all mails: accounts are open at once, and nothing else needs one.
struct NoMail;

impl Outbox for NoMail {
    type Error = Infallible;

    async fn put(&self, _: &mut Tx, _: Mail) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Ends what a crash left half-way of a sign-up, also if nobody asks for the email.
fn recover(router: &Router, accounts: &Accounts, meter: &Meter) -> Recovering {
    Recovery::new(router.clone())
        .claims(accounts.emails().clone())
        .every(Claims::DEFAULT_LEASE)
        .meter(meter)
        .start()
}

/// What an operator may do about migrations.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "the program names each")]
pub enum MigrateCommand {
    /// Run what is pending, in these waves.
    Run(Waves),
    /// Tell what would run in these waves.
    Plan(Waves),
    /// Tell what was changed past the migrations.
    Drift,
    /// Take what is there as what the migrations made.
    AcceptDrift,
}

/// Does what `command` says and nothing else; gives what there is to tell.
///
/// # Errors
///
/// Returns [`StartError`], also for drift; [`StartError::report`] tells more.
pub async fn migrate(settings: &Settings, command: MigrateCommand) -> Result<String, StartError> {
    let telemetry = Telemetry::new();
    match command {
        MigrateCommand::Run(waves) => {
            let (_folder, config) = fleet_config(settings, true)?;
            let rollout = Box::pin(Fleet::migrate(config, &waves)).await?;
            Ok(rollout.to_string())
        }
        MigrateCommand::Plan(waves) => {
            let (_, config) = fleet_config(settings, false)?;
            Ok(Fleet::plan(config, &waves).await?.to_string())
        }
        MigrateCommand::Drift => {
            let (_folder, fleet) = open_fleet(settings, Migrate::Check, &telemetry).await?;
            let report = fleet.drift().await;
            fleet.close().await;
            if report.is_clean() {
                Ok("every table is as its migrations made it".to_owned())
            } else {
                Err(StartError::Drift(report))
            }
        }
        MigrateCommand::AcceptDrift => {
            let (_folder, fleet) = open_fleet(settings, Migrate::Check, &telemetry).await?;
            let accepted = fleet.accept_drift().await;
            fleet.close().await;
            accepted.map_err(FleetError::from)?;
            Ok("every table is taken as its migrations made it".to_owned())
        }
    }
}

/// What an operator may do about the shard map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the program names each")]
pub enum MapCommand {
    /// Nothing but look.
    Show,
    /// Put the map in use into the catalog again, above every epoch.
    Lift,
}

/// Does what `command` says; gives the map in use as text, and what the catalog
/// says of it.
///
/// # Errors
///
/// Returns [`StartError`].
pub async fn map(settings: &Settings, command: MapCommand) -> Result<String, StartError> {
    let (_folder, fleet) = open_fleet(settings, Migrate::Check, &Telemetry::new()).await?;
    if command == MapCommand::Lift {
        let lifted = fleet.lift().await;
        lifted.map_err(|error| match error {
            ChangeError::Fleet(error) => StartError::Fleet(error),
            error => StartError::Assemble(error.into()),
        })?;
    }
    let problem = fleet.map_status().problem;
    let map = fleet.router().topology();
    fleet.close().await;
    Ok(match problem.filter(|_| command == MapCommand::Show) {
        Some(problem) => format!("{map}not confirmed: {problem}"),
        None => format!("{map}confirmed by the catalog"),
    })
}

async fn open_fleet(
    settings: &Settings,
    migrate: Migrate,
    telemetry: &Telemetry,
) -> Result<(Option<DataFolder>, Fleet), StartError> {
    let (folder, config) = fleet_config(settings, true)?;
    let config = config.migrate(migrate).telemetry(telemetry.clone());
    Ok((folder, Fleet::open(config).await?))
}

/// The fleet of `settings`. Its folder is made and held if `take` says so.
fn fleet_config(
    settings: &Settings,
    take: bool,
) -> Result<(Option<DataFolder>, FleetConfig), StartError> {
    let mut folder = None;
    let (mut specs, mut catalog) = (Vec::new(), settings.catalog.clone());
    if let Some(entries) = &settings.nodes {
        if entries.is_empty() {
            return Err(StartError::NoNodes);
        }
        for (number, entry) in (1..).zip(entries) {
            specs.push(NodeSpec::parse(entry, number)?);
        }
    } else {
        if take {
            folder = Some(DataFolder::take(&settings.data)?);
        }
        let database = |name: &str| DataFolder::database_in(&settings.data, name);
        for number in 1..=EMBEDDED_NODES {
            let url = database(&format!("node-{number}"));
            specs.push(NodeSpec::parse(&url, number)?);
        }
        catalog = catalog.or_else(|| Some(database("catalog")));
    }
    for (number, entry) in (1..).zip(settings.replicas.iter().flatten()) {
        NodeSpec::attach(&mut specs, entry, number)?;
    }
    let mut config = FleetConfig::new(specs)
        .shards(settings.shards)
        .wait(settings.wait)
        .migrations(maxscale_auth::MIGRATIONS)
        .migrations(maxscale_queue::MIGRATIONS)
        .migrations(crate::schema::MIGRATIONS);
    if let Some(url) = catalog {
        config = config.catalog(url);
    }
    if let Some(names) = &settings.residency {
        let regions: Option<Vec<_>> = names.iter().map(|name| RegionId::new(name)).collect();
        let regions = regions.ok_or(StartError::Bounds {
            key: "shards.residency",
            allowed: "a list of regions, each 1 to 32 of a-z, 0-9 and -",
        })?;
        let everything = Residency::new().pin_shards(0..settings.shards, regions);
        config = config.residency(everything);
    }
    if let Some(path) = &settings.map_copy {
        config = config.map_copy(path);
    }
    Ok((folder, config))
}

/// How often somebody may try a password.
fn attempts(limits: &Limits, meter: &Meter) -> Result<Attempts, StartError> {
    let attempts = Attempts::builder("passwords", limits).build();
    let attempts = attempts.map_err(|e| StartError::Assemble(e.into()))?;
    Ok(attempts.measured(meter))
}

/// Who has an account here: whoever signs up, at once.
async fn accounts(
    router: &Router,
    ids: &Arc<IdGenerator>,
    keys: &Arc<KeyRing>,
    attempts: Attempts,
) -> Result<Accounts, StartError> {
    let passwords = PasswordPool::new(PasswordPoolConfig::default()).await;
    let passwords = passwords.map_err(|e| StartError::Assemble(e.into()))?;
    let accounts = Accounts::builder(router.clone(), ids.clone(), keys.clone(), passwords)
        .attempts(attempts)
        .sign_ups(SignUps::Open)
        // Of no use while nothing is sent.
        .base_url("http://localhost")
        .secure(false)
        .outbox(NoMail)
        .build();
    accounts.map_err(|e| StartError::Assemble(e.into()))
}

/// The folder of this fleet's objects, below the configured one.
///
/// To the databases of another fleet they would all look like orphans.
async fn objects_of(
    settings: &Settings,
    fleet: &Fleet,
    ids: &IdGenerator,
) -> Result<Objects, StartError> {
    // The first start's draw stays in the catalog.
    let drawn = ids.draw_anywhere(fleet.router().shards()).to_string();
    let name = fleet.remember("objects", drawn.as_bytes()).await;
    let name = name.map_err(FleetError::from)?;
    let name = String::from_utf8_lossy(&name);
    let url = format!("{}/{name}", settings.objects.trim_end_matches('/'));
    Ok(Objects::at(&url).await?)
}

/// What needs no database to be told, so that nobody waits for one to hear it.
fn check(settings: &Settings) -> Result<(), StartError> {
    if settings.deadline.is_zero() {
        return Err(StartError::Bounds {
            key: "http.deadline",
            allowed: "longer than 0s, or no request could be answered",
        });
    }
    if settings.connections == 0 {
        return Err(StartError::Bounds {
            key: "http.connections",
            allowed: "at least 1",
        });
    }
    if settings.stop_wait > settings.grace {
        return Err(StartError::Bounds {
            key: "shutdown.wait",
            allowed: "at most shutdown.grace, of which it is a part",
        });
    }
    if settings.grace > LONGEST_GRACE {
        return Err(StartError::Bounds {
            key: "shutdown.grace",
            allowed: "at most 1h",
        });
    }
    if settings.workers > MAX_WORKERS {
        return Err(StartError::Bounds {
            key: "worker.concurrency",
            allowed: "a number from 0 to 1,024",
        });
    }
    Ok(())
}

/// Each job at once may hold a connection; more is a slip of the keyboard.
const MAX_WORKERS: usize = 1024;

/// Whoever stops the process kills it long before.
const LONGEST_GRACE: Duration = Duration::from_secs(3_600);

fn migrate_mode(settings: &Settings) -> Migrate {
    match settings.migrate.as_str() {
        "check" => Migrate::Check,
        "off" => Migrate::Off,
        _ => Migrate::Auto,
    }
}

fn hub(redis: &RedisHandles, meter: &Meter) -> Hub {
    let builder = Hub::builder().meter(meter);
    match redis.of(Role::Cache) {
        Some(redis) => builder.remote(RedisRemote::new(redis.clone())).build(),
        None => builder.build(),
    }
}

fn freshness(settings: &Settings, keys: &KeyRing, clock: Clock) -> FreshnessLayer {
    let cookie = match settings.tls {
        true => FreshnessCookie::new(),
        false => FreshnessCookie::new().insecure(),
    };
    FreshnessLayer::new(Keys::new(keys.clone()), clock).cookie(cookie)
}

fn limits(redis: &RedisHandles, keys: &KeyRing, clock: Clock) -> (Limits, Option<RedisLimits>) {
    let local = LocalLimits::new(clock);
    match redis.of(Role::Limits) {
        Some(redis) => {
            let shared = RedisLimits::new(redis.clone(), "maxscale:", keys.clone());
            (Limits::shared(shared.clone(), local), Some(shared))
        }
        None => (Limits::local(local), None),
    }
}

fn worker(
    settings: &Settings,
    queue: Queue,
    (measurer, forgetter): (Measurer, Forgetter),
    meter: &Meter,
    sampler: Sampler,
) -> Result<Option<Worker>, StartError> {
    if settings.workers == 0 {
        return Ok(None);
    }
    let worker = Worker::builder(queue)
        .meter(meter.clone())
        .sampler(sampler)
        .concurrency(settings.workers)
        .register(measurer)
        .register(forgetter)
        .start();
    worker.map(Some).map_err(|e| StartError::Assemble(e.into()))
}
