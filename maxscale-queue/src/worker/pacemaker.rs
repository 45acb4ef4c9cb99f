//! A thread whose only work is to keep leases: it goes on while handlers block the
//! runtime that they run on.

use std::{io, thread};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A thread with a runtime of its own, until dropped.
#[derive(Debug)]
pub(super) struct Pacemaker {
    runtime: Handle,
    /// Dropped, it ends the thread.
    _stop: oneshot::Sender<()>,
}

/// What runs on the thread, until dropped.
#[derive(Debug)]
pub(super) struct Beating(JoinHandle<()>);

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

    pub(super) fn spawn(&self, beats: impl Future<Output = ()> + Send + 'static) -> Beating {
        Beating(self.runtime.spawn(beats))
    }
}

// === impl Beating ===

impl Beating {
    /// Ends it; whatever it did is done when this returns.
    pub(super) async fn stop(mut self) {
        self.0.abort();
        // It was aborted, or its thread ended.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.abort();
    }
}
