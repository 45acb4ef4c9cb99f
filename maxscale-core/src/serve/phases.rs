//! Runs servers, and ends them in phases.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use tokio::task::{Id, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::connection::Shared;
use super::plan::{Budget, Plan};
use super::{Cause, ServeError, Server, Stop};

/// Servers and what is to be done when they end.
pub struct Serving {
    budget: Budget,
    servers: Vec<Server>,
    last: Vec<Server>,
    not_ready: Vec<Box<dyn FnOnce() + Send>>,
    on_stop: Vec<OnStop>,
    on_hand_back: Vec<Hook>,
    on_flush: Vec<Hook>,
}

/// Builds a [`Serving`]; see [`Serving::builder`].
#[must_use]
#[derive(Debug)]
pub struct ServingBuilder(Serving);

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// Who asked for the end.
    pub cause: Cause,
    /// How long it took.
    pub took: Duration,
    /// Whether it was asked for twice; then what was left was cut, and hooks
    /// that had not begun never ran.
    pub at_once: bool,
    /// Connections that did not end in time, those of a WebSocket included.
    pub cut_connections: usize,
    /// Requests that did not end in time.
    pub cut_requests: usize,
    /// Hooks that did not end in time, or panicked.
    pub unfinished: Vec<&'static str>,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;
