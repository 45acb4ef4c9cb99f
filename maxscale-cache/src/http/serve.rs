//! The way of a request through the cache.
//!
//! ```text
//!  id ─ stored? ─ for this request? ─ fresh ─ hit
//!  ^       │              │             └── stale ─ served while a new one is fetched
//!  │       │              no                  └──── fetched anew, by one for all
//!  │       no             └─ the id of the variant ─┐
//!  │       └─ fetched, by one for all who wait      │
//!  └────────────────────────────────────────────────┘
//! ```
//!
//! Whoever waited and got nothing that is for him calls the service himself.

use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::{Either, join_all, select};
use http::header::{CACHE_CONTROL, CONTENT_LOCATION, LOCATION};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use maxscale_core::BoxError;
use tokio::sync::oneshot;
use tower_service::Service;
use tracing::Instrument as _;

use super::body::HttpBody;
use super::directives::Directives;
use super::fetch::{Errand, Fetch, Handled};
use super::judge::Seen;
use super::shared::{Client, Shared};
use super::status::Outcome;
use super::store::{Got, Nothing, Replacing};
use super::stored::{Freshness, Stored};
use super::target::Target;

/// A response that varies by more than one thing can be that many steps away.
const STEPS: usize = 4;

pub(super) type Reply<S, B, R> = Result<Response<HttpBody<R>>, <S as Service<Request<B>>>::Error>;

/// What came of asking the store.
enum Turn<S: Service<Request<B>>, B, R> {
    /// The request was the one that was sent on, and this is its answer.
    Answered(Reply<S, B, R>),
    /// It was not.
    Got(Errand<S, B>, Got),
}

/// A request, until somebody takes it.
struct Slot<T>(Arc<Mutex<Option<T>>>);

/// A request that a cache may answer.
struct Serving<S, B> {
    shared: Arc<Shared>,
    errand: Errand<S, B>,
    id: String,
}

/// Answers a GET or HEAD.
pub(super) async fn serve<S, B, R>(
    shared: Arc<Shared>,
    errand: Errand<S, B>,
    id: String,
) -> Reply<S, B, R>
where
    S: Service<Request<B>, Response = Response<R>> + Send + 'static,
    S::Error: Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let mut serving = Serving { shared, errand, id };
    let asks = Asks::of(&serving.errand.request);
    for _ in 0..STEPS {
        if serving.shared.store.is_unshared(&serving.id) {
            break;
        }
        let got = if asks.only_looks() {
            Ok(serving.shared.store.get(&serving.id).await)
        } else {
            let Serving { shared, errand, id } = serving;
            let (cache, own) = (shared.clone(), id.clone());
            match turn(cache, errand, own, None).await {
                Turn::Answered(reply) => return reply,
                Turn::Got(errand, got) => {
                    serving = Serving { shared, errand, id };
                    got
                }
            }
        };
        let Ok(Some(stored)) = got else {
            break;
        };
        if serving.errand.is_answered_by(&stored) {
            return serving.answer_from(stored, asks).await;
        }
        let request = &serving.errand.request;
        serving.id.push_str(&format!("\n{:016x}", stored.salt));
        let (headers, facts) = (request.headers(), request.extensions());
        stored.selection.push_id(&mut serving.id, headers, facts);
    }
    serving.directly(asks).await
}

/// Lets a method through that may change things, and drops what it may have changed.
pub(super) async fn change<S, B, R>(shared: Arc<Shared>, errand: Errand<S, B>) -> Reply<S, B, R>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    let target = Target::of(&errand.request);
    let Errand {
        mut service,
        request,
    } = errand;
    let mut response = service.call(request).await?;
    let status = response.status();
    if status.is_success() || status.is_redirection() {
        let mut changed = vec![target];
        for name in [LOCATION, CONTENT_LOCATION] {
            let named = response.headers().get(name);
            let named = named.and_then(|named| changed[0].neighbour(named.to_str().ok()?));
            changed.extend(named);
        }
        join_all(changed.iter().map(|target| shared.invalidate(target))).await;
    }
    shared.teller.tell(response.headers_mut(), Outcome::Method);
    Ok(response.map(HttpBody::inner))
}

