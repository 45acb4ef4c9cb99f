//! How often somebody may ask, and for what.
//!
//! ```text
//!  address ─ session ─ user ─ handler
//!     │                  └ its tier's rate; uploads also by a rate of their own, and
//!     │                    streams by how many are open at once
//!     └ all that comes from there; sign-ups, logins and mails also by a rate of their own
//! ```
//!
//! An address is counted before anybody's session is looked up, so that who sends
//! rubbish costs no database. Who behaves badly is `suspicious` for a while
//! ([`Reputation`]), as an address or as a user, and admitted as often as that tier
//! is.
//!
//! Not limited are `/livez`, `/readyz`, `/startupz`, `/health` and `/metrics`: a
//! balancer or a scraper that is told 429 takes the process for a broken one, and
//! each is answered from memory. In `prod`, `/health` and `/metrics` have a port of
//! their own.

use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use maxscale_core::BoxError;
use maxscale_core::clock::Clock;
use maxscale_core::fact::{ClientIp, Subject, Tier};
use maxscale_core::limit::{
    ByClientIp, BySubject, Concurrency, HoldLayer, Holders, LimitLayer, Limits, MissingKey, Policy,
    Rate, RedisLimits, Reputation, ReputationBuilder, Tiers,
};
use maxscale_core::meter::Meter;

use crate::http::{is_attempt, is_stream};
use crate::settings::Settings;
use crate::start::StartError;

/// The policies of the platform, and where they are counted.
#[derive(Clone, Debug)]
pub struct Limiting {
    limits: Limits,
    addresses: Tiers,
    logins: Policy,
    users: Tiers,
    uploads: Policy,
    streams: Holders,
    reputation: Reputation,
}

/// Whose a request is, if it is one of those that are counted.
type Whose = fn(&Request) -> Option<String>;

/// The tier of whoever is logged in. A service that sells plans has others, and asks
/// the account for its own.
const STANDARD: &str = "standard";

// === impl Limiting ===

impl Limiting {
    /// Policies by `rates`, counted by `limits`. Processes that share limits share who
    /// is suspicious.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::Assemble`] for names and values that cannot be, which
    /// these are not.
    pub(crate) fn new(
        rates: Rates,
        limits: Limits,
        shared: Option<RedisLimits>,
        meter: &Meter,
    ) -> Result<Self, StartError> {
        let reputation = Reputation::builder(Clock::system());
        let reputation = match shared {
            Some(redis) => reputation.shared(redis),
            None => reputation,
        };
        Self::build(rates, limits, reputation, meter).map_err(StartError::Assemble)
    }

    fn build(
        rates: Rates,
        limits: Limits,
        reputation: ReputationBuilder,
        meter: &Meter,
    ) -> Result<Self, BoxError> {
        let addresses = Tiers::new(Policy::new("addresses", rates.addresses)?);
        let users = Tiers::usual("requests")?.tier(STANDARD, rates.users);
        let suspicious = |tiers: Tiers| tiers.tier(Tiers::SUSPICIOUS, rates.suspicious);
        let streams = Holders::new("streams", rates.streams, &limits)?;
        Ok(Self {
            limits,
            streams: streams.measured(meter),
            addresses: suspicious(addresses).measured(meter),
            logins: Policy::new("logins", rates.logins)?.measured(meter),
            users: suspicious(users).measured(meter),
            uploads: Policy::new("uploads", rates.uploads)?.measured(meter),
            reputation: reputation.build()?,
        })
    }

    /// All requests of an address, whoever asks from there.
    pub(crate) fn by_address(&self) -> LimitLayer<ByClientIp> {
        LimitLayer::by_tier(
            self.addresses.clone(),
            ByClientIp::new(),
            self.limits.clone(),
        )
    }

    /// Sign-ups, logins and the like of an address; other requests pass.
    pub(crate) fn logins(&self) -> LimitLayer<Whose> {
        let whose: Whose = |request| {
            let client = request.extensions().get().map(ByClientIp::principal);
            client.filter(|_| is_attempt(request))
        };
        LimitLayer::new(self.logins.clone(), whose, self.limits.clone())
            .missing_key(MissingKey::Skip)
    }

    /// Requests of a user. Who is not logged in was counted by address.
    pub(crate) fn by_user(&self) -> LimitLayer<BySubject> {
        LimitLayer::by_tier(self.users.clone(), BySubject::new(), self.limits.clone())
            .missing_key(MissingKey::Skip)
    }