type OnStop = (&'static str, Box<dyn FnOnce(Instant) -> Work + Send>);
type Hook = (&'static str, Work);

/// A server that accepts, and what it shares with its connections.
#[derive(Debug)]
struct Running {
    accepting: JoinHandle<()>,
    shared: Shared,
}

/// Hooks that run at the same time.
#[derive(Debug)]
struct Hooks {
    tasks: JoinSet<()>,
    names: Vec<(Id, &'static str)>,
}

// === impl Serving ===

impl Serving {
    /// How long an end may take when nothing is set: the 30 s after which
    /// orchestrators kill, less two for the rest of the program.
    pub const DEFAULT_BUDGET: Duration = Duration::from_secs(28);

    /// How much of the budget is kept for handing back and flushing when
    /// nothing is set.
    pub const DEFAULT_RESERVE: Duration = Duration::from_secs(3);

    /// Starts with no server and no hook.
    pub const fn builder() -> ServingBuilder {
        ServingBuilder(Self {
            budget: Budget {
                whole: Self::DEFAULT_BUDGET,
                reserve: Self::DEFAULT_RESERVE,
                wait: Duration::ZERO,
            },
            servers: Vec::new(),
            last: Vec::new(),
            not_ready: Vec::new(),
            on_stop: Vec::new(),
            on_hand_back: Vec::new(),
            on_flush: Vec::new(),
        })
    }

    /// Serves until `stop` is asked, and then ends within the budget.
    ///
    /// Each phase begins when the one before is done or its time is over, so
    /// that an end without anything to wait for takes no time but the wait.
    /// Cancelled, it cuts every connection at once and runs no further hook.
    pub async fn run(self, stop: &Stop) -> Ended {
        let Self {
            budget,
            servers,
            last,
            not_ready,
            on_stop,
            on_hand_back,
            on_flush,
        } = self;
        let mut servers = run_all(servers);
        let mut last = run_all(last);
        let cause = stop.asked().await;
        let start = Instant::now();
        let plan = budget.plan(cause, start);
        not_ready.into_iter().for_each(|tell| tell());
        let mut ended = Ended::new(cause);
        let phases = async {
            let begun = on_stop
                .into_iter()
                .map(|(name, hook)| (name, hook(plan.drain)));
            let stopping = Hooks::of(begun);
            drain(&mut servers, plan, &mut ended).await;
            let phase = Hooks::of(on_hand_back);
            told("hand back", start, stopping.len() + phase.len());
            // Side by side: one that hangs takes no time from the others.
            stopping.finish(plan.hand_back, &mut ended).await;
            phase.finish(plan.hand_back, &mut ended).await;
            let phase = Hooks::of(on_flush);
            told("flush", start, phase.len());
            phase.finish(plan.end, &mut ended).await;
            close(&mut last, plan.end, &mut ended).await;
        };
        let at_once = tokio::select! {
            () = phases => false,
            () = stop.asked_again() => true,
        };
        if at_once {
            tracing::warn!("asked to stop again: ending at once");
            ended.at_once = true;
            ended.count(&servers);
        }
        ended.took = start.elapsed();
        if ended.is_clean() {
            tracing::info!(took = ?ended.took, "stopped");
        } else {
            tracing::warn!(
                took = ?ended.took,
                connections = ended.cut_connections,
                requests = ended.cut_requests,
                hooks = ?ended.unfinished,
                "stopped, and not everything came to its end"
            );
        }
        ended
    }
}

fn run_all(servers: Vec<Server>) -> Vec<Running> {
    servers.into_iter().map(Running::start).collect()
}

/// Waits until who sends requests has learned of the end, stops accepting, and
/// lets requests end. What is left then is cut.
async fn drain(servers: &mut [Running], plan: Plan, ended: &mut Ended) {
    let wait = plan.accept.saturating_duration_since(Instant::now());
    if !wait.is_zero() {
        tracing::info!(?wait, "stopping: not ready, and still accepting");
        sleep_until(plan.accept).await;
    }
    let (connections, requests) = left(servers);
    tracing::info!(
        connections,
        requests,
        "stopping: no new connections, requests end"
    );
    for server in &mut *servers {
        server.stop_accepting().await;
    }
    if timeout_at(plan.drain, empty(servers)).await.is_err() {
        ended.count(servers);
        let (connections, requests) = left(servers);
        tracing::warn!(
            connections,
            requests,
            "some requests did not end in time and are cut off"
        );
        cut(servers, plan.hand_back).await;
    }
}

/// Ends the servers that answered to the last.
async fn close(servers: &mut [Running], end: Instant, ended: &mut Ended) {
    for server in &mut *servers {
        server.stop_accepting().await;
    }
    if timeout_at(end, empty(servers)).await.is_err() {
        ended.count(servers);
        cut(servers, end).await;
    }
}

/// Cuts connections, and waits a moment for what their requests leave behind.
async fn cut(servers: &[Running], limit: Instant) {
    servers.iter().for_each(|server| server.shared.cut.tell());
    let limit = limit.min(Instant::now() + UNWINDING);
    // A handler that blocks its thread cannot be cut.
    let _ = timeout_at(limit, empty(servers)).await;
}

/// How long requests that are cut may take to drop what they hold.
const UNWINDING: Duration = Duration::from_millis(250);

async fn empty(servers: &[Running]) {
    for server in servers {
        server.shared.gate.empty().await;
    }
}

fn left(servers: &[Running]) -> (usize, usize) {
    let gates = servers.iter().map(|server| &server.shared.gate);
    gates.fold((0, 0), |(connections, requests), gate| {
        (connections + gate.open(), requests + gate.requests())
    })
}

fn told(phase: &'static str, start: Instant, hooks: usize) {
    if hooks > 0 {
        tracing::info!(phase, hooks, after = ?start.elapsed(), "stopping");
    }
}

// === impl ServingBuilder ===

impl ServingBuilder {
    /// Adds a server.
    pub fn server(mut self, server: Server) -> Self {
        self.0.servers.push(server);
        self
    }

    /// Adds a server that answers until everything else has ended, so that who
    /// watches the end sees it.
    pub fn last(mut self, server: Server) -> Self {
        self.0.last.push(server);
        self
    }

    /// Sets how long the whole end may take, all phases together.
    ///
    /// Default: [`Serving::DEFAULT_BUDGET`].
    pub const fn budget(mut self, budget: Duration) -> Self {
        self.0.budget.whole = budget;
        self
    }

    /// Sets how much of the budget is kept for handing back and flushing.
    ///
    /// Default: [`Serving::DEFAULT_RESERVE`].
    pub const fn reserve(mut self, reserve: Duration) -> Self {
        self.0.budget.reserve = reserve;
        self
    }

    /// Sets how long connections are still accepted after [`Cause::Terminate`],
    /// until who sends requests has seen that this process is not ready. It is a
    /// part of the budget.
    ///
    /// Default: not at all.
    pub const fn wait(mut self, wait: Duration) -> Self {
        self.0.budget.wait = wait;
        self
    }

    /// Calls `tell` as soon as the end is asked for: `/readyz` must say so.
    pub fn not_ready(mut self, tell: impl FnOnce() + Send + 'static) -> Self {
        self.0.not_ready.push(Box::new(tell));
        self
    }

    /// Runs `hook` beside the requests as soon as the end is asked for, with the
    /// moment at which they are cut: what a worker needs to claim no more, to
    /// let its jobs end until then, and to hand back the rest.
    pub fn on_stop<H, F>(mut self, name: &'static str, hook: H) -> Self
    where
        H: FnOnce(Instant) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let hook = Box::new(move |until| Box::pin(hook(until)) as Work);
        self.0.on_stop.push((name, hook));
        self
    }

    /// Runs `hook` when no request is left: to return what is held for them.
    pub fn on_hand_back(
        mut self,
        name: &'static str,
        hook: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        self.0.on_hand_back.push((name, Box::pin(hook)));
        self
    }

    /// Runs `hook` when all was handed back: to flush and to close.
    pub fn on_flush(
        mut self,
        name: &'static str,
        hook: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        self.0.on_flush.push((name, Box::pin(hook)));
        self
    }

    /// Finishes; nothing is accepted yet.
    ///
    /// # Errors
    ///
    /// Returns [`ServeError::Bounds`] if the wait and the reserve are more than
    /// the budget, or the budget is zero or more than a day.
    pub fn build(self) -> Result<Serving, ServeError> {
        self.0.budget.checked()?;
        Ok(self.0)
    }
}

// === impl Ended ===

impl Ended {
    const fn new(cause: Cause) -> Self {
        Self {
            cause,
            took: Duration::ZERO,
            at_once: false,
            cut_connections: 0,
            cut_requests: 0,
            unfinished: Vec::new(),
        }
    }

    /// Whether everything came to its own end.
    pub const fn is_clean(&self) -> bool {
        !self.at_once
            && self.cut_connections == 0
            && self.cut_requests == 0
            && self.unfinished.is_empty()
    }

    /// Notes what `servers` have left.
    fn count(&mut self, servers: &[Running]) {
        let (connections, requests) = left(servers);
        self.cut_connections += connections;
        self.cut_requests += requests;
    }
}

// === impl Running ===

impl Running {
    fn start(server: Server) -> Self {
        let shared = server.shared.clone();
        Self {
            accepting: tokio::spawn(server.accept()),
            shared,
        }
    }

    /// Closes the listener, and tells connections that there is an end.
    async fn stop_accepting(&mut self) {
        self.accepting.abort();
        // Until the task is gone it holds the listener.
        let _ = (&mut self.accepting).await;
        self.shared.draining.tell();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.cut.tell();
    }
}

// === impl Hooks ===

impl Hooks {
    fn of(hooks: impl IntoIterator<Item = Hook>) -> Self {
        let mut tasks = JoinSet::new();
        let spawn = |(name, work)| (tasks.spawn(work).id(), name);
        let names = hooks.into_iter().map(spawn).collect();
        Self { tasks, names }
    }

    fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Waits for them until `limit`, and aborts the rest.
    async fn finish(mut self, limit: Instant, ended: &mut Ended) {
        while let Ok(Some(done)) = timeout_at(limit, self.tasks.join_next_with_id()).await {
            match done {
                Ok((id, ())) => self.names.retain(|(hook, _)| *hook != id),
                Err(error) => tracing::error!(%error, "a hook of the end panicked"),
            }
        }
        for (_, hook) in self.names {
            tracing::warn!(hook, "a hook of the end did not finish");
            ended.unfinished.push(hook);
        }
    }
}

// === impl Serving ===

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving")
            .field("budget", &self.budget)
            .field("servers", &self.servers)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}
