use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use maxscale_core::Chain;
use maxscale_shard::Node;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{
    Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout, timeout_at,
};

use super::run::Run;
use super::{Phase, Poll, Shared, race, reached};
use crate::queue::Queue;
use crate::store::{self, Claimed, Ending, Lease, Wanted};

const PAUSE: Duration = Duration::from_millis(200);
const SLOW: Duration = Duration::from_millis(500);
const SETTLE_BATCH: usize = 256;

/// Serves one node: claims, renews and settles for all its virtual shards.
pub(super) struct NodeWorker {
    shared: Arc<Shared>,
    queue: Queue,
    node: usize,
    held: Arc<Held>,
}

/// The leases that a worker holds on one node.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<HashMap<Lease, watch::Sender<Instant>>>);

/// One lease among the held ones, until dropped.
#[derive(Debug)]
pub(super) struct Keep {
    held: Arc<Held>,
    lease: Lease,
    until: watch::Receiver<Instant>,
}

/// An ending on its way into its row.
#[derive(Debug)]
pub(super) struct Settlement {
    pub(super) lease: Lease,
    pub(super) ending: Ending,
    /// Told whether the row took it; dropped if the row could not be reached.
    pub(super) told: oneshot::Sender<bool>,
}

// === impl NodeWorker ===

impl NodeWorker {
    pub(super) fn new(shared: Arc<Shared>, queue: Queue, node: usize) -> Self {
        Self {
            shared,
            queue,
            node,
            held: Arc::default(),
        }
    }

    /// Ends once the phase is no longer open and nothing runs any more.
    pub(super) async fn run(self, mut phase: watch::Receiver<Phase>) {
        let node = self.queue.node(self.node);
        while !node.is_ready() {
            let draining = reached(&mut phase, Phase::Draining);
            if timeout(PAUSE, draining).await.is_ok() {
                return;
            }
        }
        let (settle, settlements) = mpsc::channel(SETTLE_BATCH);
        // Side by side in one task: whatever ends the claims ends the others too.
        let claims = pin!(self.claims(node, phase, settle));
        let renewals = pin!(self.renewals(node));
        let settlements = pin!(self.settlements(node, settlements));
        race(claims, race(renewals, settlements)).await;
    }

    async fn claims(
        &self,
        node: &Node,
        mut phase: watch::Receiver<Phase>,
        settle: mpsc::Sender<Settlement>,
    ) {
        let mut runs = JoinSet::new();
        let mut doorbell = self.queue.doorbell(self.node);
        let mut poll = self.shared.poll.busy;
        let mut turn = 0;
        while *phase.borrow() == Phase::Open {
            let draining = async {
                reached(&mut phase, Phase::Draining).await;
                None
            };
            let free = async { Some(self.free_slots().await) };
            let Some(mut slots) = race(draining, free).await else {
                break;
            };
            // Seen before the claim looks: a ring during it is not missed.
            doorbell.mark_unchanged();
            let free = slots.len();
            // A claim is never dropped midway, or its jobs would wait for their leases.
            let claimed = self.claim(node, &mut slots, turn).await;
            turn += 1;
            let got = claimed.len();
            self.shared.counts.claimed.add(got as u64);
            for (claimed, slot, until) in claimed {
                let run = Run {
                    shared: self.shared.clone(),
                    held: self.held.clone(),
                    settle: settle.clone(),
                    phase: phase.clone(),
                    slot,
                };
                runs.spawn(run.supervise(claimed, until));
            }
            while runs.try_join_next().is_some() {}
            if got == free {
                poll = self.shared.poll.busy;
                continue;
            }
            drop(slots);
            let Poll { busy, idle } = self.shared.poll;
            poll = if got > 0 {
                busy
            } else {
                poll.mul_f64(1.5).min(idle)
            };
            // Workers that started together do not poll together for ever.
            let jittered = poll.mul_f64(0.8 + 0.2 * (self.shared.random)());
            let draining = reached(&mut phase, Phase::Draining);
            let rung = async {
                // The queue that rings is held by this worker.
                let _ = doorbell.changed().await;
            };
            let _ = timeout(jittered, race(draining, rung)).await;
        }
        while runs.join_next().await.is_some() {}
    }

    /// All slots that are free, at least one.
    async fn free_slots(&self) -> Vec<OwnedSemaphorePermit> {
        let slots = &self.shared.slots;
        let first = slots.clone().acquire_owned().await;
        let mut free = vec![first.expect("the semaphore is never closed")];
        while let Ok(slot) = slots.clone().try_acquire_owned() {
            free.push(slot);
        }
        free
    }

