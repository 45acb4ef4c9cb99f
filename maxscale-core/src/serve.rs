//! Serves HTTP/1 and HTTP/2 on one port, and ends so that nothing begun is lost.
//!
//! A [`Server`] is a listener and a tower service: an axum router, tonic's
//! routes. [`Serving`] runs one or more of them until [`Stop`] is asked, and
//! then goes through the phases of an end, all within one budget:
//!
//! ```text
//!  asked ─ not ready ─ wait ─┬─ no new connections ─ connection: close, GOAWAY ─┐
//!          │                 └─ streams are told (Draining)                     │
//!          └ on_stop: jobs are no longer claimed                                │
//!                                                                               v
//!  end ── last servers close ── on_flush ── on_hand_back ── rest is cut ── requests end
//! ```
//!
//! Asked twice, it ends at once. It knows nothing of what a request means:
//! deadlines, limits and logs are layers of the service.

mod accept;
mod activity;
mod body;
mod connection;
mod draining;
mod gate;
mod phases;
mod plan;
mod server;
mod stop;
mod stream;

pub use body::{RequestBody, ResponseBody};
pub use connection::Peer;
pub use draining::Draining;
pub use gate::Connections;
pub use phases::{Ended, Serving, ServingBuilder};
pub use server::{Server, ServerBuilder};
pub use stop::{Cause, Stop};

/// A server or its end was given values that cannot be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A value is out of bounds.
    #[error("{field} is out of bounds")]
    Bounds {
        /// The setter that took it.
        field: &'static str,
    },
}
