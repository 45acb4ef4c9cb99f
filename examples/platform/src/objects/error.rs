//! Why an object could not be kept or found.

use std::io;
use std::path::PathBuf;

use maxscale_core::BoxError;
use maxscale_core::refusal::{Class, Classify};

/// An object could not be kept or found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectsError {
    /// The store's URL has a scheme that is not built.
    #[error("cannot keep objects at a URL with the scheme {scheme:?}; file:// is supported")]
    Scheme {
        /// The scheme, without the rest of the URL.
        scheme: String,
    },

    /// The folder cannot be used.
    #[error("cannot use the folder {} for objects", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },

    /// A key that could name a file elsewhere, or two files on some systems.
    #[error("the object key {key:?} is not made of a-z, 0-9, _, . and - between single slashes")]
    Key {
        /// The key as it came.
        key: String,
    },

    /// A URL that this store never gave out.
    #[error("{url:?} is no object of this store")]
    Url {
        /// The URL as it came.
        url: String,
    },

    /// There is no such object.
    #[error("there is no object {url}")]
    Missing {
        /// Its URL.
        url: String,
    },

    /// The body was longer than allowed.
    #[error("the object is larger than {limit} bytes")]
    TooLarge {
        /// What is allowed.
        limit: u64,
    },

    /// The body ended in an error.
    #[error("the object's body broke off")]
    Body {
        /// Why.
        #[source]
        source: BoxError,
    },

    /// The store below failed.
    #[error("cannot {step} the object")]
    Store {
        /// What it was doing.
        step: &'static str,
        /// Why.
        #[source]
        source: BoxError,
    },
}

impl Classify for ObjectsError {
    fn class(&self) -> Class {
        match self {
            Self::TooLarge { .. } => Class::TooLarge,
            Self::Body { .. } => Class::Invalid,
            Self::Missing { .. } => Class::NotFound,
            Self::Folder { .. } | Self::Store { .. } => Class::Unavailable,
            Self::Scheme { .. } | Self::Key { .. } | Self::Url { .. } => Class::Internal,
        }
    }
}
