//! The order in which layers stand around a service.
//!
//! A [`Stack`] has a place for each kind of layer. Whoever fills the places need not
//! know their order, and cannot get it wrong: what is written last is not for that
//! reason the outermost. It knows nothing of the layers but where they stand, so those
//! of other crates, and a service's own, go into it like those of this one.
//!
//! ```text
//!  request ─ trace ─ edge ─ deadline ─ peer ─ shed ─ guard ─ session ─ caller ─ route ─ handler
//! ```
//!
//! | place | what stands there | what it adds | why there |
//! | --- | --- | --- | --- |
//! | [`trace`](Stack::trace) | `TraceLayer` | `RequestId`, `TraceContext` | what is refused further in is counted and logged too |
//! | [`edge`](Stack::edge) | who the client is; one form of errors; `FreshnessLayer` of the shard crate | `ClientIp` | every answer passes it, that of a deadline too |
//! | [`deadline`](Stack::deadline) | [`DeadlineLayer`](crate::resilience::DeadlineLayer) | `Deadline` | all further in may hang, and knows how long it may take |
//! | [`peer`](Stack::peer) | a `LimitLayer` by `ClientIp` | | whoever sends rubbish costs nothing further in |
//! | [`shed`](Stack::shed) | [`LoadShedderLayer`](crate::resilience::LoadShedderLayer) or [`AdaptiveLimitLayer`](crate::resilience::AdaptiveLimitLayer), and what sets the [`Priority`](crate::resilience::Priority) | | too much is refused before it costs a look-up |
//! | [`guard`](Stack::guard) | [`PoolGuardLayer`](crate::resilience::PoolGuardLayer) | | a session's look-up already needs the pool |
//! | [`session`](Stack::session) | `CsrfLayer` and `SessionLayer` of the auth crate | `Subject` | |
//! | [`caller`](Stack::caller) | a `LimitLayer` and a `HoldLayer` by `Subject`; a [`BulkheadLayer`](crate::resilience::BulkheadLayer) by whoever asks | | needs the `Subject` |
//! | [`route`](Stack::route) | `RouteLayer` of the shard crate | `VirtualShard` | needs the `Subject`, and hands the handler its shard |
//!
//! A place may stay empty, and one that needs several layers takes a tuple of them or a
//! `tower::ServiceBuilder`, the outermost first.
//!
//! # Examples: what does a whole stack look like in axum?
//!
#![cfg_attr(
    all(
        feature = "axum",
        feature = "limit",
        feature = "serve",
        feature = "telemetry"
    ),
    doc = "```"
)]
#![cfg_attr(
    not(all(
        feature = "axum",
        feature = "limit",
        feature = "serve",
        feature = "telemetry"
    )),
    doc = "```ignore"
)]
//! use std::time::Duration;
//!
//! use axum::extract::Request;
//! use axum::{Router, routing::get};
//! use maxscale_core::fact::ClientIp;
//! use maxscale_core::limit::{ByClientIp, LimitLayer, Limits, Policy, Rate};
//! use maxscale_core::resilience::{
//!     DeadlineLayer, LoadShedder, LoadShedderLayer, PoolGuard, PoolGuardLayer,
//! };
//! use maxscale_core::serve::Peer;
//! use maxscale_core::stack::Stack;
//! use maxscale_core::telemetry::{Metrics, TraceLayer, matched_path};
//! use tower::util::MapRequestLayer;
//!
//! fn client(mut request: Request) -> Request {
//!     if let Some(Peer(peer)) = request.extensions().get().copied() {
//!         request.extensions_mut().insert(ClientIp(peer.ip()));
//!     }
//!     request
//! }
//!
//! # use maxscale_core::control::Fill;
//! # fn pool() -> Option<Fill> { None }
//! fn app(limits: Limits, metrics: &Metrics) -> Result<Router, Box<dyn std::error::Error>> {
//!     let often = Policy::new("addresses", Rate::per_minute(600)?)?;
//!     let guard = PoolGuard::builder("sql").build(pool)?;
//!     let stack = Stack::new()
//!         .trace(TraceLayer::new(&metrics.meter("app")).route_by(matched_path))
//!         .edge(MapRequestLayer::new(client))
//!         .deadline(DeadlineLayer::new(Duration::from_secs(10)))
//!         .peer(LimitLayer::new(often, ByClientIp::new(), limits))
//!         .shed(LoadShedderLayer::new(LoadShedder::builder("app", 256).build()?))
//!         .guard(PoolGuardLayer::new(guard));
//!     Ok(Router::new().route("/", get(async || "here")).layer(stack))
//! }
//! ```
//!
//! In tonic it is the same value: `Server::builder().layer(stack)`, or
//! `ServiceBuilder::new().layer(stack).service(routes)`.

