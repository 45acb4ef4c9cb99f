//! A worker in a process of its own, which tests stop, kill and let kill itself.

use std::time::Duration;

use maxscale_queue::{JobId, JobRequest, Outcome, Worker};
use maxscale_shard::Router;
use maxscale_tests::Process;

use crate::stage::{Note, Stage, effect, open_queue};

const URLS: &str = "MAXSCALE_TEST_QUEUE_URLS";
const LEASE: &str = "MAXSCALE_TEST_QUEUE_LEASE";

/// Says that the handler was dropped.
struct Dropped(JobId);

impl Drop for Dropped {
    #[expect(clippy::print_stdout, reason = "how a program tells its test")]
    fn drop(&mut self) {
        println!("dropped {}", self.0);
    }
}

/// A process whose worker does what each note says: `abort`, `hold`, or an effect.
pub(crate) fn start(stage: &Stage, lease: Duration) -> Process {
    Process::builder(std::env::current_exe().unwrap())
        .args(["program::worker", "--exact", "--ignored", "--nocapture"])
        .env(URLS, stage.urls.join(" "))
        .env(LEASE, lease.as_millis().to_string())
        .start()
}

#[expect(clippy::disallowed_methods, reason = "how a test tells its program")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the program that other tests start"]
async fn worker() {
    let (Some(urls), Some(lease)) = (variable(URLS), variable(LEASE)) else {
        return;
    };
    let urls: Vec<String> = urls.split(' ').map(str::to_owned).collect();
    let (fleet, queue) = open_queue(&urls).await;
    let router = fleet.router().clone();
    let run = move |request: JobRequest<Note>| work(router.clone(), request);
    let lease = Duration::from_millis(lease.parse().unwrap());
    let worker = Worker::builder(queue).lease(lease).concurrency(16);
    let _worker = worker.register(run).start().unwrap();
    std::future::pending().await
}

#[expect(clippy::print_stdout, reason = "how a program tells its test")]
async fn work(router: Router, request: JobRequest<Note>) -> Outcome {
    match request.job().text.as_str() {
        "abort" => std::process::abort(),
        "hold" => {
            let _dropped = Dropped(request.id());
            println!("started {}", request.id());
            // It goes on behind the handler's back, as a thread that computes would.
            tokio::spawn(async move {
                request.cancellation().cancelled().await;
                println!("late {:?}", effect(&router, &request).await);
            });
            std::future::pending().await
        }
        _ => match effect(&router, &request).await {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Retry(error.into()),
        },
    }
}
