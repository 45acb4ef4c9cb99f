//! Requests that go on while a test breaks what they stand on.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use maxscale_tests::eventually;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::client::{Answer, Client, PLUCK, send};
use crate::waited::Waited;

/// Clients that rename themselves, read, create and upload, each one request
/// after the other, until [`end`](Load::end).
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    rounds: Vec<Arc<AtomicUsize>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    tasks: JoinSet<()>,
}

/// A request and how it was answered.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The request.
    pub(crate) what: String,
    /// How long the client waited, where the machine had time for it.
    pub(crate) took: Duration,
    /// The answer's status, or why there was none or not the right one.
    pub(crate) outcome: Result<u16, String>,
}

/// A client's requests come at this pace, so that the machine has time for more.
const PACE: Duration = Duration::from_millis(20);
const ROUNDS_PER_UPLOAD: usize = 20;
const LIMIT: Duration = Duration::from_secs(60);

// === impl Load ===

impl Load {
    /// Begins; each of `clients` has a session.
    pub(crate) fn start(clients: impl IntoIterator<Item = Client>) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            rounds: Vec::new(),
            seen: Arc::default(),
            tasks: JoinSet::new(),
        };
        for client in clients {
            let user = User {
                client,
                seen: load.seen.clone(),
            };
            let (stop, rounds) = (load.stop.clone(), Arc::<AtomicUsize>::default());
            load.rounds.push(rounds.clone());
            load.tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    user.round(rounds.load(Ordering::Relaxed)).await;
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        load
    }

    /// Waits until every client went through `count` more rounds from their beginning.
    pub(crate) async fn more(&self, count: usize) {
        let done = |rounds: &Arc<AtomicUsize>| rounds.load(Ordering::Relaxed);
        let before: Vec<usize> = self.rounds.iter().map(done).collect();
        eventually(LIMIT, async || {
            let mut rounds = self.rounds.iter().map(done).zip(&before);
            // The round under way began before.
            rounds.all(|(now, before)| now > before + count)
        })
        .await;
    }

    /// Ends after the requests under way; gives all that were sent.
    pub(crate) async fn end(mut self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// Every request was answered with success, and within `limit`.
pub(crate) fn assert_well(title: &str, seen: &[Seen], limit: Duration) {
    let worst = seen.iter().max_by_key(|seen| seen.took).unwrap();
    eprintln!(
        "{title}: {} requests, the slowest took {:?}: {}",
        seen.len(),
        worst.took,
        worst.what
    );
    let bad = |seen: &&Seen| !matches!(seen.outcome, Ok(200..=299)) || seen.took > limit;
    let bad: Vec<&Seen> = seen.iter().filter(bad).collect();
    assert!(bad.is_empty(), "{} of {}: {bad:#?}", bad.len(), seen.len());
}

/// One client of a load.
struct User {
    client: Client,
    seen: Arc<Mutex<Vec<Seen>>>,
}

// === impl User ===

impl User {
    async fn round(&self, number: usize) {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let name = format!("Ada {number}");
        let names = |answer: &Answer| {
            let found = &answer.body["user"]["name"];
            (*found == *name)
                .then_some(())
                .ok_or_else(|| format!("{found} is not {name}"))
        };
        self.ask(
            Method::PATCH,
            "/v1/me",
            Some(json!({ "name": name })),
            names,
        )
        .await;
        pace.tick().await;
        // What was acknowledged is seen by the next read.
        self.ask(Method::GET, "/v1/me", None, names).await;
        pace.tick().await;
        self.ask(Method::GET, "/v1/projects", None, |_| Ok(()))
            .await;
        pace.tick().await;
        let title = Some(json!({ "title": "First recordings" }));
        let created = self
            .ask(Method::POST, "/v1/projects", title, |_| Ok(()))
            .await;
        pace.tick().await;
        if let Some(created) = created.filter(|_| number.is_multiple_of(ROUNDS_PER_UPLOAD)) {
            let started = Waited::begin();
            let upload = self.client.upload(&created.text("/project/id"), PLUCK);
            let answer = send(upload).await;
            self.note("upload".to_owned(), started, &answer, |_| Ok(()));
        }
    }

    /// Sends a request; gives the answer if it was as `check` wants it.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        check: impl Fn(&Answer) -> Result<(), String>,
    ) -> Option<Answer> {
        let what = format!("{method} {path}");
        let mut request = self.client.request(method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let started = Waited::begin();
        let answer = send(request).await;
        self.note(what, started, &answer, check)
            .then(|| answer.unwrap())
    }

    fn note(
        &self,
        what: String,
        started: Waited,
        answer: &reqwest::Result<Answer>,
        check: impl Fn(&Answer) -> Result<(), String>,
    ) -> bool {
        let outcome = match answer {
            Ok(answer) if answer.status.is_success() => {
                check(answer).map(|()| answer.status.as_u16())
            }
            Ok(answer) => Ok(answer.status.as_u16()),
            Err(error) => Err(format!("{error:?}")),
        };
        let well = matches!(outcome, Ok(200..=299));
        self.seen.lock().unwrap().push(Seen {
            what,
            took: started.so_far(),
            outcome,
        });
        well
    }
}
