//! What can be wrong with a configuration, each with a way out.

use std::path::PathBuf;
use std::{fmt, io};

use super::{Explanation, Kind, Origin, Problem, Setting};

/// One thing wrong with a configuration.
///
/// Its `Display` is one clause; [`ConfigError::explanation`] is the block for
/// a person. Neither shows a secret, nor the value of a key that nobody knows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A configuration file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    UnreadableFile {
        /// The file, as it was named.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A configuration file is not TOML.
    #[error("cannot understand the configuration file {}", path.display())]
    Syntax {
        /// The file, as it was named.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What the parser expected there.
        message: Box<str>,
    },
    /// A key or variable that the schema does not have.
    #[error("unknown configuration key `{key}`")]
    Unknown {
        /// The key or variable.
        key: String,
        /// Where it is.
        origin: Origin,
        /// The most similar name that is known; `None` if the schema is empty.
        nearest: Option<String>,
    },
    /// A value that is not of its setting's kind, or that the program refused.
    #[error("`{key}` cannot be used as it is set")]
    Invalid {
        /// The setting.
        key: &'static str,
        /// What its text must look like.
        kind: Kind,
        /// The value, masked; `None` when it has no text.
        shown: Option<Box<str>>,
        /// Where it came from.
        origin: Origin,
        /// Why it cannot be used.
        #[source]
        problem: Problem,
    },
    /// A variable's value is not Unicode.
    #[error("the value of {variable} is not Unicode text")]
    NotUnicode {
        /// The variable.
        variable: String,
    },
    /// The file that a variable names cannot be read. The path stays out of
    /// all output: it may be the secret itself, set in the wrong variable.
    #[error("cannot read the file that {variable} names")]
    SecretFile {
        /// The setting.
        key: &'static str,
        /// The variable, which ends in `_FILE`.
        variable: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Both the value and a file with the value are given.
    #[error("{variable} and {file_variable} are both set")]
    TwoSources {
        /// The variable for the value.
        variable: String,
        /// The variable for the file.
        file_variable: String,
    },
    /// The program needs a value, and nobody set one.
    #[error("`{key}` has no value")]
    Missing {
        /// The setting.
        key: &'static str,
        /// What its text must look like.
        kind: Kind,
        /// The variable that sets it.
        variable: String,
    },
    /// The profile `prod` needs a value, and nobody set one.
    #[error("`{key}` has to be set in prod")]
    UnsetInProd {
        /// The setting.
        key: &'static str,
        /// What its text must look like.
        kind: Kind,
        /// The variable that sets it.
        variable: String,
        /// What holds in `dev`.
        default: Option<&'static str>,
        /// Where the profile came from.
        profile: Origin,
    },
    /// The program asked for a key that its schema does not have.
    #[error("the program reads `{key}`, which its schema does not have")]
    Undeclared {
        /// The key.
        key: String,
    },
    /// The program asked for a type that the setting's kind cannot become.
    #[error("the program reads `{key}` as {wanted}")]
    Misread {
        /// The setting.
        key: &'static str,
        /// What its text looks like.
        kind: Kind,
        /// The type that was asked for.
        wanted: &'static str,
    },
}

/// All that is wrong with a configuration; prints one block for each.
#[derive(Debug)]
pub struct ConfigErrors(pub(super) Vec<ConfigError>);

// === impl ConfigError ===

impl ConfigError {
    pub(super) fn invalid(
        setting: &Setting,
        shown: Option<&str>,
        origin: Origin,
        problem: Problem,
    ) -> Self {
        Self::Invalid {
            key: setting.key(),
            kind: setting.kind(),
            shown: shown.map(Into::into),
            origin,
            problem,
        }
    }

    /// Whether it is about what somebody set `setting` to.
    pub(super) fn concerns(&self, setting: &Setting) -> bool {
        match self {
            Self::Invalid { key, .. } | Self::SecretFile { key, .. } => *key == setting.key(),
            Self::TwoSources { variable, .. } => *variable == setting.variable(),
            Self::NotUnicode { variable } => {
                *variable == setting.variable()
                    || Some(variable) == setting.file_variable().as_ref()
            }
            _ => false,
        }
    }

