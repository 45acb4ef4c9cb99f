use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::job::Job;

/// The jobs that wait for a thread, first come, first served. Bounded.
#[derive(Debug)]
pub(super) struct Queue {
    most: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// Why a job was not taken. It is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
}

/// What a thread is to do.
#[derive(Debug)]
pub(super) enum Next {
    Work(Job),
    /// Nothing came for a while.
    Idle,
    End,
}

// === impl Queue ===

impl Queue {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(super) fn push(&self, job: Job) -> Result<(), Refused> {
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.jobs.len() >= self.most {
            // Callers who went away take no place from those who are here.
            state.jobs.retain(|job| job.ticket.waits());
        }
        if state.jobs.len() >= self.most {
            return Err(Refused::Full);
        }
        state.jobs.push_back(job);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// The next job, once there is one; waits no longer than `idle`, if there is such a bound.
    pub(super) fn pop(&self, idle: Option<Duration>) -> Next {
        let mut state = self.state();
        loop {
            if state.closed {
                return Next::End;
            }
            if let Some(job) = state.jobs.pop_front() {
                return Next::Work(job);
            }
            let Some(idle) = idle else {
                let woken = self.changed.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let woken = self.changed.wait_timeout(state, idle);
            let (after, waited) = woken.unwrap_or_else(PoisonError::into_inner);
            if waited.timed_out() && after.jobs.is_empty() && !after.closed {
                return Next::Idle;
            }
            state = after;
        }
    }

    /// How many wait, with those who went away.
    pub(super) fn len(&self) -> usize {
        self.state().jobs.len()
    }

    /// Takes no more jobs and drops those that wait.
    pub(super) fn close(&self) {
        let waiting = {
            let mut state = self.state();
            state.closed = true;
            std::mem::take(&mut state.jobs)
        };
        self.changed.notify_all();
        drop(waiting);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
