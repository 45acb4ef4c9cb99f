//! The HTTP cache before real axum servers, over TCP.

mod body;
mod cases;
mod cdn;
mod rig;
mod share;
mod stale;
mod table;
mod tags;