    /// The same, and uploads of a user: both or neither, in one trip.
    pub(crate) fn uploads(&self) -> LimitLayer<BySubject> {
        self.by_user().and(self.uploads.clone())
    }

    /// Streams of a user that are open at once; other requests pass.
    pub(crate) fn streams(&self) -> HoldLayer<Whose> {
        let whose: Whose = |request| {
            let user = request.extensions().get().map(BySubject::principal);
            user.filter(|_| is_stream(request))
        };
        HoldLayer::new(self.streams.clone(), whose).missing_key(MissingKey::Skip)
    }

    /// The places of streams.
    pub(crate) const fn stream_places(&self) -> &Holders {
        &self.streams
    }

    /// Says which tier an address is in.
    pub(crate) fn tier_of_address(&self, mut request: Request) -> Request {
        let client = request.extensions().get().map(ByClientIp::principal);
        let tier = client.and_then(|client| self.reputation.tier(&client, None));
        if let Some(tier) = tier {
            request.extensions_mut().insert(tier);
        }
        request
    }

    /// Says which tier a user is in, whatever the address is.
    pub(crate) fn tier_of_user(&self, mut request: Request) -> Request {
        request.extensions_mut().remove::<Tier>();
        let user = request.extensions().get().map(BySubject::principal);
        let own = Some(Tier::new(STANDARD));
        let tier = user.and_then(|user| self.reputation.tier(&user, own));
        if let Some(tier) = tier {
            request.extensions_mut().insert(tier);
        }
        request
    }
}

/// Notes what speaks against an address: logins that fail, and requests for what
/// nobody offers. That it asks too often does not: it may be an office.
pub(crate) async fn watch_address(
    State(limiting): State<Limiting>,
    request: Request,
    next: Next,
) -> Response {
    let facts = request.extensions();
    let path = facts.get::<MatchedPath>().map(MatchedPath::as_str);
    let (is_known, is_login) = (path.is_some(), path == Some("/v1/login"));
    let client = facts.get::<ClientIp>().map(ByClientIp::principal);
    let response = next.run(request).await;
    let points = match response.status() {
        StatusCode::UNAUTHORIZED if is_login => Reputation::FAILED_LOGIN,
        StatusCode::NOT_FOUND if !is_known => Reputation::SCAN,
        _ => 0,
    };
    limiting.note(client, points);
    response
}

/// Notes against a user that it goes on although it is told to wait.
pub(crate) async fn watch_user(
    State(limiting): State<Limiting>,
    request: Request,
    next: Next,
) -> Response {
    let user = request.extensions().get::<Subject>();
    let user = user.map(BySubject::principal);
    let response = next.run(request).await;
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        limiting.note(user, Reputation::DENIED);
    }
    response
}

impl Limiting {
    fn note(&self, principal: Option<String>, points: u32) {
        if let Some(principal) = principal.filter(|_| points > 0) {
            self.reputation.signal(&principal, points);
        }
    }
}

/// Rates by the settings, each with a burst of a tenth, and how many streams a user may
/// have open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    addresses: Rate,
    logins: Rate,
    users: Rate,
    uploads: Rate,
    suspicious: Rate,
    streams: Concurrency,
}

// === impl Rates ===

impl Rates {
    /// # Errors
    ///
    /// Returns [`StartError::Bounds`] for a number that cannot be.
    pub(crate) fn of(settings: &Settings) -> Result<Self, StartError> {
        let rate = |key, per_minute| {
            Rate::per_minute(per_minute).map_err(|_| StartError::Bounds {
                key,
                allowed: "a number from 1 to 60,000,000",
            })
        };
        let limits = &settings.limits;
        Ok(Self {
            addresses: rate("limits.addresses_per_minute", limits.addresses)?,
            logins: rate("limits.logins_per_minute", limits.logins)?,
            users: rate("limits.per_minute", limits.users)?,
            uploads: rate("limits.uploads_per_minute", limits.uploads)?,
            suspicious: rate("limits.suspicious_per_minute", limits.suspicious)?,
            streams: Concurrency::new(settings.streams).map_err(|_| StartError::Bounds {
                key: "limits.streams",
                allowed: "a number from 1 to 10,000",
            })?,
        })
    }
}
