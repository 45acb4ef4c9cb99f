//! What is bounded here, and how full it is.

use std::path::Path;

use maxscale_core::capacity::{Capacity, CapacityError};
use maxscale_core::clock::Clock;
use maxscale_core::limit::Holders;
use maxscale_core::meter::Meter;
use maxscale_core::serve::Connections;

/// Watches the connections of users, the streams of who has most of them, and the disk
/// that `folder` is on.
///
/// # Errors
///
/// Returns [`CapacityError`], which defaults never are.
pub fn watch(
    folder: &Path,
    connections: Connections,
    streams: &Holders,
    meter: &Meter,
) -> Result<Capacity, CapacityError> {
    let capacity = Capacity::builder(Clock::system()).meter(meter).build()?;
    let limit = connections.clone();
    capacity.register(
        "connections",
        move || Some(float(connections.open())),
        move || Some(float(limit.limit())),
    );
    let (held, most) = (streams.clone(), streams.concurrency().most());
    capacity.register(
        "streams of one user",
        move || u32::try_from(held.most_held_here()).ok().map(f64::from),
        move || Some(most.into()),
    );
    let (used, whole) = (folder.to_owned(), folder.to_owned());
    capacity.register(
        "disk",
        move || disk(&used).map(|(used, _)| used),
        move || disk(&whole).map(|(_, whole)| whole),
    );
    Ok(capacity)
}

/// How many blocks are used, and how many there are for this user.
fn disk(folder: &Path) -> Option<(f64, f64)> {
    let found = rustix::fs::statvfs(folder).ok()?;
    let used = found.f_blocks.saturating_sub(found.f_bfree);
    // What only the administrator may fill is no room.
    Some((float(used), float(used.saturating_add(found.f_bavail))))
}

#[expect(clippy::cast_precision_loss, reason = "a ratio needs no more digits")]
const fn float(number: u64) -> f64 {
    number as f64
}
