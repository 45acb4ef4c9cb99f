//! How benches measure, and what they print.
//!
//! Apart from the benches, so that a peer in a workspace of its own measures the
//! same way and pulls none of what the benches need.

mod bar;
mod rounds;

pub use bar::{Bar, Op, Report};
pub use rounds::{Median, Plan, Rounds};
