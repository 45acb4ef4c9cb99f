//! The shape of an error that a person reads at a terminal.

use std::fmt;
use std::path::PathBuf;

use super::mask::mask_url;

/// Says what failed, which setting is behind it and where that came from,
/// why it failed, and what to do.
///
/// It prints as one block, and is an error itself, so that a program can
/// return it. Passwords in URLs are hidden in every part, whoever wrote it.
///
/// ```
/// use maxscale_core::config::{Explanation, Origin};
///
/// let explanation = Explanation::new(
///     "cannot listen for requests",
///     "port 3000 is in use by another program",
///     "stop that program, or choose another port",
/// )
/// .setting("http.port", "3000", Origin::Code);
///
/// assert_eq!(
///     explanation.to_string(),
///     "error: cannot listen for requests\n\
///      where: http.port = 3000 (set by code or command line)\n\
///      why:   port 3000 is in use by another program\n\
///      do:    stop that program, or choose another port",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    what: String,
    place: Option<String>,
    why: String,
    action: String,
}

/// Where a value of the configuration came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody set it; the schema's default holds.
    Default,
    /// A configuration file.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// A variable of the environment.
    Environment {
        /// The variable's name.
        name: String,
    },
    /// The program itself, or its command line.
    Code,
}

// === impl Explanation ===

impl Explanation {
    /// Explains a failure that no setting is behind.
    #[must_use]
    pub fn new(what: impl AsRef<str>, why: impl AsRef<str>, action: impl AsRef<str>) -> Self {
        Self {
            what: mask_url(what.as_ref()),
            place: None,
            why: mask_url(why.as_ref()),
            action: mask_url(action.as_ref()),
        }
    }

    /// Names the setting, its value as it may be shown, and its origin.
    #[must_use]
    pub fn setting(mut self, key: &str, shown: &str, origin: impl Into<Option<Origin>>) -> Self {
        let shown = mask_url(shown);
        self.place = Some(match origin.into() {
            Some(origin) => format!("{key} = {shown} ({origin})"),
            None => format!("{key} is not set"),
        });
        self
    }

    /// Names any other place: a file and line, a variable.
    #[must_use]
    pub fn place(mut self, place: impl AsRef<str>) -> Self {
        self.place = Some(mask_url(place.as_ref()));
        self
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", Indented(&self.what))?;
        if let Some(place) = &self.place {
            write!(f, "\nwhere: {}", Indented(place))?;
        }
        write!(f, "\nwhy:   {}", Indented(&self.why))?;
        write!(f, "\ndo:    {}", Indented(&self.action))
    }
}

impl std::error::Error for Explanation {}

// === impl Origin ===

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Environment { name } => write!(f, "environment variable {name}"),
            Self::Code => f.write_str("set by code or command line"),
        }
    }
}

/// Text whose further lines stand under its first, and whose control
/// characters cannot move the terminal's cursor.
struct Indented<'a>(&'a str);

impl fmt::Display for Indented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, line) in self.0.trim_end().lines().enumerate() {
            if number > 0 {
                f.write_str("\n       ")?;
            }
            for c in line.chars() {
                match c.is_control() {
                    true => write!(f, "{}", c.escape_debug())?,
                    false => fmt::Write::write_char(f, c)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Explanation, Origin};

    #[test]
    fn further_lines_stand_under_the_first() {
        let explanation = Explanation::new("a\nb", "c\x1b[2J", "d\n").place("e");
        assert_eq!(
            explanation.to_string(),
            "error: a\n       b\nwhere: e\nwhy:   c\\u{1b}[2J\ndo:    d",
        );
    }

    #[test]
    fn password_in_any_part_is_hidden() {
        let url = "redis://u:planted@h";
        let explanation = Explanation::new(url, url, url).setting("redis.url", url, Origin::Code);
        assert!(
            !explanation.to_string().contains("planted"),
            "{explanation}"
        );
        assert!(!format!("{explanation:?}").contains("planted"));
    }
}
