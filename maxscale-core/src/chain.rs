use std::error::Error;
use std::fmt;

/// An error of any type, as `source` fields carry it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Prints an error with its causes, outermost first, joined by `: `.
///
/// Errors of these crates leave their cause out of `Display`, so whoever logs
/// one prints the chain.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
