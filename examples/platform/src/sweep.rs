//! Removes objects that no row owns.
//!
//! An object is stored before its row, so an upload that was cut off in between
//! leaves one. It is removed once it is older than any upload can still be
//! running, and only after its shard answered that there is no row.

use std::time::Duration;

use futures_util::{StreamExt as _, pin_mut};
use maxscale_core::Chain;
use maxscale_core::clock::Clock;
use maxscale_core::id::Id;
use tokio::time::sleep;

use crate::objects::Objects;
use crate::track::Tracks;

/// How often the objects are looked through.
pub const EVERY: Duration = Duration::from_secs(600);
/// How old an object without a row must be at least.
pub const OLDER_THAN: Duration = Duration::from_secs(3600);

/// The key of a track's object.
pub fn key(user: Id, project: Id, track: Id) -> String {
    format!("tracks/{user}/{project}/{track}.wav")
}

/// Looks through the objects now and every [`EVERY`], until dropped. `longest` is
/// how long an upload may run.
pub async fn run(objects: Objects, tracks: Tracks, clock: Clock, longest: Duration) {
    let age = OLDER_THAN.max(longest.saturating_mul(2));
    loop {
        let removed = once(&objects, &tracks, &clock, age).await;
        if removed > 0 {
            tracing::info!(removed, "removed objects that no row owns");
        }
        sleep(EVERY).await;
    }
}

/// Looks through the objects once; gives the number of those removed.
pub async fn once(objects: &Objects, tracks: &Tracks, clock: &Clock, age: Duration) -> u64 {
    let cutoff = clock.now().before(age);
    let mut removed = match objects.remove_stale_uploads(cutoff).await {
        Ok(removed) => removed,
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "cannot look for uploads that were cut off");
            0
        }
    };
    let found = objects.list_older_than(cutoff);
    pin_mut!(found);
    while let Some(found) = found.next().await {
        let swept = match found {
            Ok(found) => sweep(objects, tracks, &found.url).await,
            Err(error) => Err(error.into()),
        };
        match swept {
            Ok(swept) => removed += u64::from(swept),
            Err(error) => {
                tracing::warn!(error = %Chain(&*error), "cannot tell whether an object has a row");
            }
        }
    }
    removed
}

async fn sweep(
    objects: &Objects,
    tracks: &Tracks,
    url: &str,
) -> Result<bool, maxscale_core::BoxError> {
    // What this program did not name is not its to remove.
    let Some([user, project, track]) = ids(url) else {
        return Ok(false);
    };
    if tracks.find(user, project, track).await?.is_some() {
        return Ok(false);
    }
    objects.delete(url).await?;
    Ok(true)
}

fn ids(url: &str) -> Option<[Id; 3]> {
    let rest = url.strip_prefix("file://tracks/")?.strip_suffix(".wav")?;
    let ids: Result<Vec<Id>, _> = rest.split('/').map(str::parse).collect();
    ids.ok()?.try_into().ok()
}
