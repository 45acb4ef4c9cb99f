use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::job::{Job, Outcome};
use crate::request::JobRequest;
use crate::store::Facts;

/// Does the work of one kind of job.
///
/// It may be dropped at any await: when its lease cannot be renewed, and when
/// the worker shuts down. It may run again for the same job; an effect that
/// must be made once goes through [`JobRequest::complete_in`]. A panic counts
/// as [`Outcome::Retry`].
///
/// A closure `|request: JobRequest<J>| async { .. }` is one.
pub trait Handler<J: Job>: Send + Sync + 'static {
    /// Runs the job once.
    fn run(&self, request: JobRequest<J>) -> impl Future<Output = Outcome> + Send;
}

impl<J, F, R> Handler<J> for F
where
    J: Job,
    F: Fn(JobRequest<J>) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send,
{
    fn run(&self, request: JobRequest<J>) -> impl Future<Output = Outcome> + Send {
        self(request)
    }
}

pub(super) type Run = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A handler whose job's type is forgotten: it takes the arguments as stored.
pub(super) type Erased =
    Box<dyn Fn(&str, Facts, Arc<AtomicBool>) -> Result<Run, serde_json::Error> + Send + Sync>;

pub(super) fn erase<J: Job, H: Handler<J>>(handler: H) -> Erased {
    let handler = Arc::new(handler);
    Box::new(move |args, facts, completed| {
        let job = serde_json::from_str(args)?;
        let request = JobRequest::new(job, facts, completed);
        let handler = handler.clone();
        Ok(Box::pin(async move { handler.run(request).await }))
    })
}
