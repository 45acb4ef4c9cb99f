//! The router: what finding a shard costs, and a statement against bare sqlx.

mod endpoints;
mod reload;
mod replica;
mod route;
mod scatter;
mod statement;

use maxscale_core::BoxError;
use maxscale_measure::{Plan, Report};

pub(crate) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    endpoints::run(plan, report).await?;
    route::run(plan, report)?;
    reload::run(plan, report)?;
    statement::run(plan, report).await?;
    replica::run(plan, report).await?;
    scatter::run(plan, report).await
}
