//! Jobs from enqueue to their end, on a PostgreSQL that waits for its disk.

mod in_tx;
mod npm;
mod ours;
mod pickup;

use maxscale_core::BoxError;
use maxscale_measure::{Plan, Report};

use crate::peer;

const IN_RUST: [&str; 3] = [
    "queue.noop_vs_graphile_worker_rs",
    "queue.bulk_enqueue_vs_graphile_worker_rs",
    "queue.noop_vs_apalis",
];

pub(crate) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    in_tx::run(plan, report).await?;
    pickup::run(plan, report).await?;
    npm::run(plan, report).await?;
    peer::rust(plan, report, "queue", &IN_RUST).await
}
