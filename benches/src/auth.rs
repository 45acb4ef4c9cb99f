//! What a request pays to know who is asking, and what a session takes.

mod footprint;
mod lookup;
mod tokens;

use std::sync::Arc;

use maxscale_core::BoxError;
use maxscale_core::keys::{KeyError, KeyRing, Secret};
use maxscale_measure::{Plan, Report};

use crate::peer;

const VS_PEERS: [&str; 4] = [
    "auth.jwt_verify_vs_jsonwebtoken",
    "auth.session_vs_tower_sessions",
    "auth.rolling_vs_always_save",
    "auth.session_l1_vs_tower_sessions",
];

pub(crate) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    footprint::run(plan, report).await?;
    lookup::run(plan, report).await?;
    tokens::run(plan, report).await?;
    peer::rust(plan, report, "auth", &VS_PEERS).await
}

fn keys() -> Result<Arc<KeyRing>, KeyError> {
    Ok(Arc::new(KeyRing::new(1, Secret::new([7; 32]))?))
}
