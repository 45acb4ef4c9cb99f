//! A load that is held until it is told to end.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use maxscale_cache::CacheError;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

type Found<T> = Result<Option<T>, Infallible>;

pub(crate) type Load = Box<dyn FnOnce() -> BoxFuture<'static, Found<u64>> + Send>;

type Answer = Result<Option<Arc<u64>>, CacheError<Infallible>>;

/// A read whose load is under way.
pub(crate) struct Held {
    go: oneshot::Sender<()>,
    read: JoinHandle<Answer>,
}

// === impl Held ===

impl Held {
    /// Starts `read`, and returns once its load runs. It will find `value`.
    pub(crate) async fn start<Fut>(value: u64, read: impl FnOnce(Load) -> Fut) -> Self
    where
        Fut: Future<Output = Answer> + Send + 'static,
    {
        let (go, gate) = oneshot::channel();
        let (started, start) = oneshot::channel();
        let load: Load = Box::new(move || {
            Box::pin(async move {
                started.send(()).unwrap();
                gate.await.unwrap();
                Ok(Some(value))
            })
        });
        let read = tokio::spawn(read(load));
        start.await.unwrap();
        Self { go, read }
    }

    /// Lets the load end, and returns what was read.
    pub(crate) async fn end(self) -> u64 {
        self.go().await.unwrap()
    }

    /// Lets the load end, and does not wait for it.
    pub(crate) fn go(self) -> JoinHandle<u64> {
        self.go.send(()).unwrap();
        tokio::spawn(async move { *self.read.await.unwrap().unwrap().unwrap() })
    }
}