/// What a request says of the answer it wants.
#[derive(Clone, Copy, Debug)]
struct Asks {
    head: bool,
    /// It has directives of its own.
    directs: bool,
    only_if_cached: bool,
}

// === impl Asks ===

impl Asks {
    fn of<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        let directs = headers.contains_key(CACHE_CONTROL);
        Self {
            head: request.method() == Method::HEAD,
            directs,
            only_if_cached: directs && Directives::of(headers).has("only-if-cached"),
        }
    }

    /// Whether the inner service is not to be asked for something to store.
    const fn only_looks(self) -> bool {
        self.head || self.only_if_cached
    }
}

// === impl Errand ===

impl<S, B> Errand<S, B> {
    fn client(&self) -> Client {
        Client::of(self.request.method(), self.request.headers())
    }

    fn is_answered_by(&self, stored: &Stored) -> bool {
        let (headers, facts) = (self.request.headers(), self.request.extensions());
        stored.selection.matches(headers, facts)
    }
}

// === impl Serving ===

impl<S, B, R> Serving<S, B>
where
    S: Service<Request<B>, Response = Response<R>> + Send + 'static,
    S::Error: Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    /// Answers with what is stored for this very request, as far as it is good.
    async fn answer_from(self, stored: Arc<Stored>, asks: Asks) -> Reply<S, B, R> {
        let now = self.shared.clock.now();
        let freshness = stored.freshness(now);
        let good = match freshness {
            _ if asks.directs => self.satisfies(&stored),
            Freshness::Fresh(_) => true,
            _ => false,
        };
        let client = self.errand.client();
        if good {
            let Freshness::Fresh(left) = freshness else {
                return Ok(self.shared.respond_stale(&stored, &client));
            };
            let outcome = Outcome::Hit { left };
            return Ok(self.shared.respond(&stored, &client, now, outcome));
        }
        let failed = self.shared.store.failed_just_now(&self.id);
        if failed && !asks.directs && stored.serves_for_an_error(now) {
            return Ok(self.shared.respond_stale(&stored, &client));
        }
        if freshness == Freshness::WhileRevalidate && !asks.directs {
            let answer = self.shared.respond_stale(&stored, &client);
            if let Some(right) = self.shared.store.begin_replacing(&self.id) {
                tokio::spawn(self.replace(stored, right).in_current_span());
            }
            return Ok(answer);
        }
        if asks.only_looks() {
            return self.directly(asks).await;
        }
        self.again(stored, asks).await
    }

    /// Fetches in the foreground what is stored and stale.
    async fn again(self, stored: Arc<Stored>, asks: Asks) -> Reply<S, B, R> {
        let Self { shared, errand, id } = self;
        let prior = Some(stored.clone());
        let (errand, got) = match turn(shared.clone(), errand, id.clone(), prior).await {
            Turn::Answered(reply) => return reply,
            Turn::Got(errand, got) => (errand, got),
        };
        let again = Self { shared, errand, id };
        let now = again.shared.clock.now();
        match got {
            Ok(Some(new)) if again.errand.is_answered_by(&new) => {
                let Freshness::Fresh(left) = new.freshness(now) else {
                    return again.directly(asks).await;
                };
                let (client, outcome) = (again.errand.client(), Outcome::Hit { left });
                Ok(again.shared.respond(&new, &client, now, outcome))
            }
            Err(_) if stored.serves_for_an_error(now) => {
                Ok(again.shared.respond_stale(&stored, &again.errand.client()))
            }
            _ => again.directly(asks).await,
        }
    }

    /// Fetches in the background what is stored and stale.
    async fn replace(self, stored: Arc<Stored>, right: Replacing) {
        // Whoever had the right before may have been done since this request looked.
        let now = self.shared.clock.now();
        let is_fresh = |it: &Stored| matches!(it.freshness(now), Freshness::Fresh(_));
        if self.shared.store.peek_at(&self.id, is_fresh) == Some(true) {
            return;
        }
        let _: Turn<S, B, R> = turn(self.shared, self.errand, self.id, Some(stored)).await;
        drop(right);
    }

    /// Calls the inner service for this request alone.
    async fn directly(self, asks: Asks) -> Reply<S, B, R> {
        let Self { shared, errand, id } = self;
        if asks.only_if_cached {
            let mut response = Response::new(HttpBody::whole(None));
            *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
            let headers = response.headers_mut();
            shared.teller.tell(headers, Outcome::OnlyIfCached);
            return Ok(response);
        }
        let Errand {
            mut service,
            request,
        } = errand;
        let (parts, body) = request.into_parts();
        let asked = shared.store.is_unshared(&id).then(|| parts.clone());
        let call = service.call(Request::from_parts(parts, body));
        let mut response = call.await?;
        if let Some(asked) = asked {
            let seen = Seen {
                status: response.status(),
                headers: response.headers(),
                at: shared.clock.now(),
            };
            // The next one may be for all again.
            if shared.rules.judge(&asked, seen).is_some() {
                shared.store.note_shared(&id);
            }
        }
        let outcome = Outcome::Miss { stored: false };
        shared.teller.tell(response.headers_mut(), outcome);
        Ok(response.map(HttpBody::inner))
    }

    fn satisfies(&self, stored: &Stored) -> bool {
        let request = &self.errand.request;
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.uri = request.uri().clone();
        parts.headers.clone_from(request.headers());
        stored.satisfies(self.shared.rules, &parts, self.shared.clock.now())
    }
}

