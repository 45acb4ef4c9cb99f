//! Ends in the background what dead processes left half-way.
//!
//! Claims, sagas and two-phase commits each know how to end their own; this calls
//! them, for all nodes of the map, again and again. Every process of a service may
//! run it: each of them bears others at work, and where all do, one is always there.

mod counts;

use std::time::Duration;

use maxscale_core::Chain;
use maxscale_core::meter::Meter;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::claim::{ClaimCounts, Claims};
use crate::random::draw;
use crate::router::{Node, Router};
use crate::saga::Sagas;
use crate::two_phase::TwoPhase;

use counts::Passes;

/// What is to be ended, and how often it is looked for.
///
/// # Examples: what does a service run in the background?
///
/// ```
/// # use std::time::Duration;
/// # use maxscale_core::meter::Meter;
/// # use maxscale_shard::saga::Sagas;
/// # use maxscale_shard::{Claims, Recovering, Recovery, Router};
/// # fn start(router: &Router, emails: &Claims, sagas: &Sagas, meter: &Meter) -> Recovering {
/// Recovery::new(router.clone())
///     .claims(emails.clone())
///     .sagas(sagas.clone())
///     .meter(meter)
///     .start()
/// # }
/// # async fn stop(recovering: Recovering) {
/// // At the end of the service.
/// recovering.shutdown(Duration::from_secs(5)).await;
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is looked for before it is started"]
pub struct Recovery {
    router: Router,
    kinds: Vec<Kind>,
    every: Duration,
    meter: Option<Meter>,
}

/// The passes over all nodes, until it is shut down or dropped.
#[derive(Debug)]
#[must_use = "dropped, it ends"]
pub struct Recovering {
    tasks: JoinSet<()>,
    stop: watch::Sender<()>,
}

/// Whose remains are looked for.
#[derive(Clone, Debug)]
enum Kind {
    Claims(Claims),
    Sagas(Sagas, Duration),
    TwoPhase(TwoPhase),
}

/// One kind, and what is counted of it.
struct Task {
    router: Router,
    kind: Kind,
    claims: Option<ClaimCounts>,
    passes: Passes,
}

// === impl Recovery ===

impl Recovery {
    /// How often each kind is looked for.
    pub const DEFAULT_EVERY: Duration = Duration::from_secs(10);

    /// Looks for nothing yet.
    pub const fn new(router: Router) -> Self {
        Self {
            router,
            kinds: Vec::new(),
            every: Self::DEFAULT_EVERY,
            meter: None,
        }
    }

    /// Confirms or frees claims of this kind that were left half-way
    /// ([`Claims::reconcile`]).
    pub fn claims(self, claims: Claims) -> Self {
        self.with(Kind::Claims(claims))
    }

    /// Goes on with sagas that nobody drives ([`Sagas::recover`]), and removes those
    /// that ended more than [`Sagas::DEFAULT_KEEP`] ago ([`Sagas::sweep`]).
    pub fn sagas(self, sagas: Sagas) -> Self {
        self.sagas_kept(sagas, Sagas::DEFAULT_KEEP)
    }

    /// As [`sagas`](Self::sagas), and removes those that ended more than `keep` ago.
    pub fn sagas_kept(self, sagas: Sagas, keep: Duration) -> Self {
        self.with(Kind::Sagas(sagas, keep))
    }

    /// Ends prepared transactions as was decided ([`TwoPhase::recover`]).
    pub fn two_phase(self, two_phase: TwoPhase) -> Self {
        self.with(Kind::TwoPhase(two_phase))
    }

    fn with(mut self, kind: Kind) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Sets how often each kind is looked for, on average: a quarter less or more is
    /// drawn each time, and the first pass comes anywhere within the first such time,
    /// so that processes which start together part. Default: [`Recovery::DEFAULT_EVERY`].
    pub const fn every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    /// Counts what passes do: `maxscale.shard.recovery.passes`, by `kind` (`claims`,
    /// `sagas`, `two_phase`) and `outcome` (`whole`, or `partial` where a node could
    /// not be asked), and of claims `maxscale.shard.claims.ended`, by `kind` and
    /// `outcome`, and `maxscale.shard.claims.dangling`. Sagas and two-phase commits
    /// count by the meter that they were given themselves.
    pub fn meter(mut self, meter: &Meter) -> Self {
        self.meter = Some(meter.clone());
        self
    }

