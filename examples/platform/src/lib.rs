//! platform

pub mod audio;
pub mod objects;
