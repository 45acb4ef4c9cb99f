//! Answers of an HTTP service from the cache, by RFC 9111.
//!
//! ```text
//!  request ─ HttpCacheLayer ─ stored? fresh? ─────────── answer, 304
//!                 │              └ no ─ one call for all who wait ─┐
//!                 │                                                ├─ answer
//!                 └─ Range, bodies, other methods ── the service ──┘
//! ```
//!
//! An [`HttpCache`] stores responses in the tiers of a [`Hub`], the
//! [`HttpCacheLayer`] answers from it. [`cdn`](CdnCacheControl) and [`Purge`] speak to
//! the caches before the service.
//!
//! # What is stored
//!
//! Complete answers to GET that say so themselves ([`Storing`]), of a status that
//! RFC 9111 knows, up to the body limit. **Never**: answers with `Set-Cookie`, with
//! `private`, `no-store` or `no-cache`, with `Vary: *`, with more than 16 tags, to requests with
//! `Authorization` unless the RFC allows it, to requests with a body, parts of
//! something (206), what was cut off, and what has trailers.
//!
//! # Who gets what is stored
//!
//! Requests for the same host, path and query that are alike in what `Vary` names,
//! and in headers by which frameworks choose a host or a path (`X-Forwarded-Host`
//! and the like). [Per principal](HttpCacheBuilder::per_principal) also only those
//! of the same verified [`Subject`](maxscale_core::fact::Subject). Requests that
//! come while one is under way wait for it, and get its answer once that proved to
//! be for them; if not, each makes its own call.
//!
//! # When it is not fresh
//!
//! It is fetched anew, asking with its `ETag` or date, which handlers may answer
//! with a 304. Where the response allowed it, it is served meanwhile
//! (`stale-while-revalidate`), or instead of an error (`stale-if-error`).
//!
//! # What is forgotten
//!
//! After POST, PUT, PATCH, DELETE and unknown methods that succeed: the resource, all
//! its variants, and what `Location` and `Content-Location` name at the same host.
//! In this process before the answer is given, elsewhere as the
//! [hub](crate#what-is-guaranteed) does. What a response names in `Cache-Tag` or
//! `Surrogate-Key` are its tags here too ([`HttpCache::invalidate_tag`]).
//!
//! Clocks of processes are compared: a response can be served longer, or less long,
//! by as much as they differ.
//!
//! # Examples: how does a route get a cache?
//!
//! ```
//! use axum::{Router, routing::get};
//! use maxscale_cache::Hub;
//! use maxscale_cache::http::{HttpCache, HttpCacheLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let hub = Hub::builder().build();
//! let cache = HttpCache::builder(&hub, "pages").build();
//! let page = get(async || ([("cache-control", "s-maxage=60")], "hello"));
//! let app: Router = Router::new().route("/", page).layer(HttpCacheLayer::new(cache));
//! # }
//! ```

mod body;
mod cdn;
mod conditional;
mod directives;
mod fetch;
mod hints;
mod judge;
mod layer;
mod purge;
mod select;
mod serve;
mod shared;
mod status;
mod store;
mod stored;
mod target;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::Uri;
use maxscale_core::clock::Clock;
use maxscale_core::meter::{self, Meter};

use crate::{CacheSpec, Hub, Invalidated};

pub use body::HttpBody;
pub use cdn::{CdnCacheControl, Tag, TagError, Tags};
pub use judge::Storing;
pub use layer::{HttpCacheLayer, HttpCached, HttpCachedFuture};
pub use purge::{Purge, PurgeError, Purged};

use judge::Rules;
use purge::DynPurge;
use shared::Shared;
use status::Teller;
use store::Store;
use target::Target;

/// Stored responses of a service. Cheap to clone; see [`HttpCache::builder`].
#[derive(Clone)]
pub struct HttpCache {
    shared: Arc<Shared>,
}

/// Builds an [`HttpCache`]; see [`HttpCache::builder`].
#[must_use]
pub struct HttpCacheBuilder {
    hub: Hub,
    kind: &'static str,
    rules: Rules,
    body_limit: usize,
    l1_ttl: Duration,
    l2_ttl: Duration,
    clock: Clock,
    name: String,
    meter: Meter,
    purge: Option<Arc<dyn DynPurge>>,
}

// === impl HttpCache ===

impl HttpCache {
    /// The longest body that is stored when no other number is given.
    pub const DEFAULT_BODY_LIMIT: usize = 256 << 10;
    /// The longest body that can be stored.
    pub const MAX_BODY_LIMIT: usize = 640 << 10;
    /// How long a process serves a response from its memory before it asks L2 whether
    /// it is still the one, when nothing else is given.
    pub const DEFAULT_L1_TTL: Duration = CacheSpec::DEFAULT_L1_TTL;
    /// How long a response stays in L2, fresh or not, when nothing else is given.
    pub const DEFAULT_L2_TTL: Duration = CacheSpec::DEFAULT_L2_TTL;
    /// How the cache calls itself in `Cache-Status` when nothing else is given.
    pub const DEFAULT_NAME: &str = "maxscale";

