use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use maxscale_core::Chain;
use maxscale_shard::Node;
use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::frozen::Frozen;
use super::run::Run;
use super::standing::{Keep, Standing};
use super::{Phase, Poll, Shared, race, reached};
use crate::queue::Queue;
use crate::slot;
use crate::store::{self, Claimed, Ended, Wanted};

pub(super) const PAUSE: Duration = Duration::from_millis(200);
const SLOW: Duration = Duration::from_millis(500);
const SETTLE_BATCH: usize = 256;

/// How often what has become due is given its place, at most.
const PROMOTE: Duration = Duration::from_millis(20);
const PROMOTE_BATCH: u32 = 1_000;

/// Serves one node: claims, renews and settles for all its virtual shards.
pub(super) struct NodeWorker {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: Queue,
    pub(super) node: usize,
    pub(super) standing: Arc<Standing>,
    /// Held while a claim's jobs are not among the held ones yet.
    pub(super) claiming: Mutex<()>,
}

/// A claimed job with what it takes to run it.
struct Ready {
    claimed: Claimed,
    keep: Keep,
    slot: Option<OwnedSemaphorePermit>,
    suspect: Option<OwnedSemaphorePermit>,
}

/// An ending on its way into its row.
#[derive(Debug)]
pub(super) struct Settlement {
    pub(super) ended: Ended,
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
            standing: Arc::new(Standing::new(Uuid::nil())),
            claiming: Mutex::default(),
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
        let Some(beating) = self.enter(node, &mut phase).await else {
            return;
        };
        Box::pin(self.lives(node, phase)).await;
        // Else it would begin another life after this one.
        beating.stop().await;
        self.leave(node).await;
    }

    /// Works until the claims end. Whatever else was under way is dropped by then, with
    /// the connection that it had or was the next one for: on SQLite nobody could write.
    async fn lives(&self, node: &Node, phase: watch::Receiver<Phase>) {
        let (settle, settlements) = mpsc::channel(SETTLE_BATCH);
        // Side by side in one task: whatever ends the claims ends the others too.
        let claims = pin!(self.claims(node, phase, settle));
        let told = pin!(race(self.signs(), self.depths(node)));
        let settlements = pin!(self.settlements(node, settlements));
        let sweeps = pin!(self.sweeps(node));
        let others = pin!(race(self.hears(node), sweeps));
        race(race(claims, others), race(told, settlements)).await;
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
        let mut promoted: Option<Instant> = None;
        let mut frozen = Frozen::default();
        let mut served = vec![0; self.shared.queues.len()];
        while *phase.borrow() == Phase::Open {
            let draining = async {
                reached(&mut phase, Phase::Draining).await;
                None
            };
            let free = async {
                // What is claimed near the end of a lease would be stopped at once.
                self.standing.safe().await;
                Some(self.free_slots().await)
            };
            let Some(mut slots) = race(draining, free).await else {
                break;
            };
            // Seen before the claim looks: a ring during it is not missed.
            doorbell.mark_unchanged();
            if promoted.is_none_or(|at| at.elapsed() >= PROMOTE) {
                self.promote(node).await;
                promoted = Some(Instant::now());
            }
            // A claim is never dropped midway, or its jobs would wait for a sweep.
            let ready = self
                .claim(node, &mut slots, turn, &mut frozen, &mut served)
                .await;
            turn += 1;
            let got = ready.len();
            self.shared.counts.claimed.add(got as u64);
            for ready in ready {
                let run = Run {
                    shared: self.shared.clone(),
                    node: node.background(),
                    keep: ready.keep,
                    settle: settle.clone(),
                    phase: phase.clone(),
                    slot: ready.slot,
                    _suspect: ready.suspect,
                };
                runs.spawn(run.supervise(ready.claimed));
            }
            while runs.try_join_next().is_some() {}
            drop(slots);
            let Poll { busy, idle } = self.shared.poll;
            if got > 0 {
                // Fair shares may leave slots empty while there is more.
                poll = busy;
                continue;
            }
            poll = poll.mul_f64(1.5).min(idle);
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

    async fn promote(&self, node: &Node) {
        if let Err(error) = store::promote(&node.background(), PROMOTE_BATCH).await {
            tracing::warn!(node = %node.id(), error = %Chain(&error), "cannot see what is due");
        }
    }

    /// Claims from each queue in turn as long as there are slots.
    async fn claim(
        &self,
        node: &Node,
        slots: &mut Vec<OwnedSemaphorePermit>,
        turn: usize,
        frozen: &mut Frozen,
        served: &mut [u32],
    ) -> Vec<Ready> {
        let queues = &self.shared.queues;
        let mut all = Vec::new();
        let _claiming = self.claiming.lock().await;
        for at in 0..queues.len() {
            let at = (turn + at) % queues.len();
            let (queue, kinds) = &queues[at];
            // One at a time in this process: when it dies of it, others did not run beside it.
            let mut suspect = self.shared.suspects.clone().try_acquire_owned().ok();
            let wanted = Wanted {
                queue,
                kinds,
                worker: self.standing.life().worker,
                most: slots.len(),
                suspect: suspect.is_some(),
                served: served[at],
                frozen: frozen.of(&self.queue.router().topology()),
            };
            let database = node.background();
            let asked = Instant::now();
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
            if !claimed.is_empty() {
                self.shared.counts.claim.record(asked.elapsed());
            }
            for job in &claimed {
                self.shared.counts.wait.record(job.waited);
            }
            let innocent = claimed.iter().filter(|job| job.facts.crashes == 0);
            served[at] = slot::served_last(served[at], innocent.map(|job| job.slot));
            all.extend(claimed.into_iter().map(|claimed| Ready {
                keep: self.standing.keep(claimed.facts.lease),
                slot: slots.pop(),
                suspect: suspect.take_if(|_| claimed.facts.crashes > 0),
                claimed,
            }));
            if slots.is_empty() {
                break;
            }
        }
        all
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
        let ended: Vec<_> = (batch.iter())
            .map(|settlement| settlement.ended.clone())
            .collect();
        let give_up = Instant::now() + self.shared.lease;
        let taken = loop {
            match store::settle(&node.background(), &ended).await {
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
        for Settlement { ended, told } in batch.drain(..) {
            let lease = ended.lease;
            // Nobody listens any more after an abort; the row has it.
            let _ = told.send(taken.contains(&(lease.job, lease.token)));
        }
    }
}
