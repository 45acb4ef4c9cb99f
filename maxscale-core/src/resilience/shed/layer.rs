use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::{fmt, mem};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{Entry, LoadShedPermit, LoadShedder, Overloaded};
use crate::fact::{ClientIp, Deadline, Facts, Subject};
use crate::refusal::admitted::Admitted;
use crate::refusal::{Asker, Refusal, Refuse};
use crate::resilience::Priority;

/// Gives each request a place of a [`LoadShedder`] until the head of its answer, by the
/// request's [`Priority`] and by who asks.
///
/// A request that is refused is answered 503, or its gRPC twin. The priority is a fact
/// that a layer further out adds; no header is read.
#[derive(Clone, Debug)]
pub struct LoadShedderLayer<K = ByCaller> {
    shedder: LoadShedder,
    key: K,
}

/// The service that [`LoadShedderLayer`] makes.
#[derive(Clone, Debug)]
pub struct LoadShed<S, K = ByCaller> {
    inner: S,
    layer: LoadShedderLayer<K>,
}

/// Says who asks; functions `Fn(&Q) -> Option<String>` do. Asked only while somebody has
/// to wait.
pub trait LoadShedKey<Q> {
    /// Who asks: all requests of one are shed, or none. `None`: nobody knows.
    fn who<'a>(&self, request: &'a Q) -> Option<Cow<'a, str>>;
}

/// The [`Subject`], if a layer further out knows it, and otherwise the [`ClientIp`]: of
/// IPv6 the network of 64 bits.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ByCaller;

pin_project! {
    /// Response future of [`LoadShed`].
    pub struct LoadShedFuture<F, R, E> {
        #[pin]
        call: Admitted<F, LoadShedPermit, R, E>,
    }
}

// === impl LoadShedKey ===

impl<Q, F: Fn(&Q) -> Option<String>> LoadShedKey<Q> for F {
    fn who<'a>(&self, request: &'a Q) -> Option<Cow<'a, str>> {
        self(request).map(Cow::Owned)
    }
}

impl<Q: Facts> LoadShedKey<Q> for ByCaller {
    fn who<'a>(&self, request: &'a Q) -> Option<Cow<'a, str>> {
        if let Some(subject) = request.fact::<Subject>() {
            return Some(Cow::Borrowed(subject.as_str()));
        }
        let ClientIp(ip) = request.fact::<ClientIp>()?;
        let ip = match *ip {
            IpAddr::V4(_) => *ip,
            IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) >> 64 << 64).into(),
        };
        Some(Cow::Owned(ip.to_string()))
    }
}

// === impl LoadShedderLayer ===

impl LoadShedderLayer {
    /// Asks `shedder`; see [`ByCaller`] for who is told apart.
    pub const fn new(shedder: LoadShedder) -> Self {
        Self {
            shedder,
            key: ByCaller,
        }
    }

    /// Tells callers apart by `key`.
    pub fn keyed_by<K>(self, key: K) -> LoadShedderLayer<K> {
        LoadShedderLayer {
            shedder: self.shedder,
            key,
        }
    }
}

impl<S, K: Clone> Layer<S> for LoadShedderLayer<K> {
    type Service = LoadShed<S, K>;

    fn layer(&self, inner: S) -> Self::Service {
        LoadShed {
            inner,
            layer: self.clone(),
        }
    }
}

// === impl LoadShed ===

impl<S, K, Q> Service<Q> for LoadShed<S, K>
where
    S: Service<Q> + Clone + Send + 'static,
    S::Response: Refuse,
    S::Future: Send,
    Q: Facts + Send + 'static,
    K: LoadShedKey<Q>,
{
    type Response = <S::Response as Refuse>::Reply;
    type Error = S::Error;
    type Future = LoadShedFuture<S::Future, Self::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Q) -> Self::Future {
        let LoadShedderLayer { shedder, key } = &self.layer;
        let priority = req.fact::<Priority>().copied().unwrap_or_default();
        let call = match shedder.try_enter(priority, || key.who(&req)) {
            Ok(Entry::Permit(permit)) => Admitted::forward(self.inner.call(req), Some(permit)),
            Ok(Entry::Wait) => {
                // `poll_ready` readied this value and not its clone, so this one goes along.
                let clone = self.inner.clone();
                let mut service = mem::replace(&mut self.inner, clone);
                let shedder = shedder.clone();
                Admitted::wait(async move {
                    let deadline = req.fact::<Deadline>().copied();
                    match shedder.wait(priority, deadline).await {
                        Ok(_permit) => service.call(req).await.map(Refuse::pass),
                        Err(error) => Ok(refused::<S::Response, Q>(&error, &req)),
                    }
                })
            }
            Err(error) => Admitted::refuse(refused::<S::Response, Q>(&error, &req)),
        };
        LoadShedFuture { call }
    }
}

fn refused<A: Refuse, Q: Facts>(error: &Overloaded, req: &Q) -> A::Reply {
    A::refuse(Refusal::new(error), &Asker::of(req))
}

// === impl LoadShedFuture ===

impl<F, A, E> Future for LoadShedFuture<F, A::Reply, E>
where
    F: Future<Output = Result<A, E>>,
    A: Refuse,
{
    type Output = Result<A::Reply, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}

impl<F, R, E> fmt::Debug for LoadShedFuture<F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadShedFuture").finish_non_exhaustive()
    }
}
