//! Handlers that block the runtime that their worker runs on.

use std::sync::{Mutex, mpsc as blocking};
use std::thread::JoinHandle;
use std::time::Duration;

use maxscale_queue::{JobRequest, JobState, Outcome, Worker};
use maxscale_tests::eventually;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::stage::{LIMIT, Note, Stage, note, on_both, open_queue};

/// A worker on a runtime of one thread, whose handler stands still on it.
struct Blocked {
    starts: mpsc::UnboundedReceiver<()>,
    go: blocking::Sender<()>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Blocked {
    fn start(stage: &Stage, lease: Duration, outcome: fn() -> Outcome) -> Self {
        let (started, starts) = mpsc::unbounded_channel();
        let (go, gone) = blocking::channel::<()>();
        let (stop, stopped) = oneshot::channel::<()>();
        let urls = stage.urls.clone();
        let gone = Mutex::new(gone);
        let run = move |_: JobRequest<Note>| {
            started.send(()).unwrap();
            gone.lock().unwrap().recv().unwrap();
            std::future::ready(outcome())
        };
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (_fleet, queue) = open_queue(&urls).await;
                let worker = Worker::builder(queue).lease(lease).register(run);
                let worker = worker.start().unwrap();
                stopped.await.unwrap();
                worker.shutdown(LIMIT).await;
            });
        });
        Self {
            starts,
            go,
            stop,
            thread,
        }
    }

    /// Lets the handler go on, and waits for what it comes to.
    async fn comes_to(self, came: impl Future<Output = ()>) {
        self.go.send(()).unwrap();
        came.await;
        self.stop.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

on_both! {
    /// It keeps its job for many leases, and settles it when it is through.
    async fn blocked_runtime_keeps_its_lease(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let lease = Duration::from_secs(3);
        let mut blocked = Blocked::start(stage, lease, || Outcome::Done);
        blocked.starts.recv().await.unwrap();
        let other = async |_: JobRequest<Note>| Outcome::Dead("not by this one".into());
        let _other = stage.worker().lease(lease).register(other).start().unwrap();
        // A lease of this age has run out twice, unless it was renewed.
        let old = Instant::now() + 3 * lease;
        eventually(LIMIT, async || Instant::now() > old).await;
        let status = stage.status(id).await;
        assert_eq!((status.state, status.crashes), (JobState::Running, 0));
        let done = async {
            let status = stage.reaches(id, JobState::Done).await;
            assert_eq!((status.attempt, status.crashes), (1, 0));
        };
        blocked.comes_to(done).await;
    }

    /// After six leases without a sign of the runtime the job is run elsewhere.
    async fn runtime_that_does_not_come_back_loses_its_jobs(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let lease = Duration::from_secs(1);
        let mut blocked = Blocked::start(stage, lease, || Outcome::Dead("too late".into()));
        blocked.starts.recv().await.unwrap();
        let other = async |_: JobRequest<Note>| Outcome::DoneWith("elsewhere".into());
        let _other = stage.worker().register(other).start().unwrap();
        let status = stage.reaches(id, JobState::Done).await;
        assert_eq!((status.result, status.crashes), (Some("elsewhere".into()), 1));
        blocked.comes_to(std::future::ready(())).await;
        assert_eq!(stage.status(id).await.state, JobState::Done);
    }
}
