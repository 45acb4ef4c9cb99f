//! Servers over real connections, and how they end.

mod app;
mod end;
mod grpc;
mod limits;
mod process;
pub(crate) mod wire;
