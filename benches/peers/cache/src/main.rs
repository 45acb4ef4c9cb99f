//! Our cache beside its peers in Rust.

mod http;
mod load;

use maxscale_core::BoxError;
use maxscale_measure::{Plan, Report};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let plan = if quick { Plan::QUICK } else { Plan::FULL };
    let mut report = Report::default();
    load::run(&plan, &mut report).await?;
    http::hit_vs_axum_response_cache(&plan, &mut report).await
}
