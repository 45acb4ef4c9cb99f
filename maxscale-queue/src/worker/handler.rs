use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use maxscale_core::BoxError;
use tower_service::Service;

use crate::failure::Failure;
use crate::job::{Job, Outcome};
use crate::request::{Held, JobRequest};

/// Does the work of one kind of job.
///
/// It may be dropped at any await: when its job is cancelled or takes too long, when
/// its lease cannot be renewed, and when the worker shuts down; what it began elsewhere
/// is told by [`JobRequest::cancellation`]. It may run again for the same job; an effect that
/// must be made once goes through [`JobRequest::complete_in`]. A panic counts
/// as [`Outcome::Retry`].
///
/// A closure `|request: JobRequest<J>| async { .. }` is one, and so is a
/// [`Service`] with tower layers around it, as [`Layered`].
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

/// A [`Service`] as a handler: what it is made of may be layers of tower and of
/// `maxscale_core`, the same that stand around HTTP and gRPC.
///
/// The service's error counts as [`Outcome::Retry`].
///
/// # Examples: how are jobs limited by the budget that requests use too?
///
/// ```
/// # use maxscale_core::limit::{LimitLayer, Limits, Policy};
/// # use maxscale_queue::{Handler, Job, JobRequest, Layered, Outcome};
/// # use std::convert::Infallible;
/// use tower::{ServiceBuilder, service_fn};
///
/// # fn layered<J: Job>(policy: Policy, limits: Limits) -> impl Handler<J> {
/// let by_kind = |_: &JobRequest<J>| Some(J::KIND.to_owned());
/// Layered(
///     ServiceBuilder::new()
///         .layer(LimitLayer::new(policy, by_kind, limits))
///         .service(service_fn(async |request: JobRequest<J>| {
///             println!("{} runs", request.id());
///             Ok::<_, Infallible>(Outcome::Done)
///         })),
/// )
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Layered<S>(pub S);

impl<J, S> Handler<J> for Layered<S>
where
    J: Job,
    S: Service<JobRequest<J>, Response = Outcome> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    async fn run(&self, request: JobRequest<J>) -> Outcome {
        let mut service = self.0.clone();
        let ran = async {
            poll_fn(|cx| service.poll_ready(cx)).await?;
            service.call(request).await
        };
        ran.await
            .unwrap_or_else(|error: S::Error| Outcome::Retry(Failure::from(error)))
    }
}

pub(super) type Run = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A handler whose job's type is forgotten: it takes the arguments as stored.
pub(super) type Erased = Box<dyn Fn(&str, Held) -> Result<Run, serde_json::Error> + Send + Sync>;

pub(super) fn erase<J: Job, H: Handler<J>>(handler: H) -> Erased {
    let handler = Arc::new(handler);
    Box::new(move |args, held| {
        let request = JobRequest::new(serde_json::from_str(args)?, held)?;
        let handler = handler.clone();
        Ok(Box::pin(async move { handler.run(request).await }))
    })
}
