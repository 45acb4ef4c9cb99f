//! What has to outlive the process: records, and the segments of a folder in
//! which they lie on its disk.
//!
//! Of what the records mean nothing is known here. Write-behind keeps values
//! that are not written yet ([`behind`](crate::behind)), in a folder or in a
//! stream of Redis; a hub keeps the invalidations that L2 has not confirmed.

mod record;
mod segments;

pub(crate) use record::Record;
#[cfg(feature = "redis")]
pub(crate) use record::{Rest, read_all, write_group};
pub(crate) use segments::Segments;
