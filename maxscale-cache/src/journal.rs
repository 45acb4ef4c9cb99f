//! What has to outlive the process, on its disk: records in the segments of a
//! folder.
//!
//! Of what the records mean nothing is known here. Write-behind keeps values
//! that are not written yet ([`behind`](crate::behind)), a hub the invalidations
//! that L2 has not confirmed.

mod record;
mod segments;

pub(crate) use record::Record;
pub(crate) use segments::Segments;
