use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::job::Job;
use super::memory::Memory;
use super::meters::Meters;
use super::queue::{Next, Queue};

/// How long a thread without work keeps its memory.
const IDLE: Duration = Duration::from_secs(10);

/// A thread that hashes, until its queue is closed.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) queue: Arc<Queue>,
    pub(super) meters: Meters,
    /// Blocks that stay for the next hash.
    pub(super) keep: usize,
    /// Gets a permit when the thread ends.
    pub(super) ended: Arc<Semaphore>,
}

// === impl Worker ===

impl Worker {
    pub(super) fn start(self, number: usize) -> io::Result<()> {
        let named = thread::Builder::new().name(format!("password-{number}"));
        named.spawn(move || self.run()).map(drop)
    }

    fn run(&self) {
        let mut memory = Memory::new(self.keep);
        loop {
            let idle = memory.is_held().then_some(IDLE);
            match self.queue.pop(idle) {
                Next::Work(job) => self.work(job, &mut memory),
                Next::Idle => memory.release(),
                Next::End => break,
            }
        }
        drop(memory);
        self.ended.add_permits(1);
    }

    fn work(&self, job: Job, memory: &mut Memory) {
        let begun = Instant::now();
        if begun >= job.deadline && job.ticket.leave() {
            self.meters.late.add(1);
            return;
        }
        if !job.ticket.begin() {
            return;
        }
        self.meters.waited.record(begun - job.queued);
        // The caller of a panic sees that its answer does not come; others are served.
        let _ended = catch_unwind(AssertUnwindSafe(|| (job.work)(memory)));
        self.meters.hashed.record(begun.elapsed());
        memory.settle();
    }
}
