//! What all clones of a cache and of its layers have, and how they answer.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AGE, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use maxscale_core::Chain;
use maxscale_core::clock::{Clock, Timestamp};
use tokio::runtime::Handle;
use tokio::time::sleep;
use tracing::{Instrument as _, Span};

use super::body::HttpBody;
use super::cdn::{Tag, Tags};
use super::conditional::Conditions;
use super::hints::Hints;
use super::judge::Rules;
use super::purge::{DynPurge, Purged};
use super::status::{Outcome, Teller};
use super::store::Store;
use super::stored::{Freshness, Stored};
use super::target::Target;
use crate::Invalidated;

/// How often a CDN is told, and the first pause between.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(250);

pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) rules: Rules,
    pub(super) body_limit: usize,
    pub(super) clock: Clock,
    pub(super) teller: Teller,
    pub(super) purge: Option<Arc<dyn DynPurge>>,
}

/// What of a request decides how a stored response is sent.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) head: bool,
    pub(super) conditions: Conditions,
}

/// Tells the CDN to forget, in the background, when it is dropped: when the store has
/// forgotten, since the CDN may ask again at once, or when nobody waits for that.
struct PurgeThen {
    cdn: Arc<dyn DynPurge>,
    what: Purged,
    span: Span,
}

// === impl PurgeThen ===

impl Drop for PurgeThen {
    fn drop(&mut self) {
        // None while the process ends.
        if let Ok(runtime) = Handle::try_current() {
            let purge = purge(self.cdn.clone(), self.what.clone());
            runtime.spawn(purge.instrument(self.span.clone()));
        }
    }
}

async fn purge(cdn: Arc<dyn DynPurge>, what: Purged) {
    let mut pause = PAUSE;
    for _ in 0..ATTEMPTS {
        match cdn.purge(what.clone()).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "the CDN was not told to forget");
            }
        }
        sleep(pause).await;
        pause *= 4;
    }
}

// === impl Client ===

impl Client {
    pub(super) fn of(method: &Method, headers: &HeaderMap) -> Self {
        Self {
            head: *method == Method::HEAD,
            conditions: Conditions::of(headers),
        }
    }
}

// === impl Shared ===

impl Shared {
    /// The answer to a plain GET, if this process has it in its memory and nothing
    /// speaks against it.
    pub(super) fn respond_at_once<B, R>(
        &self,
        id: &str,
        request: &Request<B>,
        hints: Hints,
    ) -> Option<Response<HttpBody<R>>> {
        if hints.directs || hints.conditional || *request.method() == Method::HEAD {
            return None;
        }
        self.store
            .peek_at(id, |stored| self.respond_fresh(stored, request, hints))?
    }

    /// The answer to a plain GET that a stored response is for, while it is fresh.
    fn respond_fresh<B, R>(
        &self,
        stored: &Stored,
        request: &Request<B>,
        hints: Hints,
    ) -> Option<Response<HttpBody<R>>> {
        let now = self.clock.now();
        let Freshness::Fresh(left) = stored.freshness(now) else {
            return None;
        };
        let (headers, facts) = (request.headers(), request.extensions());
        if !stored.selection.matches_hinted(headers, facts, hints) {
            return None;
        }
        let outcome = Outcome::Hit { left };
        let told = stored.told(now, |told| self.teller.write(told, outcome));
        self.teller.count(outcome);
        let body = (!stored.body.is_empty()).then(|| stored.body.clone());
        let mut response = Response::new(HttpBody::whole(body));
        *response.status_mut() = stored.status;
        *response.headers_mut() = told;
        Some(response)
    }

    /// Answers with a stored response, or says that the client has it.
    pub(super) fn respond<R>(
        &self,
        stored: &Stored,
        client: &Client,
        now: Timestamp,
        outcome: Outcome,
    ) -> Response<HttpBody<R>> {
        let known = stored.status == StatusCode::OK && client.conditions.hold(&stored.headers);
        let body = match known || client.head || stored.body.is_empty() {
            true => None,
            false => Some(stored.body.clone()),
        };
        let mut response = Response::new(HttpBody::whole(body));
        let headers = response.headers_mut();
        if known {
            *headers = of_a_304(&stored.headers);
        } else {
            headers.clone_from(&stored.headers);
        }
        if client.head && !known {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(stored.body.len()));
        }
        headers.insert(AGE, HeaderValue::from(stored.age(now)));
        self.teller.tell(headers, outcome);
        *response.status_mut() = match known {
            true => StatusCode::NOT_MODIFIED,
            false => stored.status,
        };
        response
    }

    /// Forgets a resource, and has the CDN forget it.
    pub(super) async fn invalidate(&self, target: &Target) -> Invalidated {
        let _purge = self.purge_then(|| Purged::Url(target.url()));
        self.store.invalidate(&target.id()).await
    }

    /// Forgets what was sent with a tag, and has the CDN forget it.
    pub(super) async fn invalidate_tag(&self, tag: &Tag) -> Invalidated {
        let _purge = self.purge_then(|| Purged::Tags(Tags::of(tag.clone())));
        self.store.invalidate_tag(tag).await
    }

    /// Has the CDN told once the guard is dropped, if there is one.
    fn purge_then(&self, what: impl FnOnce() -> Purged) -> Option<PurgeThen> {
        let cdn = self.purge.clone()?;
        let (what, span) = (what(), Span::current());
        Some(PurgeThen { cdn, what, span })
    }

    pub(super) fn respond_stale<R>(
        &self,
        stored: &Stored,
        client: &Client,
    ) -> Response<HttpBody<R>> {
        let now = self.clock.now();
        let by = stored.age(now).saturating_sub(stored.life.fresh);
        self.respond(stored, client, now, Outcome::Stale { by })
    }
}

/// What a 304 tells: nothing that describes a body it has not.
fn of_a_304(headers: &HeaderMap) -> HeaderMap {
    let describes = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("content-")
            && !["content-location", "content-security-policy"].contains(&name)
    };
    let mut told = headers.clone();
    for name in headers.keys().filter(|name| describes(name)) {
        told.remove(name);
    }
    told
}
