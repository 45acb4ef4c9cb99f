//! A listener, a service, and the limits between them.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use tokio::net::{TcpListener, TcpStream};
use tower_service::Service;

use super::accept::accept_all;
use super::activity::Limits;
use super::connection::{self, Shared};
use super::gate::{Connections, Gate, Place};
use super::{Draining, RequestBody, ServeError};
use crate::BoxError;
use crate::meter::{self, Meter};

/// A service on a port, to be run by [`Serving`](super::Serving).
///
/// It speaks HTTP/1.1 and, to who begins with it, HTTP/2 without TLS (gRPC).
/// Each request carries [`Peer`](super::Peer) and [`Draining`] as facts, with
/// the feature `axum` also its `ConnectInfo<SocketAddr>`.
///
/// A connection beyond the limit is not accepted: it waits in the system's
/// queue until another one ends. A shortage of files, which the system reports
/// when it accepts, is told and waited out.
pub struct Server {
    pub(super) listener: TcpListener,
    pub(super) shared: Shared,
    serve: Serve,
}

type Serve = Arc<dyn Fn(TcpStream, SocketAddr, Place, Shared) -> Task + Send + Sync>;
type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Builds a [`Server`]; see [`Server::builder`].
#[must_use]
pub struct ServerBuilder {
    name: &'static str,
    listener: TcpListener,
    serve: Serve,
    limits: Limits,
    connections: u32,
    meter: Meter,
}

// === impl Server ===

impl Server {
    /// How long the head of a request may take when nothing is set.
    pub const DEFAULT_HEAD_LIMIT: Duration = Duration::from_secs(10);

    /// How long a connection may be without a request when nothing is set.
    ///
    /// Longer than the 60 s after which load balancers let go of theirs.
    pub const DEFAULT_IDLE_LIMIT: Duration = Duration::from_secs(75);

    /// How many connections may be open when nothing is set.
    pub const DEFAULT_CONNECTIONS: u32 = 10_000;

    /// Starts a server of `service` on `listener`; `name` labels its metrics.
    pub fn builder<S, B>(name: &'static str, listener: TcpListener, service: S) -> ServerBuilder
    where
        S: Service<Request<RequestBody>, Response = Response<B>>,
        S: Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        ServerBuilder {
            name,
            listener,
            serve: Arc::new(move |stream, peer, place, shared| {
                let service = service.clone();
                Box::pin(connection::serve(stream, peer, place, service, shared))
            }),
            limits: Limits {
                head: Self::DEFAULT_HEAD_LIMIT,
                idle: Self::DEFAULT_IDLE_LIMIT,
            },
            connections: Self::DEFAULT_CONNECTIONS,
            meter: meter::nowhere(),
        }
    }

    /// The connections that it has and may have.
    pub fn connections(&self) -> Connections {
        Connections::new(self.shared.gate.clone())
    }

    /// Accepts for ever; a connection goes on when this is dropped.
    pub(super) async fn accept(self) {
        let serve = |stream, peer, place| {
            tokio::spawn((self.serve)(stream, peer, place, self.shared.clone()));
        };
        accept_all(&self.listener, &self.shared.gate, serve).await;
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listener", &self.listener)
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

// === impl ServerBuilder ===

impl ServerBuilder {
    /// Sets how long the head of a request may take from its first byte, and
    /// the first byte from the beginning. Then the connection is cut.
    ///
    /// Default: [`Server::DEFAULT_HEAD_LIMIT`].
    pub const fn head_limit(mut self, limit: Duration) -> Self {
        self.limits.head = limit;
        self
    }

    /// Sets how long a connection may be without a request. Then it is ended in
    /// its own way, so that HTTP/2 is told.
    ///
    /// Default: [`Server::DEFAULT_IDLE_LIMIT`].
    pub const fn idle_limit(mut self, limit: Duration) -> Self {
        self.limits.idle = limit;
        self
    }

    /// Sets how many connections may be open, those included that a WebSocket
    /// has taken over.
    ///
    /// Default: [`Server::DEFAULT_CONNECTIONS`].
    pub const fn connections(mut self, limit: u32) -> Self {
        self.connections = limit;
        self
    }

    /// Measures connections with `meter`. Default: nothing is measured.
    pub fn meter(mut self, meter: &Meter) -> Self {
        self.meter = meter.clone();
        self
    }

    /// Finishes the server, which does not accept yet.
    ///
    /// # Errors
    ///
    /// Returns [`ServeError::Bounds`] for a limit of zero, or of more than a day.
    pub fn build(self) -> Result<Server, ServeError> {
        let bounds = |field| Err(ServeError::Bounds { field });
        let sensible = |limit: Duration| !limit.is_zero() && limit <= LONGEST;
        if !sensible(self.limits.head) {
            return bounds("head_limit");
        }
        if !sensible(self.limits.idle) {
            return bounds("idle_limit");
        }
        if self.connections == 0 {
            return bounds("connections");
        }
        Ok(Server {
            listener: self.listener,
            shared: Shared {
                gate: Gate::new(self.name, self.connections, &self.meter),
                limits: self.limits,
                draining: Draining::never(),
                cut: Draining::never(),
            },
            serve: self.serve,
        })
    }
}

/// Beyond a day a limit is a slip of the keyboard.
const LONGEST: Duration = Duration::from_secs(86_400);

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("name", &self.name)
            .field("listener", &self.listener)
            .field("limits", &self.limits)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
