//! Work that outlives a request: jobs that are rows in the user's shard.
//!
//! ```text
//!  handler ── enqueue_in(&mut tx, job) ──> ms_job, the same shard and transaction
//!                                             │ commit rings the doorbell
//!  Worker ── one claimer per node ── claim a batch ── Handler ── settle
//!     └ one lease per node, renewed                      └ complete_in(&mut tx)
//! ```
//!
//! A job runs at least once and comes to exactly one end, done or dead. Its
//! effect is made once where it goes through [`JobRequest::complete_in`]. Every
//! claim bumps the row's fencing token, so whoever lost a lease can change
//! nothing any more; leases are judged by the database's clock alone.
//!
//! This crate knows no cookie and no cache. It opens no database: it runs on
//! the handles of `maxscale_shard`.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod bell;
mod cancellation;
mod dead;
mod enqueue;
mod error;
mod explain;
mod failure;
mod job;
mod options;
mod pause;
mod queue;
mod request;
mod schema;
mod seal;
mod slot;
mod step;
mod store;
#[cfg(feature = "testkit")]
#[cfg_attr(docsrs, doc(cfg(feature = "testkit")))]
pub mod testkit;
mod unique;
mod worker;

pub use cancellation::Cancellation;
pub use dead::{DeadFilter, DeadLetter, DeadLetters, DeadReason};
pub use error::QueueError;
pub use explain::{Event, Explanation};
pub use failure::Failure;
pub use job::{Job, JobId, JobState, JobStatus, Outcome};
pub use options::{EnqueueOptions, Enqueued};
pub use queue::Queue;
pub use request::JobRequest;
pub use schema::MIGRATIONS;
#[cfg(feature = "seal")]
pub use seal::ArgsKeys;
pub use unique::Unique;
pub use worker::{Handler, Layered, Worker, WorkerBuilder};
