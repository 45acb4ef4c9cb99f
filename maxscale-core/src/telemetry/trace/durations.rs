//! The histograms of requests, one per method, route and status that occurs.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use http::Method;

use crate::meter::{self, DURATION_BUCKETS, HotHistogram, HotHistograms, Meter, Metric, label};

/// Finds the histogram of a request without a lock that anybody writes under,
/// once its kind has been seen.
#[derive(Debug)]
pub(super) struct Durations {
    meter: Meter,
    /// By route; few, as routes are templates.
    http: Table<Answer>,
    /// By method, once it has succeeded: which ones there are no server tells, and
    /// a caller may make up any, which limits and the like refuse in other words.
    rpc: Table<GrpcStatus>,
}

type Table<K> = RwLock<BTreeMap<Box<str>, Arc<HotHistograms<K>>>>;

/// Method and status, of closed sets.
type Answer = (&'static str, u16);

/// A status of gRPC, 0 to 16; what is none is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GrpcStatus(u8);

/// More methods than any server has; a proxy's callers could name any.
const MOST_METHODS: usize = 1_000;

/// Names by number, as gRPC's specification has them.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The method, if it is one that HTTP itself knows.
pub(super) fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => label::OTHER,
    }
}

// === impl Durations ===

impl Durations {
    pub(super) fn new(meter: &Meter) -> Self {
        Self {
            meter: meter.clone(),
            http: RwLock::default(),
            rpc: RwLock::default(),
        }
    }

    pub(super) fn http(
        &self,
        method: &'static str,
        route: Option<&str>,
        status: u16,
    ) -> HotHistogram {
        let route = route.unwrap_or(label::OTHER);
        let of_route = self.kinds(&self.http, meter::HTTP_SERVER_REQUEST_DURATION, route);
        of_route.of((method, status), || {
            vec![
                (label::METHOD, method.to_owned()),
                (label::ROUTE, route.to_owned()),
                (label::STATUS, status.to_string()),
            ]
        })
    }

    /// Of the method that `path` names. One that has never succeeded is folded.
    pub(super) fn rpc(&self, path: &str, status: GrpcStatus) -> HotHistogram {
        let method = path.strip_prefix('/').unwrap_or(path);
        let methods = self.rpc.read().unwrap_or_else(PoisonError::into_inner);
        let known = methods.contains_key(method);
        let folded = !known && (!status.is_ok() || methods.len() >= MOST_METHODS);
        drop(methods);
        let method = if folded { label::OTHER } else { method };
        let of_method = self.kinds(&self.rpc, meter::RPC_SERVER_CALL_DURATION, method);
        of_method.of(status, || {
            vec![
                (label::RPC_SYSTEM, "grpc".to_owned()),
                (label::RPC_METHOD, method.to_owned()),
                (label::RPC_STATUS, status.name().to_owned()),
            ]
        })
    }

    fn kinds<K: PartialEq>(
        &self,
        table: &Table<K>,
        metric: Metric,
        name: &str,
    ) -> Arc<HotHistograms<K>> {
        let held = table.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = held.get(name) {
            return found.clone();
        }
        drop(held);
        let mut table = table.write().unwrap_or_else(PoisonError::into_inner);
        let made = || Arc::new(HotHistograms::new(&self.meter, metric, &DURATION_BUCKETS));
        table.entry(name.into()).or_insert_with(made).clone()
    }
}

// === impl GrpcStatus ===

impl GrpcStatus {
    /// What an answer without a status counts as.
    pub(super) const UNKNOWN: Self = Self(2);
    /// The caller is gone.
    pub(super) const CANCELLED: Self = Self(1);

    /// As `grpc-status` says it.
    pub(super) fn parse(text: &[u8]) -> Self {
        let text = std::str::from_utf8(text).ok();
        let number = text.and_then(|text| text.parse().ok());
        let known = number.filter(|number| usize::from(*number) < NAMES.len());
        known.map_or(Self::UNKNOWN, Self)
    }

    pub(super) const fn name(self) -> &'static str {
        NAMES[self.0 as usize]
    }

    /// Whether the server knows the method.
    pub(super) const fn is_served(self) -> bool {
        self.0 != 12
    }

    const fn is_ok(self) -> bool {
        self.0 == 0
    }

    /// Whether it is the server's failure, by OpenTelemetry's convention.
    pub(super) const fn is_failure(self) -> bool {
        matches!(self.0, 2 | 4 | 12..=15)
    }
}
