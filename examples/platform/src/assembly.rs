//! Puts the parts together, in the order in which they need each other.

use std::net::SocketAddr;
use std::sync::Arc;

use maxscale_auth::{Accounts, CookiePolicy, CsrfLayer, SessionLayer};
use maxscale_cache::Hub;
use maxscale_cache::http::HttpCache;
use maxscale_cache::remote::RedisRemote;
use maxscale_core::clock::Clock;
use maxscale_core::health::Health;
use maxscale_core::id::IdGenerator;
use maxscale_core::keys::{KeyRing, Keys};
use maxscale_core::limit::{Limits, LocalLimits, RedisLimits};
use maxscale_core::meter::Meter;
use maxscale_core::meter::span::Sampler;
use maxscale_core::redis::Role;
use maxscale_queue::{Queue, Worker};
use maxscale_shard::fleet::FleetError;
use maxscale_shard::layer::{FreshnessCookie, FreshnessLayer};
use maxscale_shard::telemetry::Telemetry;
use maxscale_shard::{Claims, Fleet, Recovering, Recovery, Router};
use tokio::task::JoinHandle;

use crate::accounts;
use crate::audit::{ChangedEmails, audit};
use crate::bounds;
use crate::checks;
use crate::databases::{migrate_mode, open_fleet};
use crate::expired::Expired;
use crate::folder::DataFolder;
use crate::forget::Forgetter;
use crate::ground::Ground;
use crate::http::{self, App, Parts};
use crate::keyring::Keyring;
use crate::limiting::{Limiting, Rates};
use crate::mail::{Carrier, Sender};
use crate::measure::Measurer;
use crate::newest::Newest;
use crate::objects::Objects;
use crate::profile::Profiles;
use crate::project::Projects;
use crate::public_url::PublicUrl;
use crate::reads::LIVES;
use crate::redis::{self, Servers};
use crate::sessions;
use crate::settings::Settings;
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
    /// Refuses what another site makes a browser send.
    pub csrf: CsrfLayer,
    /// Accounts and sessions, as the auth crate offers them.
    pub accounts: axum::Router,
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
    redis: Servers,
    background: [JoinHandle<()>; 3],
    recovering: Recovering,
    // Held to the end: another process may take the folder only then.
    folder: Option<DataFolder>,
}

// === impl Platform ===

impl Platform {
    /// Opens and connects everything that `settings` name. Unless they say otherwise,
    /// clients come to `main`.
    ///
    /// # Errors
    ///
    /// Returns [`StartError`]. Redis or a node that is down is none: it is used
    /// once it is there.
    pub async fn assemble(
        settings: &Settings,
        main: SocketAddr,
        meter: &Meter,
        sampler: Sampler,
    ) -> Result<Self, StartError> {
        let clock = Clock::system();
        bounds::check(settings)?;
        let passwords = accounts::policy(settings)?;
        let keyring = Keyring::new(settings.secret.as_ref(), &settings.other_secrets)?;
        let rates = Rates::of(settings)?;
        let redis = redis::table(settings)?;

        let telemetry = Telemetry::new().meter(meter);
        let (folder, fleet) = open_fleet(settings, migrate_mode(settings), &telemetry).await?;
        let keys = Arc::new(keyring.open(&fleet).await?);
        let redis = redis.open();
        let router = fleet.router().deny_scatter();
        let ids = IdGenerator::new(clock.clone(), router.keyspace()).measured(meter);
        let ids = Arc::new(ids);
        let objects = objects_of(settings, &fleet, &ids).await?;
        let (limits, shared) = limits(&redis, &keys, clock.clone());
        let ground = Ground {
            hub: hub(&redis, meter),
            queue: Queue::new(router.clone(), ids.clone()),
            public: public_url(settings, main),
            meter: meter.clone(),
            limits,
            clock,
            router,
            ids,
            keys,
        };

        let (audit, changed) = audit();
        let map = settings.session_map.clone();
        let sessions = sessions::sessions(&ground, redis.of_sessions(), map, audit)?;
        let accounts = accounts::accounts(settings, &ground, sessions, passwords).await?;
        let app = app(settings, &ground, accounts.clone(), &fleet, objects);
        let cookie = CookiePolicy::new(ground.public.tls());
        Ok(Self {
            sessions: SessionLayer::new(accounts.sessions().clone(), cookie),
            csrf: http::csrf(cookie, &ground.public)?.audit(accounts.sessions().clone()),
            freshness: freshness(&ground),
            limiting: Limiting::new(rates, ground.limits.clone(), shared, meter)?,
            health: checks::health(&fleet, &redis, &app, &ground),
            recovering: recover(&ground, &accounts),
            background: background(settings, &ground, &app, changed),
            worker: worker(settings, &ground, &app, &fleet, sampler)?,
            accounts: http::account_routes(accounts, cookie, &ground.public)?,
            limits: ground.limits,
            router: ground.router,
            app,
            sampler,
            fleet,
            redis,
            folder,
        })
    }