    /// A cache in the tiers of `hub`, whose values are of the type `kind` there.
    ///
    /// Layers with one cache answer from the same responses: they have to stand
    /// before the same service.
    pub fn builder(hub: &Hub, kind: &'static str) -> HttpCacheBuilder {
        HttpCacheBuilder {
            hub: hub.clone(),
            kind,
            rules: Rules {
                storing: Storing::default(),
                per_principal: false,
            },
            body_limit: Self::DEFAULT_BODY_LIMIT,
            l1_ttl: Self::DEFAULT_L1_TTL,
            l2_ttl: Self::DEFAULT_L2_TTL,
            clock: Clock::system(),
            name: Self::DEFAULT_NAME.into(),
            meter: meter::nowhere(),
            purge: None,
        }
    }

    /// Forgets what is stored for a URI, all variants and principals included, and
    /// has the CDN forget it.
    ///
    /// The URI is absolute, with the host that clients write. In this process it is
    /// forgotten at once, also if the caller gives up waiting. The CDN is told in
    /// the background.
    pub async fn invalidate(&self, uri: &Uri) -> Invalidated {
        self.shared.invalidate(&Target::at(uri)).await
    }

    /// Forgets all that was sent with `tag` in `Cache-Tag` or `Surrogate-Key`, and has
    /// the CDN forget it.
    ///
    /// In this process it is forgotten at once, also if the caller gives up waiting,
    /// elsewhere as the [hub](crate#what-is-guaranteed) does; nothing is searched. A
    /// response from before, still on its way, is not stored after it. The CDN is told
    /// in the background, by this process alone.
    pub async fn invalidate_tag(&self, tag: &Tag) -> Invalidated {
        self.shared.invalidate_tag(tag).await
    }
}

impl fmt::Debug for HttpCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCache")
            .field("store", &self.shared.store)
            .field("rules", &self.shared.rules)
            .finish_non_exhaustive()
    }
}

// === impl HttpCacheBuilder ===

impl HttpCacheBuilder {
    /// Sets which responses are stored.
    ///
    /// Default: [`Storing::Explicit`].
    pub const fn storing(mut self, storing: Storing) -> Self {
        self.rules.storing = storing;
        self
    }

    /// Stores responses for one principal each: who asks is the verified
    /// [`Subject`](maxscale_core::fact::Subject) in the request's extensions, never a
    /// header. Requests without one pass the cache by. Responses may be `private`
    /// then, and `s-maxage` does not count.
    ///
    /// Default: for everybody.
    pub const fn per_principal(mut self) -> Self {
        self.rules.per_principal = true;
        self
    }

    /// Sets the longest body that is stored; longer ones pass. More than
    /// [`HttpCache::MAX_BODY_LIMIT`] is as much as that.
    ///
    /// Default: [`HttpCache::DEFAULT_BODY_LIMIT`].
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes.min(HttpCache::MAX_BODY_LIMIT);
        self
    }

    /// Sets how long a process serves a response from its memory before it asks L2
    /// whether it is still the one.
    ///
    /// Default: [`HttpCache::DEFAULT_L1_TTL`].
    pub const fn l1_ttl(mut self, ttl: Duration) -> Self {
        self.l1_ttl = ttl;
        self
    }

    /// Sets how long a response stays in L2. What is stale can be confirmed, or
    /// served instead of an error, for so long.
    ///
    /// Default: [`HttpCache::DEFAULT_L2_TTL`].
    pub const fn l2_ttl(mut self, ttl: Duration) -> Self {
        self.l2_ttl = ttl;
        self
    }

    /// Sets the clock that ages are counted by.
    ///
    /// Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how the cache calls itself in `Cache-Status`; what is not of letters,
    /// digits, `-`, `_` and `.` is left out.
    ///
    /// Default: [`HttpCache::DEFAULT_NAME`].
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// Sets where answers are counted.
    ///
    /// Default: nowhere.
    pub fn meter(mut self, meter: &Meter) -> Self {
        self.meter = meter.clone();
        self
    }

    /// Sets the CDN that is told what to forget.
    ///
    /// Default: none.
    pub fn purge(mut self, cdn: impl Purge) -> Self {
        self.purge = Some(Arc::new(cdn));
        self
    }

    /// The cache.
    pub fn build(self) -> HttpCache {
        HttpCache {
            shared: Arc::new(Shared {
                store: Store::new(&self.hub, self.kind, self.l1_ttl, self.l2_ttl),
                rules: self.rules,
                body_limit: self.body_limit,
                clock: self.clock,
                teller: Teller::new(&self.name, &self.meter),
                purge: self.purge,
            }),
        }
    }
}

impl fmt::Debug for HttpCacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCacheBuilder")
            .field("kind", &self.kind)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}
