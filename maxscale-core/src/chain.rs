use std::error::Error;
use std::fmt;

/// An error of any type, as `source` fields carry it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Prints an error with its causes, outermost first, joined by `: `.
///
/// Errors of these crates leave their cause out of `Display`, so whoever logs
/// one prints the chain. Others' errors often repeat it: a cause that the text
/// before it ends with is not printed again.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    #[test]
    fn cause_that_was_told_already_is_not_told_again() {
        let link = |text, source| Some(Box::new(Link { text, source }));
        let root = link("refused (111)", None);
        let driver = link("cannot talk: refused (111)", root);
        let top = link("cannot connect", driver);
        assert_eq!(
            Chain(&top.unwrap()).to_string(),
            "cannot connect: cannot talk: refused (111)",
        );
    }
}