    /// Closes what was opened.
    pub async fn close(self) {
        self.background.iter().for_each(JoinHandle::abort);
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

/// What handlers work with.
fn app(
    settings: &Settings,
    ground: &Ground,
    accounts: Accounts,
    fleet: &Fleet,
    objects: Objects,
) -> App {
    let Ground {
        clock,
        ids,
        keys,
        router,
        queue,
        hub,
        ..
    } = ground;
    let pages = HttpCache::builder(hub, "page");
    App::new(Parts {
        profiles: Profiles::new(accounts.clone(), router.clone(), queue.clone(), hub),
        projects: Projects::new(ids.clone(), clock.clone(), hub),
        // One page asks all nodes, and nothing else may.
        newest: Newest::new(fleet.router().clone(), Keys::new(KeyRing::clone(keys))),
        pages: pages.l2_ttl(LIVES).meter(&ground.meter).build(),
        tracks: Tracks::new(router.clone(), queue.clone(), ids.clone(), clock.clone()),
        queue: queue.clone(),
        objects,
        secure: ground.public.tls(),
        upload_limit: settings.upload_limit,
        accounts,
    })
}

/// Ends what a crash left half-way of a sign-up, also if nobody asks for the email.
fn recover(ground: &Ground, accounts: &Accounts) -> Recovering {
    Recovery::new(ground.router.clone())
        .claims(accounts.emails().clone())
        .every(Claims::DEFAULT_LEASE)
        .meter(&ground.meter)
        .start()
}

/// Remove what nobody owns, what has run out, and profiles with an old address.
fn background(
    settings: &Settings,
    ground: &Ground,
    app: &App,
    changed: ChangedEmails,
) -> [JoinHandle<()>; 3] {
    let expired = Expired {
        router: ground.router.clone(),
        sessions: sessions::rows(ground),
        accounts: app.accounts.clone(),
    };
    let (objects, tracks) = (app.objects.clone(), app.tracks.clone());
    let (clock, longest) = (ground.clock.clone(), settings.upload_deadline());
    [
        tokio::spawn(sweep::run(objects, tracks, clock, longest)),
        tokio::spawn(expired.run()),
        tokio::spawn(changed.run(app.profiles.clone())),
    ]
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

/// Where clients come to unless the settings say so: an address that listens to all
/// of the machine's is this machine's name to its users.
fn public_url(settings: &Settings, main: SocketAddr) -> PublicUrl {
    let (ip, port) = (main.ip(), main.port());
    let own = || match ip.is_unspecified() {
        true => PublicUrl::plain(&format!("localhost:{port}")),
        false => PublicUrl::plain(&main.to_string()),
    };
    settings.public.clone().unwrap_or_else(own)
}

fn hub(redis: &Servers, meter: &Meter) -> Hub {
    let builder = Hub::builder().meter(meter);
    match redis.of(Role::Cache) {
        Some(redis) => builder.remote(RedisRemote::new(redis.clone())).build(),
        None => builder.build(),
    }
}

fn freshness(ground: &Ground) -> FreshnessLayer {
    let cookie = match ground.public.tls() {
        true => FreshnessCookie::new(),
        false => FreshnessCookie::new().insecure(),
    };
    let keys = Keys::new(KeyRing::clone(&ground.keys));
    FreshnessLayer::new(keys, ground.clock.clone()).cookie(cookie)
}

fn limits(redis: &Servers, keys: &KeyRing, clock: Clock) -> (Limits, Option<RedisLimits>) {
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
    ground: &Ground,
    app: &App,
    fleet: &Fleet,
    sampler: Sampler,
) -> Result<Option<Worker>, StartError> {
    // Opened also where no mail is sent: what is wrong with it is told at once.
    let carrier = Carrier::open(settings)?;
    if settings.workers == 0 {
        return Ok(None);
    }
    let measurer = Measurer {
        router: fleet.router().clone(),
        tracks: app.tracks.clone(),
        objects: app.objects.clone(),
    };
    let sender = Sender {
        carrier,
        keys: ground.keys.clone(),
        clock: ground.clock.clone(),
    };
    let forgetter = Forgetter {
        hub: ground.hub.clone(),
    };
    let worker = Worker::builder(ground.queue.clone())
        .meter(ground.meter.clone())
        .sampler(sampler)
        .concurrency(settings.workers)
        .register(measurer)
        .register(forgetter)
        .register(sender)
        .start();
    worker.map(Some).map_err(|e| StartError::Assemble(e.into()))
}
