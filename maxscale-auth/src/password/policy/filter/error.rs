use std::io;
use std::path::PathBuf;

/// A list of passwords could not be read or built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// The file could not be read or written.
    #[error("cannot use the file {}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },

    /// It does not begin as a filter does.
    #[error("this is not a password filter")]
    NotOne,

    /// It is of a version that is not known here.
    #[error("the password filter is of version {0}, which is not known here")]
    Version(u8),

    /// Its end is missing, or something follows it.
    #[error("the password filter should have {expected} bytes and has {found}")]
    Length {
        /// By what it says at its beginning.
        expected: u64,
        /// What is there.
        found: u64,
    },

    /// Its bytes are not those that were written.
    #[error("the password filter is damaged")]
    Damaged,

    /// Nothing, or more than fits into memory, is asked for.
    #[error(
        "a filter of {passwords} passwords that is wrong about {wrong} of others cannot be built"
    )]
    Size {
        /// How many passwords.
        passwords: u64,
        /// The rate of passwords that it takes for others.
        wrong: f64,
    },

    /// A line of a list of hashes is none.
    #[error("line {line} is not a SHA-1 in hexadecimal digits, perhaps with a count")]
    Line {
        /// Which one, from 1.
        line: u64,
    },
}
