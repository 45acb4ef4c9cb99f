//! Why a file could not be measured.

use std::io;

use maxscale_core::refusal::{Class, Classify};

/// A file could not be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AudioError {
    /// The file does not begin as a WAV does.
    #[error("the file is not a WAV")]
    NotWav,

    /// A WAV of a kind that is not measured here.
    #[error("a WAV with {field} {value} is not supported")]
    Unsupported {
        /// What of it.
        field: &'static str,
        /// Its value in this file.
        value: u64,
    },

    /// The file contradicts itself.
    #[error("the WAV is malformed: {reason}")]
    Malformed {
        /// In what.
        reason: &'static str,
    },

    /// The file is shorter than it says.
    #[error("the WAV declares {declared} bytes and has {actual}")]
    Truncated {
        /// The size that its headers promise, in bytes.
        declared: u64,
        /// The size that it has, in bytes.
        actual: u64,
    },

    /// The WAV holds no sample.
    #[error("the WAV holds no audio")]
    Empty,

    /// A float sample is infinite or not a number.
    #[error("a sample in frame {frame} is not a finite number")]
    NotFinite {
        /// Where, counted from 0.
        frame: u64,
    },

    /// The decoder refused the file.
    #[error("cannot decode the WAV")]
    Decode {
        /// Why.
        #[from]
        source: hound::Error,
    },

    /// The file could not be read; the only failure that is not the file's own.
    #[error("cannot read the WAV")]
    Read {
        /// Why.
        #[source]
        source: io::Error,
    },
}

// === impl AudioError ===

impl AudioError {
    /// Whether another attempt on the same file would fail alike.
    pub const fn is_permanent(&self) -> bool {
        !matches!(self, Self::Read { .. })
    }
}

impl Classify for AudioError {
    fn class(&self) -> Class {
        match self {
            Self::NotWav | Self::Unsupported { .. } => Class::UnsupportedMedia,
            Self::Read { .. } => Class::Unavailable,
            _ => Class::Unprocessable,
        }
    }
}