    /// Begins. A node that is away or not ready costs its own and nothing else.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn start(self) -> Recovering {
        let (stop, stopped) = watch::channel(());
        let mut tasks = JoinSet::new();
        let Self {
            router,
            kinds,
            every,
            meter,
        } = self;
        for kind in kinds {
            let meter = meter.as_ref();
            let task = Task {
                router: router.clone(),
                claims: match &kind {
                    Kind::Claims(claims) => meter.map(|meter| claims.counts(meter)),
                    _ => None,
                },
                passes: meter.map_or_else(Passes::default, |meter| {
                    Passes::register(meter, kind.label())
                }),
                kind,
            };
            tasks.spawn(task.run(every, stopped.clone()));
        }
        Recovering { tasks, stop }
    }
}

// === impl Recovering ===

impl Recovering {
    /// Begins no further pass, and waits for those under way, no longer than `grace`.
    ///
    /// # Cancellation
    ///
    /// Dropped, it ends the passes where they are, which harms nothing: a saga whose
    /// step was under way is gone on with when its lease has run out.
    pub async fn shutdown(self, grace: Duration) {
        let Self { mut tasks, stop } = self;
        drop(stop);
        let ended = async { while tasks.join_next().await.is_some() {} };
        let _ = timeout(grace, ended).await;
    }
}

// === impl Kind ===

impl Kind {
    const fn label(&self) -> &'static str {
        match self {
            Self::Claims(_) => "claims",
            Self::Sagas(..) => "sagas",
            Self::TwoPhase(_) => "two_phase",
        }
    }
}

// === impl Task ===

impl Task {
    async fn run(self, every: Duration, mut stopped: watch::Receiver<()>) {
        let mut pause = every.mul_f64(draw());
        // What is told is that nobody tells any more.
        while timeout(pause, stopped.changed()).await.is_err() {
            let whole = self.pass().await;
            self.passes.passed(whole);
            pause = every.mul_f64(0.75 + draw() / 2.0);
        }
    }

    /// Looks at every node once; whether each could be asked.
    async fn pass(&self) -> bool {
        match &self.kind {
            Kind::Claims(claims) => self.reconcile(claims).await,
            Kind::Sagas(sagas, keep) => self.recover(sagas, *keep).await,
            Kind::TwoPhase(two_phase) => {
                let resolved = two_phase.recover().await;
                let ended = resolved.committed + resolved.rolled_back;
                told("two-phase commits", ended);
                resolved.away == 0
            }
        }
    }

    async fn reconcile(&self, claims: &Claims) -> bool {
        let (mut all, mut whole) = (crate::claim::Reconciled::default(), true);
        for node in self.router.nodes().iter() {
            if !node.is_ready() {
                whole = false;
                continue;
            }
            match claims.reconcile(node).await {
                Ok(done) => all.add(done),
                Err(error) => whole = left(node, &error),
            }
        }
        if let Some(counts) = &self.claims {
            counts.passed(&all);
        }
        told("claims", all.confirmed + all.freed + all.released);
        whole
    }

    async fn recover(&self, sagas: &Sagas, keep: Duration) -> bool {
        let (mut ended, mut whole) = (0, true);
        for node in self.router.nodes().iter() {
            if !node.is_ready() {
                whole = false;
                continue;
            }
            match sagas.recover(node).await {
                Ok(done) => ended += done.done + done.compensated + done.stuck,
                Err(error) => whole = left(node, &error),
            }
            if let Err(error) = sagas.sweep(node, keep).await {
                whole = left(node, &error);
            }
        }
        told("sagas", ended);
        whole
    }
}

/// What waits there waits for the next pass.
fn left(node: &Node, error: &(dyn std::error::Error + 'static)) -> bool {
    tracing::debug!(node = %node.id(), error = %Chain(error), "a recovery pass left a node");
    false
}

fn told(what: &str, ended: u64) {
    if ended > 0 {
        tracing::info!(ended, "{what} were ended that had been left half-way");
    }
}