mod ordered;
mod place;

use tower_layer::{Identity, Layer};

pub use ordered::{Ordered, OrderedFuture};

use place::Places;

/// Layers, each in its place around a service: itself a layer. See the
/// [module](self) for the places and why they are in this order.
///
/// Stacks may stand inside one another, as where routes of one service have different
/// deadlines. What is further in must not begin before the last place of what is
/// further out. In axum, the layer that is added last is the outermost, so this is
/// easily got wrong; builds with debug assertions answer each request of such a stack
/// with 500, or gRPC's `INTERNAL`, and say which place stands outside of which. Other
/// builds do not look.
#[derive(Clone, Debug)]
#[must_use]
pub struct Stack<L = Empty> {
    slots: L,
    places: Places,
}

/// The places of a [`Stack`] that has no layer yet.
pub type Empty = (
    Identity,
    Identity,
    Identity,
    Identity,
    Identity,
    Identity,
    Identity,
    Identity,
    Identity,
);

// === impl Stack ===

impl Stack {
    /// A stack with nothing in its places.
    pub fn new() -> Self {
        Self {
            slots: Empty::default(),
            places: Places::NONE,
        }
    }
}

impl Default for Stack {
    fn default() -> Self {
        Self::new()
    }
}

/// One method per place: the tuple with another layer in it.
macro_rules! places {
    ($($(#[$doc:meta])* $method:ident, $place:ident: ($($before:ident)*) $own:ident ($($after:ident)*);)*) => {
        impl<T, E, D, P, H, G, N, C, R> Stack<(T, E, D, P, H, G, N, C, R)> {
            $(
                $(#[$doc])*
                ///
                /// It takes the place of what stood there.
                pub fn $method<L>(self, layer: L) -> Stack<($($before,)* L, $($after,)*)> {
                    #[expect(non_snake_case, reason = "named as the types are")]
                    let ($($before,)* _, $($after,)*) = self.slots;
                    Stack {
                        slots: ($($before,)* layer, $($after,)*),
                        places: self.places.and(place::Place::$place),
                    }
                }
            )*
        }
    };
}

places! {
    /// Sets what names each request and tells what became of it.
    trace, Trace: () T (E D P H G N C R);
    /// Sets what every request and every answer passes: what finds the client's
    /// address, one form of errors, what must be told even if the deadline ends a
    /// request.
    edge, Edge: (T) E (D P H G N C R);
    /// Sets how long a request may take.
    deadline, Deadline: (T E) D (P H G N C R);
    /// Sets what is asked by the client's address, before anybody is looked up.
    peer, Peer: (T E D) P (H G N C R);
    /// Sets what refuses requests while there are too many.
    shed, Shed: (T E D P) H (G N C R);
    /// Sets what refuses requests while what they need is nearly full: its guard reads
    /// that by a function.
    guard, Guard: (T E D P H) G (N C R);
    /// Sets what finds out who asks.
    session, Session: (T E D P H G) N (C R);
    /// Sets what depends on who asks: limits of users, what only some may.
    caller, Caller: (T E D P H G N) C (R);
    /// Sets what finds the shard of who asks.
    route, Route: (T E D P H G N C) R ();
}

impl<S, L: Layer<S>> Layer<S> for Stack<L> {
    type Service = Ordered<L::Service>;

    fn layer(&self, inner: S) -> Self::Service {
        Ordered::new(self.slots.layer(inner), self.places)
    }
}
