//! What becomes of a track, told as it happens: as server-sent events, or as
//! WebSocket messages to who asks for an upgrade.
//!
//! ```text
//!  first state ── next states ──┬── done or failed: the end
//!                               ├── the server ends: told, so that clients come again
//!                               └── five minutes: who asks again is looked up again
//! ```
//!
//! A browser sends the session's cookie with no WebSocket of another site: it is
//! `SameSite=Strict`.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{MatchedPath, Path, Request, State};
use axum::http::header::UPGRADE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse as _, Response, Sse};
use futures_util::{SinkExt as _, Stream, StreamExt as _, future, stream};
use maxscale_core::id::Id;
use maxscale_core::limit::Held;
use maxscale_core::serve::Draining;
use maxscale_shard::FreshShard;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::App;
use super::changed::Mine;
use super::project::owned;
use super::reply::{ApiError, User, path_error};
use super::track::shown;

/// One read of a row by its key, for each stream.
const EVERY: Duration = Duration::from_secs(1);

/// Who was logged in when a stream began may have been logged out since.
const LONGEST: Duration = Duration::from_secs(300);

/// When a client of a server that ends should come again.
const AGAIN: Duration = Duration::from_secs(1);

/// A message that cannot be sent for so long has nobody who reads it.
const UNREAD: Duration = Duration::from_secs(10);

/// Nothing that a client sends is looked at.
const MOST_RECEIVED: usize = 1_024;

/// The track that is watched.
struct Watched {
    app: App,
    shard: FreshShard,
    user: Id,
    project: Id,
    track: Id,
    /// One of the user's streams, as long as this lives.
    _held: Option<Held>,
}

/// Why a stream has no further state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// There will be none.
    Final,
    /// The server is about to end.
    Draining,
    /// It lasted long enough, or the track cannot be read any more.
    Again,
}

pub(super) async fn watch(
    State(app): State<App>,
    User(principal): User,
    mine: Mine,
    (Extension(draining), held): (Extension<Draining>, Option<Extension<Held>>),
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let Path((project, track)) = path.map_err(path_error)?;
    let user = principal.user();
    let project = owned(&app, &mine, user, &project).await?.id;
    let missing = || ApiError::not_found("track");
    let track: Id = track.parse().map_err(|_| missing())?;
    let watched = Watched {
        app,
        shard: mine.shard,
        user,
        project,
        track,
        _held: held.map(|Extension(held)| held),
    };
    let first = watched.look().await?.ok_or_else(missing)?;
    let states = watched.states(first);
    match upgrade {
        Ok(upgrade) => {
            let upgrade = upgrade.max_message_size(MOST_RECEIVED);
            Ok(upgrade.on_upgrade(move |socket| send_messages(socket, states, draining)))
        }
        // Who wanted a WebSocket is told what was wrong about it.
        Err(rejection) if wants_websocket(&headers) => Ok(rejection.into_response()),
        Err(_) => Ok(events(states, draining)),
    }
}

/// Whether a request asks for a stream of events.
pub(crate) fn is_stream(request: &Request) -> bool {
    let route = request.extensions().get::<MatchedPath>();
    route.is_some_and(|route| route.as_str().ends_with("/events"))
}

fn wants_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).map(HeaderValue::as_bytes);
    upgrade.is_some_and(|to| to.eq_ignore_ascii_case(b"websocket"))
}

// === impl Watched ===

impl Watched {
    async fn look(&self) -> Result<Option<Value>, ApiError> {
        let tracks = &self.app.tracks;
        match tracks.see(&self.shard, self.project, self.track).await? {
            Some(track) => Ok(Some(shown(&self.app, self.user, &track).await?)),
            None => Ok(None),
        }
    }

    /// `first`, and each other state once it is there, up to the last one. Ends
    /// early when the track is gone or cannot be read.
    fn states(self, first: Value) -> impl Stream<Item = Value> + Send {
        stream::unfold((self, None, Some(first)), |(watched, last, next)| {
            watched.next_state(last, next)
        })
    }

    /// `next`, or else the first state that is not the `last` one.
    async fn next_state(
        self,
        last: Option<Value>,
        mut next: Option<Value>,
    ) -> Option<(Value, (Self, Option<Value>, Option<Value>))> {
        if last.as_ref().is_some_and(is_final) {
            return None;
        }
        while next.is_none() || next == last {
            sleep(EVERY).await;
            next = Some(self.look().await.ok().flatten()?);
        }
        let state = next?;
        Some((state.clone(), (self, Some(state), None)))
    }
}

fn is_final(state: &Value) -> bool {
    matches!(state["state"].as_str(), Some("done" | "failed"))
}

/// The states as long as they may last, then why there is no further one.
fn until_the_end(
    states: impl Stream<Item = Value> + Send,
    draining: Draining,
) -> impl Stream<Item = Result<Value, Ended>> + Send {
    let over = Box::pin(async move {
        tokio::select! {
            () = draining.wait() => Ended::Draining,
            () = sleep(LONGEST) => Ended::Again,
        }
    });
    let open = (Box::pin(states), over, Ended::Again);
    stream::unfold(Some(open), |open| async {
        let (mut states, mut over, at_its_end) = open?;
        let state = tokio::select! {
            why = &mut over => return Some((Err(why), None)),
            state = states.next() => state,
        };
        let Some(state) = state else {
            return Some((Err(at_its_end), None));
        };
        let at_its_end = if is_final(&state) {
            Ended::Final
        } else {
            Ended::Again
        };
        Some((Ok(state), Some((states, over, at_its_end))))
    })
}

fn events(states: impl Stream<Item = Value> + Send + 'static, draining: Draining) -> Response {
    let events = until_the_end(states, draining).filter_map(|told| {
        future::ready(match told {
            Ok(state) => Some(Event::default().event("track").data(state.to_string())),
            // An EventSource comes again by itself, and from here on knows when.
            Err(Ended::Draining) => Some(Event::default().event("draining").retry(AGAIN).data("")),
            Err(Ended::Final | Ended::Again) => None,
        })
    });
    let events = events.map(Ok::<_, Infallible>);
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}

async fn send_messages(
    socket: WebSocket,
    states: impl Stream<Item = Value> + Send + 'static,
    draining: Draining,
) {
    let (mut sink, mut received) = socket.split();
    let mut told = std::pin::pin!(until_the_end(states, draining));
    loop {
        // What is received answers pings and tells of the end; nothing else is awaited.
        let told = tokio::select! {
            message = received.next() => match message {
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return,
            },
            told = told.next() => told,
        };
        let message = match told {
            Some(Ok(state)) => Message::Text(state.to_string().into()),
            Some(Err(why)) => Message::Close(Some(close(why))),
            None => break,
        };
        if !matches!(timeout(UNREAD, sink.send(message)).await, Ok(Ok(()))) {
            return;
        }
    }
    // Closed at once, the connection could lose the last message.
    let answered = async { while let Some(Ok(_)) = received.next().await {} };
    let _ = timeout(AGAIN, answered).await;
}

fn close(why: Ended) -> CloseFrame {
    let (code, reason) = match why {
        Ended::Final => (close_code::NORMAL, "this was the last state"),
        Ended::Draining => (close_code::AWAY, "this server ends; come again"),
        Ended::Again => (close_code::AGAIN, "come again"),
    };
    CloseFrame {
        code,
        reason: reason.into(),
    }
}