/// Asks the store, or the inner service for all who ask meanwhile: for what is not
/// stored, or for something in place of `prior`.
async fn turn<S, B, R>(
    shared: Arc<Shared>,
    errand: Errand<S, B>,
    id: String,
    prior: Option<Arc<Stored>>,
) -> Turn<S, B, R>
where
    S: Service<Request<B>, Response = Response<R>> + Send + 'static,
    S::Error: Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    // Whoever does not lead gets his request back.
    let slot = Slot(Arc::new(Mutex::new(Some(errand))));
    let (reply, replied) = oneshot::channel();
    let replaces = prior.is_some();
    let fetch = Fetch {
        shared: shared.clone(),
        id: id.clone(),
        prior,
    };
    let taken = slot.clone();
    let load = move || async move {
        match taken.take() {
            Some(errand) => fetch.run(errand, reply).await,
            None => Err(Nothing::Failed),
        }
    };
    let call = async {
        match replaces {
            true => shared.store.replace(&id, load).await,
            false => shared.store.get_or_load(&id, load).await,
        }
    };
    // A body that takes its time is answered before it is stored.
    let (got, replied) = match select(pin!(call), replied).await {
        Either::Left((got, replied)) => (got, Some(replied)),
        Either::Right((Ok(handled), _)) => return Turn::Answered(answer(handled)),
        Either::Right((Err(_), call)) => (call.await, None),
    };
    if let Some(errand) = slot.take() {
        return Turn::Got(errand, got);
    }
    // The hub may have stopped waiting for a call that goes on.
    let handled = match replied {
        Some(replied) => replied.await.ok(),
        None => None,
    };
    Turn::Answered(handled.map_or_else(|| Ok(gone()), answer))
}

fn answer<R, E>(handled: Handled<R, E>) -> Result<Response<HttpBody<R>>, E> {
    handled.unwrap_or_else(|panic| resume_unwind(panic))
}

/// The runtime ended the call.
fn gone<R>() -> Response<HttpBody<R>> {
    let mut response = Response::new(HttpBody::whole(None));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

// === impl Slot ===

impl<T> Slot<T> {
    fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
