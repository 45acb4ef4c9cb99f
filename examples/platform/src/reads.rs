//! What the platform reads through the cache, and for how long that may be wrong.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use maxscale_cache::{Cache, CacheError, Token};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How old a value is shown at most, whatever went wrong.
pub(crate) const LIVES: Duration = Duration::from_secs(60);

/// The value of `id`, with the change that `since` is of.
pub(crate) async fn read<V, F, Fut, E>(
    cache: &Cache<V>,
    id: &str,
    since: Option<Token>,
    load: F,
) -> Result<Option<Arc<V>>, CacheError<E>>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Option<V>, E>> + Send + 'static,
    E: Send + Sync + 'static,
{
    match since {
        Some(token) => cache.get_min_version(id, token, load).await,
        None => cache.get_or_load(id, load).await,
    }
}