    /// The error as a block for a person: what, where, why, what to do.
    #[must_use]
    pub fn explanation(&self) -> Explanation {
        let explain = |why: &dyn fmt::Display, action: &str| {
            Explanation::new(self.to_string(), why.to_string(), action)
        };
        match self {
            Self::UnreadableFile { path, source } => explain(
                &reason(source),
                "check the path and who may read it, or start without this file",
            )
            .place(path.display().to_string()),
            Self::Syntax {
                path,
                line,
                message,
            } => explain(&format!("it is not TOML: {message}"), "correct this line")
                .place(format!("{}, line {line}", path.display())),
            Self::Unknown {
                key,
                origin,
                nearest,
            } => unknown(key, origin, nearest.as_deref()),
            Self::Invalid {
                key,
                kind,
                shown,
                origin,
                problem,
            } => explain(problem, &remedy(problem, *kind)).setting(
                key,
                shown.as_deref().unwrap_or("(not a text)"),
                origin.clone(),
            ),
            Self::NotUnicode { variable } => explain(
                &"it holds bytes that are not UTF-8",
                "write the value again in UTF-8",
            )
            .place(variable),
            Self::SecretFile {
                key,
                variable,
                source,
            } => explain(
                &reason(source),
                &format!("check the path in {variable} and who may read the file"),
            )
            .place(format!("{key}, from {variable}")),
            Self::TwoSources {
                variable,
                file_variable,
            } => explain(
                &"only one of them can hold",
                &format!("unset {variable} or {file_variable}"),
            )
            .place(format!("{variable}, {file_variable}")),
            Self::Missing {
                key,
                kind,
                variable,
            } => explain(
                &"nobody set it, and it has no default",
                &to_set(key, *kind, variable),
            )
            .setting(key, "", None),
            Self::UnsetInProd {
                key,
                kind,
                variable,
                default,
                profile,
            } => {
                let why = why_unset(*default, profile);
                explain(&why, &to_set(key, *kind, variable)).setting(key, "", None)
            }
            Self::Undeclared { .. } | Self::Misread { .. } => self.mistake(),
        }
    }

    /// What no user can mend.
    fn mistake(&self) -> Explanation {
        let (why, action) = match self {
            Self::Misread { kind, .. } => (
                format!("its kind is {kind}; this is a mistake of the program"),
                "read it as another type, or change its kind in the schema",
            ),
            _ => (
                "this is a mistake of the program, not of its configuration".to_owned(),
                "add the key to the schema",
            ),
        };
        Explanation::new(self.to_string(), why, action)
    }
}

fn why_unset(default: Option<&str>, profile: &Origin) -> String {
    let default = default.map(|text| format!("the default {text} holds in dev only"));
    let why = default.unwrap_or_else(|| "nobody set it".to_owned());
    format!("{why}, and the profile is prod ({profile})")
}

fn to_set(key: &str, kind: Kind, variable: &str) -> String {
    format!("set {variable}, or {key} in the configuration file, to {kind}")
}

/// Says in which layer the name is unknown, since keys and variables differ.
fn unknown(key: &str, origin: &Origin, nearest: Option<&str>) -> Explanation {
    let (noun, place) = match origin {
        Origin::Environment { .. } => ("environment variable", key.to_owned()),
        _ => ("key", format!("{key} ({origin})")),
    };
    let why = match nearest {
        Some(nearest) => format!("no setting has this name; the nearest is {nearest}"),
        None => "this program has no settings".to_owned(),
    };
    let action = match nearest {
        Some(nearest) => format!("write {nearest} if it was meant, or remove {key}"),
        None => format!("remove {key}"),
    };
    Explanation::new(format!("unknown {noun} {key}"), why, action).place(place)
}

fn remedy(problem: &Problem, kind: Kind) -> String {
    match problem {
        Problem::OutOfRange { min, max } => format!("set a whole number from {min} to {max}"),
        Problem::Scheme { accepted, .. } => {
            format!("set a URL that starts with {}://", accepted.join(":// or "))
        }
        Problem::Refused(_) => "set a value that this accepts".to_owned(),
        _ => format!("set {kind}"),
    }
}

/// The reason without the number that operating systems add to it.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_lowercase(),
        None => text,
    }
}

// === impl ConfigErrors ===

impl ConfigErrors {
    /// The errors, in the order of the layers.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n\n")?;
            }
            error.explanation().fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
