//! Layers that keep one slow part from stopping the whole.
//!
//! [`DeadlineLayer`] bounds how long a request may take, and says so to
//! everything further in. The arithmetic behind such layers lives in
//! [`control`](crate::control).

mod deadline;

pub use deadline::{DeadlineFuture, DeadlineLayer, Deadlined};
