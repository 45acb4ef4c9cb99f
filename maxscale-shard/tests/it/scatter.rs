//! Questions to all nodes: what they answer, and what happens when some do not.

mod aggregates;
mod cancelled;
mod failures;
mod fixture;
mod large;
mod merge;
#[cfg(feature = "cursor")]
mod pages;
mod refused;
mod replicas;
mod statements;
