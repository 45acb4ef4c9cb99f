//! Sends each request to the shard that owns its key.
//!
//! [`RouteLayer`] takes a key out of a request and asks a [`Router`] where it
//! lies. The answer, a [`VirtualShard`](maxscale_core::fact::VirtualShard) and a
//! [`Shard`], goes into the request's extensions. It opens no
//! connection and awaits nothing: a handler further in runs its statements on
//! the shard that it finds there.
//!
//! [`FreshnessLayer`] carries from request to request what a user has written and
//! seen, so that reads may go to replicas.
//!
//! Where the key is, says a [`RouteKey`]:
//!
//! | the key is … | |
//! | --- | --- |
//! | who asks, the fact that a session layer adds | [`BySubject`] |
//! | a segment of the path | [`ByPath`] |
//! | a header, or gRPC metadata | [`ByHeader`] |
//! | in another fact, such as auth's `Principal` | [`ByFact`] |
//! | anywhere else, such as in a job | a function, [`RouteLayer::by`] |
//!
//! # Examples: how does a handler get at its shard?
//!
//! In axum by `Extension`, in tonic by `request.extensions().get()`, in a job by
//! [`Facts::fact`]:
//!
//! ```no_run
//! use axum::{Extension, Router, routing::get};
//! use maxscale_shard::layer::{ByPath, RouteLayer};
//! use maxscale_shard::{Shard, sql};
//!
//! async fn titles(Extension(shard): Extension<Shard>) -> String {
//!     let titles = sql("SELECT title FROM project WHERE shard_id = $1").bind(shard.id());
//!     format!("{} projects", shard.fetch_all(titles).await.map_or(0, |rows| rows.len()))
//! }
//!
//! # fn app(shards: maxscale_shard::Router) -> Result<Router, maxscale_shard::layer::TemplateError> {
//! let by_user = ByPath::new("/users/{user}")?;
//! let app: Router = Router::new()
//!     .route("/users/{user}/projects", get(titles))
//!     .route_layer(RouteLayer::new(shards, by_user));
//! # Ok(app)
//! # }
//! ```

mod error;
mod freshness;
mod future;
mod key;
mod path;

use std::sync::Arc;
use std::task::{Context, Poll};

use maxscale_core::fact::Facts;
use maxscale_core::refusal::{Asker, Class, Classify, Refusal, Refuse};
use tower_layer::Layer;
use tower_service::Service;

use crate::freshness::Freshness;
use crate::key::Key;
use crate::router::{Router, Shard};

pub use error::RouteError;
pub use freshness::{CookieNameError, Freshened, FreshnessCookie, FreshnessFuture, FreshnessLayer};
pub use future::RouteFuture;
pub use key::{ByFact, ByHeader, BySubject, RequestKey, RouteKey};
pub use path::{ByPath, TemplateError};

/// Adds [`Routed`] to a stack: each request is told the shard of its key.
///
/// A request whose key is missing or has no place, or whose shard cannot be
/// used now, is refused as [`RouteError`] says and goes no further. A refused
/// job is put off where the shard may be there later.
#[derive(Clone, Debug)]
pub struct RouteLayer<K> {
    rule: Arc<Rule<K>>,
}

/// Passes requests on with a `VirtualShard` and a [`Shard`] in their extensions, and
/// with a [`FreshShard`](crate::FreshShard) where a [`FreshnessLayer`] stands around.
#[derive(Clone, Debug)]
pub struct Routed<S, K> {
    inner: S,
    rule: Arc<Rule<K>>,
}

#[derive(Clone, Debug)]
struct Rule<K> {
    router: Router,
    key: K,
    optional: bool,
}

// === impl RouteLayer ===

impl<K> RouteLayer<K> {
    /// Routes each request by `key`, with the map that `router` has then.
    pub fn new(router: Router, key: K) -> Self {
        Self {
            rule: Arc::new(Rule {
                router,
                key,
                optional: false,
            }),
        }
    }

    /// Routes each request by the key that `find` finds in it.
    ///
    /// As [`new`](Self::new), which cannot tell a closure how long its key lives.
    pub fn by<Q>(router: Router, find: K) -> Self
    where
        K: for<'q> Fn(&'q Q) -> Option<Key<'q>>,
    {
        Self::new(router, find)
    }

    /// Lets a request without a key pass, unrouted; a key that is bad is refused
    /// all the same. For a stack that also serves those who are not logged in.
    ///
    /// Default: a request without a key is refused.
    #[must_use]
    pub fn optional(self) -> Self
    where
        K: Clone,
    {
        let mut rule = Arc::unwrap_or_clone(self.rule);
        rule.optional = true;
        Self {
            rule: Arc::new(rule),
        }
    }
}

impl<S, K> Layer<S> for RouteLayer<K> {
    type Service = Routed<S, K>;

    fn layer(&self, inner: S) -> Routed<S, K> {
        Routed {
            inner,
            rule: self.rule.clone(),
        }
    }
}

// === impl Routed ===

impl<S, K, Q> Service<Q> for Routed<S, K>
where
    S: Service<Q>,
    S::Response: Refuse,
    K: RouteKey<Q>,
    Q: Facts,
{
    type Response = <S::Response as Refuse>::Reply;
    type Error = S::Error;
    type Future = RouteFuture<S::Future, Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Q) -> Self::Future {
        match self.rule.shard(&request) {
            Ok(Some(shard)) => {
                request.add_fact(shard.id());
                if let Some(freshness) = request.fact::<Freshness>() {
                    let fresh = freshness.on(&shard);
                    request.add_fact(fresh);
                }
                request.add_fact(shard);
            }
            Ok(None) => {}
            Err(error) => {
                if error.class() == Class::Internal {
                    tracing::error!(%error, "a request cannot be routed");
                }
                let refusal = Refusal::new(&error);
                return RouteFuture::refused(S::Response::refuse(refusal, &Asker::of(&request)));
            }
        }
        RouteFuture::forward(self.inner.call(request))
    }
}

// === impl Rule ===

impl<K> Rule<K> {
    fn shard<Q>(&self, request: &Q) -> Result<Option<Shard>, RouteError>
    where
        K: RouteKey<Q>,
    {
        let Some(key) = self.key.key(request)? else {
            return match self.optional {
                true => Ok(None),
                false => Err(self.key.missing()),
            };
        };
        Ok(Some(self.router.shard(key.bounded()?)?))
    }
}
