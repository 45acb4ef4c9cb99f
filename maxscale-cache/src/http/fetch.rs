//! One call of the inner service, for whoever asked and for the store.
//!
//! It runs in a task of its own: who gives up waiting takes it from nobody, and a
//! load that the hub cuts off still answers whoever asked for it.

use std::any::Any;
use std::future::poll_fn;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use futures_util::future::poll_immediate;
use http::header::{AGE, CONTENT_LENGTH};
use http::request::Parts as Asked;
use http::response::Parts as Head;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use maxscale_core::BoxError;
use tokio::sync::{mpsc, oneshot};
use tower_service::Service;
use tracing::Instrument as _;

use super::body::{Fed, HttpBody};
use super::cdn::Tags;
use super::conditional::{Conditions, ask_again};
use super::judge::Seen;
use super::select::Selection;
use super::shared::{Client, Shared};
use super::status::Outcome;
use super::store::Nothing;
use super::stored::{Stored, Told};
use crate::Cache;

/// A request, and the service that was made ready for it.
pub(super) struct Errand<S, B> {
    pub(super) service: S,
    pub(super) request: Request<B>,
}

/// What whoever asked gets: an answer, the service's error, or its panic.
pub(super) type Handled<R, E> = Result<Result<Response<HttpBody<R>>, E>, Box<dyn Any + Send>>;

/// What a call is for.
pub(super) struct Fetch {
    pub(super) shared: Arc<Shared>,
    pub(super) id: String,
    /// What is stored, and stale.
    pub(super) prior: Option<Arc<Stored>>,
}

/// A call of which whoever asked has no answer yet.
struct Pending<R, E> {
    fetch: Fetch,
    asked: Asked,
    client: Client,
    reply: Option<oneshot::Sender<Handled<R, E>>>,
}

/// A body as far as it was read.
struct Gathered<R> {
    /// How long the whole is, if that is known.
    length: Option<u64>,
    body: Pin<Box<R>>,
    data: BytesMut,
}

// === impl Fetch ===

impl Fetch {
    /// Calls the service, answers by `reply`, and gives what may be stored.
    pub(super) async fn run<S, B, R>(
        self,
        errand: Errand<S, B>,
        reply: oneshot::Sender<Handled<R, S::Error>>,
    ) -> Result<Stored, Nothing>
    where
        S: Service<Request<B>, Response = Response<R>> + Send + 'static,
        S::Error: Send + 'static,
        S::Future: Send,
        B: Send + 'static,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let (land, landed) = oneshot::channel();
        let call = async move {
            let _ = land.send(self.call(errand, reply).await);
        };
        tokio::spawn(call.in_current_span());
        landed.await.unwrap_or(Err(Nothing::Failed))
    }

    async fn call<S, B, R>(
        self,
        errand: Errand<S, B>,
        reply: oneshot::Sender<Handled<R, S::Error>>,
    ) -> Result<Stored, Nothing>
    where
        S: Service<Request<B>, Response = Response<R>>,
        R: Body<Data = Bytes>,
        R::Error: Into<BoxError>,
    {
        let Errand {
            mut service,
            request,
        } = errand;
        let (mut parts, body) = request.into_parts();
        let client = Client::of(&parts.method, &parts.headers);
        // Also where a HEAD found something stale.
        parts.method = Method::GET;
        let asked = parts.clone();
        Conditions::remove_from(&mut parts.headers);
        if let Some(prior) = &self.prior {
            ask_again(&mut parts.headers, &prior.headers, prior.own_tag);
        }
        let call = service.call(Request::from_parts(parts, body));
        let answer = AssertUnwindSafe(call).catch_unwind().await;
        let mut pending = Pending {
            fetch: self,
            asked,
            client,
            reply: Some(reply),
        };
        match answer {
            Ok(Ok(response)) => pending.take(response).await,
            Ok(Err(error)) => {
                if !pending.answer_stale() {
                    pending.answer(Ok(Err(error)));
                }
                Err(Nothing::Failed)
            }
            Err(panic) => {
                pending.answer(Err(panic));
                Err(Nothing::Failed)
            }
        }
    }
}

// === impl Pending ===