    /// Claims from each queue in turn as long as there are slots.
    async fn claim(
        &self,
        node: &Node,
        slots: &mut Vec<OwnedSemaphorePermit>,
        turn: usize,
    ) -> Vec<(Claimed, Option<OwnedSemaphorePermit>, Instant)> {
        let queues = &self.shared.queues;
        let mut all = Vec::new();
        for at in 0..queues.len() {
            let (queue, kinds) = &queues[(turn + at) % queues.len()];
            let wanted = Wanted {
                queue,
                kinds,
                worker: self.shared.incarnation,
                lease: self.shared.lease,
                most: slots.len(),
            };
            // Taken before the database takes its time, so it is the earlier one.
            let until = self.shared.safe_until(Instant::now());
            let database = node.background();
            let mut claim = pin!(store::claim(&database, &wanted));
            let claimed = match timeout(SLOW, &mut claim).await {
                Ok(claimed) => claimed,
                Err(_) => {
                    // A node that hangs must not keep the slots from the others.
                    slots.clear();
                    claim.await
                }
            };
            let claimed = match claimed {
                Ok(claimed) => claimed,
                Err(error) => {
                    tracing::warn!(node = %node.id(), error = %Chain(&error), "cannot claim jobs");
                    break;
                }
            };
            for job in claimed {
                if job.poison {
                    self.shared.counts.dead.add(1);
                    tracing::error!(kind = job.kind, job_id = %job.facts.lease.job, "dead: its workers died");
                    continue;
                }
                all.push((job, slots.pop(), until));
            }
            if slots.is_empty() {
                break;
            }
        }
        all
    }

    async fn renewals(&self, node: &Node) {
        let every = self.shared.lease.mul_f64(0.3);
        // What is claimed meanwhile is fresh: the first tick has nothing to do.
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            while let Err(error) = self.renew(node).await {
                tracing::warn!(node = %node.id(), error = %Chain(&error), "cannot renew leases");
                sleep(PAUSE).await;
            }
        }
    }

    async fn renew(&self, node: &Node) -> Result<(), maxscale_shard::ShardError> {
        let leases: Vec<Lease> = self.held.all().keys().copied().collect();
        if leases.is_empty() {
            return Ok(());
        }
        let until = self.shared.safe_until(Instant::now());
        let (worker, span) = (self.shared.incarnation, self.shared.lease);
        let renewed = store::renew(&node.background(), worker, &leases, span).await?;
        // What was not renewed ended meanwhile, is being completed, or is lost:
        // its time simply runs on.
        for (lease, deadline) in &*self.held.all() {
            if renewed.contains(&(lease.job, lease.token)) {
                deadline.send_replace(until);
            }
        }
        Ok(())
    }

    async fn settlements(&self, node: &Node, mut settlements: mpsc::Receiver<Settlement>) {
        let mut batch = Vec::new();
        while settlements.recv_many(&mut batch, SETTLE_BATCH).await > 0 {
            self.settle(node, &mut batch).await;
        }
        // The claimer holds a sender for as long as it runs; it ends first.
        std::future::pending().await
    }

    async fn settle(&self, node: &Node, batch: &mut Vec<Settlement>) {
        let endings: Vec<_> = (batch.iter())
            .map(|settlement| (settlement.lease, settlement.ending.clone()))
            .collect();
        let give_up = Instant::now() + self.shared.lease;
        let taken = loop {
            match store::settle(&node.background(), self.shared.incarnation, &endings).await {
                Ok(taken) => break taken,
                Err(error) => {
                    tracing::warn!(node = %node.id(), error = %Chain(&error), "cannot settle jobs");
                    if Instant::now() >= give_up {
                        batch.clear();
                        return;
                    }
                    sleep(PAUSE).await;
                }
            }
        };
        for Settlement { lease, told, .. } in batch.drain(..) {
            // Nobody listens any more after an abort; the row has it.
            let _ = told.send(taken.contains(&(lease.job, lease.token)));
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Until when a lease taken at `start` is surely ours, by our own clock.
    fn safe_until(&self, start: Instant) -> Instant {
        start + self.lease.mul_f64(0.9)
    }
}

// === impl Held ===

impl Held {
    /// Has the lease, safe until then, renewed while the guard lives.
    pub(super) fn keep(self: &Arc<Self>, lease: Lease, until: Instant) -> Keep {
        let (extend, until) = watch::channel(until);
        self.all().insert(lease, extend);
        Keep {
            held: self.clone(),
            lease,
            until,
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Lease, watch::Sender<Instant>>> {
        // Each change is one insert or remove, so a panic elsewhere tears nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Keep ===

impl Keep {
    /// Waits until the lease is no longer safe; renewals move that moment.
    pub(super) async fn passed(&mut self) {
        loop {
            let deadline = *self.until.borrow_and_update();
            if Instant::now() >= deadline {
                return;
            }
            if let Ok(Err(_)) = timeout_at(deadline, self.until.changed()).await {
                // Nobody renews it any more.
                sleep_until(deadline).await;
            }
        }
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        self.held.all().remove(&self.lease);
    }
}
