//! A thread whose only work is to keep leases: it goes on while handlers block the
//! runtime that they run on.

use std::{io, thread};

use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Duration, timeout};

/// A thread with a runtime of its own, until dropped.
#[derive(Debug)]
pub(super) struct Pacemaker {
    runtime: Handle,
    /// Dropped, it ends the thread.
    _stop: oneshot::Sender<()>,
}

/// What runs on the thread, until dropped.
#[derive(Debug)]
pub(super) struct Beating {
    end: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// How long what was told to end may take before it is dropped: longer than a beat.
const END: Duration = Duration::from_secs(5);

// === impl Pacemaker ===

impl Pacemaker {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        // What still runs ends with the runtime, and its connections where they were made.
        let keep = move || drop(runtime.block_on(stopped));
        let named = thread::Builder::new().name("maxscale-leases".to_owned());
        named.spawn(keep)?;
        Ok(Self {
            runtime: handle,
            _stop: stop,
        })
    }

    /// Runs `beats`, which end when `end` says so.
    pub(super) fn spawn(
        &self,
        end: watch::Sender<bool>,
        beats: impl Future<Output = ()> + Send + 'static,
    ) -> Beating {
        let task = self.runtime.spawn(beats);
        Beating { end, task }
    }
}

// === impl Beating ===

impl Beating {
    /// Ends it; whatever it did is done when this returns.
    pub(super) async fn stop(mut self) {
        self.end.send_replace(true);
        if timeout(END, &mut self.task).await.is_err() {
            self.task.abort();
            // It was aborted, or its thread ended.
            let _ = (&mut self.task).await;
        }
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.task.abort();
    }
}