impl<R, E> Pending<R, E>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    async fn take(&mut self, response: Response<R>) -> Result<Stored, Nothing> {
        let (head, body) = response.into_parts();
        let confirms = head.status == StatusCode::NOT_MODIFIED;
        if let Some(prior) = self.fetch.prior.clone().filter(|_| confirms) {
            return self.confirm(&prior, &head).await;
        }
        if is_upstream_error(head.status) && self.answer_stale() {
            return Err(Nothing::Failed);
        }
        match self.storable(&head) {
            Some(stored) if body.size_hint().lower() <= self.fetch.shared.body_limit as u64 => {
                self.gather(stored, head, body).await
            }
            _ => self.pass(head, body).await,
        }
    }

    /// What would be stored of an answer, but for its body; none if nothing may be.
    fn storable(&self, head: &Head) -> Option<Stored> {
        let shared = &self.fetch.shared;
        let (headers, at) = (&head.headers, shared.clock.now());
        let seen = Seen {
            status: head.status,
            headers,
            at,
        };
        let life = shared.rules.judge(&self.asked, seen)?;
        let (asked, facts) = (&self.asked.headers, &self.asked.extensions);
        let selection = Selection::of(asked, facts, headers, shared.rules.per_principal)?;
        if Tags::named_in(headers).len() > Cache::<Stored>::MAX_TAGS {
            return None;
        }
        let prior = self.fetch.prior.as_ref();
        let alike = prior.filter(|prior| prior.selection.looks_at_the_same(&selection));
        // What was stored beside the one before is stored beside this one.
        let salt = alike.map_or_else(salt, |prior| prior.salt);
        Some(Stored {
            status: head.status,
            headers: Stored::keep(headers, at)?,
            body: Bytes::new(),
            at,
            life,
            own_tag: false,
            selection,
            salt,
            told: Told::default(),
        })
    }

    /// The stored response is still the right one.
    async fn confirm(&mut self, prior: &Stored, head: &Head) -> Result<Stored, Nothing> {
        let shared = self.fetch.shared.clone();
        let merged = prior.confirmed(&head.headers, shared.clock.now());
        let (mut merged_head, ()) = Response::new(()).into_parts();
        merged_head.status = prior.status;
        merged_head.headers = merged.unwrap_or_else(|| prior.headers.clone());
        if let Some(age) = head.headers.get(AGE) {
            merged_head.headers.insert(AGE, age.clone());
        }
        let outcome = Outcome::Revalidated { status: 304 };
        let Some(mut stored) = self.storable(&merged_head) else {
            let answer = shared.respond(prior, &self.client, shared.clock.now(), outcome);
            self.answer(Ok(Ok(answer)));
            return self.forget().await;
        };
        stored.body = prior.body.clone();
        stored.own_tag = prior.own_tag;
        let answer = shared.respond(&stored, &self.client, stored.at, outcome);
        self.answer(Ok(Ok(answer)));
        Ok(stored)
    }

    /// Hands on what is not stored.
    async fn pass(&mut self, head: Head, body: R) -> Result<Stored, Nothing> {
        let failed = head.status.is_server_error();
        self.hand_on(head, HttpBody::inner(body));
        if failed {
            return Err(Nothing::Failed);
        }
        self.forget().await
    }

    /// Notes that what is asked for is for nobody else, or not any more.
    async fn forget(&self) -> Result<Stored, Nothing> {
        let Fetch {
            shared, id, prior, ..
        } = &self.fetch;
        if prior.is_some() {
            let _ = shared.store.invalidate(id).await;
        }
        shared.store.note_unshared(id);
        Err(Nothing::Unshared)
    }

    /// Reads a body that is to be stored. What is there at once is answered from
    /// what is stored, and what takes time is handed on as it comes.
    async fn gather(&mut self, mut stored: Stored, head: Head, body: R) -> Result<Stored, Nothing> {
        let declared = head.headers.get(CONTENT_LENGTH);
        let declared = declared.and_then(|text| text.to_str().ok()?.parse().ok());
        let limit = self.fetch.shared.body_limit;
        let mut gathered = Gathered {
            length: body.size_hint().exact(),
            body: Box::pin(body),
            data: BytesMut::new(),
        };
        let mut feed = None;
        let end = loop {
            let next = match feed {
                None => poll_immediate(gathered.next()).await,
                Some(_) => Some(gathered.next().await),
            };
            match next {
                None => feed = Some(self.relay(&head, &gathered)),
                Some(Some(Ok(frame))) => match gathered.add(frame, limit) {
                    Ok(data) => send(feed.as_ref(), Fed::Frame(Frame::data(data))),
                    Err(frame) => break Some(Fed::Frame(frame)),
                },
                Some(Some(Err(error))) => break Some(Fed::Failed(error)),
                Some(None) => break None,
            }
        };
        let shared = self.fetch.shared.clone();
        let whole = declared.is_none_or(|length: usize| length == gathered.data.len());
        let Some(end) = end.or((!whole).then_some(Fed::End)) else {
            stored.body = gathered.data.freeze();
            stored.tag();
            if let Some(feed) = feed {
                let _ = feed.send(Fed::End);
            } else {
                let outcome = self.outcome(&head, true);
                let mut answer = shared.respond(&stored, &self.client, stored.at, outcome);
                *answer.extensions_mut() = head.extensions;
                self.answer(Ok(Ok(answer)));
            }
            shared.store.note_shared(&self.fetch.id);
            return Ok(stored);
        };
        let feed = feed.unwrap_or_else(|| self.relay(&head, &gathered));
        let goes_on = matches!(end, Fed::Frame(_));
        let _ = feed.send(end);
        if !goes_on {
            return Err(Nothing::Failed);
        }
        let _ = feed.send(Fed::Rest(gathered.body));
        self.forget().await
    }

    /// Answers with a body that is on its way, and of which something is there.
    fn relay(&mut self, head: &Head, gathered: &Gathered<R>) -> mpsc::UnboundedSender<Fed<R>> {
        let (feed, fed) = mpsc::unbounded_channel();
        if !gathered.data.is_empty() {
            let data = Bytes::copy_from_slice(&gathered.data);
            let _ = feed.send(Fed::Frame(Frame::data(data)));
        }
        self.hand_on(head.clone(), HttpBody::relay(fed, gathered.length));
        feed
    }

    fn hand_on(&mut self, head: Head, body: HttpBody<R>) {
        let shared = self.fetch.shared.clone();
        let outcome = self.outcome(&head, false);
        let known = head.status == StatusCode::OK && self.client.conditions.hold(&head.headers);
        let mut response = Response::from_parts(head, body);
        if known {
            response = response.map(|_| HttpBody::whole(None));
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        shared.teller.tell(response.headers_mut(), outcome);
        self.answer(Ok(Ok(response)));
    }

    fn outcome(&self, head: &Head, stored: bool) -> Outcome {
        let status = head.status.as_u16();
        match self.fetch.prior {
            Some(_) => Outcome::Revalidated { status },
            None => Outcome::Miss { stored },
        }
    }

    /// Answers with what is stored, if that is better than an error.
    fn answer_stale(&mut self) -> bool {
        let shared = self.fetch.shared.clone();
        let now = shared.clock.now();
        let Some(prior) = self.fetch.prior.clone() else {
            return false;
        };
        shared.store.note_failed(&self.fetch.id);
        if !prior.serves_for_an_error(now) {
            return false;
        }
        self.answer(Ok(Ok(shared.respond_stale(&prior, &self.client))));
        true
    }

    /// Answers, the first time.
    fn answer(&mut self, handled: Handled<R, E>) {
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(handled);
        }
    }
}

/// What RFC 5861 calls an error.
fn is_upstream_error(status: StatusCode) -> bool {
    [500, 502, 503, 504].contains(&status.as_u16())
}

fn salt() -> u64 {
    // Only has to differ from others; std seeds it from the system.
    RandomState::new().build_hasher().finish()
}

fn send<R>(feed: Option<&mpsc::UnboundedSender<Fed<R>>>, fed: Fed<R>) {
    if let Some(feed) = feed {
        let _ = feed.send(fed);
    }
}

// === impl Gathered ===

impl<R> Gathered<R>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, BoxError>> {
        let body = &mut self.body;
        let next = poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
        next.map(|frame| frame.map_err(Into::into))
    }

    /// Adds data; gives the frame back if it is none, or too much.
    fn add(&mut self, frame: Frame<Bytes>, limit: usize) -> Result<Bytes, Frame<Bytes>> {
        let data = frame.into_data()?;
        if self.data.len().saturating_add(data.len()) > limit {
            return Err(Frame::data(data));
        }
        self.data.extend_from_slice(&data);
        Ok(data)
    }
}
