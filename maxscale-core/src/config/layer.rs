//! The layers of a configuration, and how the later ones win.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{fmt, fs, io};

use super::nearest::nearest;
use super::value::Raw;
use super::{
    Config, ConfigError, ConfigErrors, Origin, Schema, Setting, Value, environment, file, profile,
};

/// Collects the layers of a [`Config`]; see [`Config::builder`].
#[must_use]
pub struct ConfigBuilder {
    schema: Schema,
    files: Vec<(PathBuf, Presence)>,
    variables: BTreeMap<String, String>,
    broken_variables: Vec<String>,
    code: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Required,
    Optional,
}

/// What one layer says about one setting.
pub(super) struct Assignment<'s> {
    pub(super) setting: &'s Setting,
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

/// The value that won.
#[derive(Clone)]
pub(super) struct Effective {
    pub(super) value: Value,
    pub(super) shown: String,
    pub(super) origin: Origin,
}

// === impl ConfigBuilder ===

impl ConfigBuilder {
    pub(super) fn new(schema: Schema) -> Self {
        Self {
            schema,
            files: Vec::new(),
            variables: BTreeMap::new(),
            broken_variables: Vec::new(),
            code: Vec::new(),
        }
    }

    /// Reads a file that must be there. A later file wins over an earlier one.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push((path.into(), Presence::Required));
        self
    }

    /// Reads a file if it is there.
    pub fn optional_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push((path.into(), Presence::Optional));
        self
    }

    /// Takes these variables for the environment; all but ours are ignored.
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.variables.extend(variables);
        self
    }

    /// Reads the environment of this process.
    pub fn process_environment(mut self) -> Self {
        let (variables, broken) = environment::of_process();
        self.broken_variables.extend(broken);
        self.environment(variables)
    }

    /// Sets a value from code or the command line, written as in the
    /// environment. It wins over every other layer.
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.code.push((key.into(), value.into()));
        self
    }

    /// Reads all layers.
    ///
    /// # Errors
    ///
    /// Returns everything that is wrong in any layer, also where a stronger
    /// layer would have won.
    pub fn load(self) -> Result<Config, ConfigErrors> {
        let schema = &self.schema;
        let mut errors = Vec::new();
        let mut values = BTreeMap::new();

        let mut assignments: Vec<_> = schema.settings().iter().filter_map(by_default).collect();
        for (path, presence) in &self.files {
            match fs::read_to_string(path) {
                Ok(text) => {
                    assignments.extend(file::assignments(path, &text, schema, &mut errors));
                }
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound
                        && *presence == Presence::Optional => {}
                Err(source) => errors.push(ConfigError::UnreadableFile {
                    path: path.clone(),
                    source,
                }),
            }
        }
        let broken = self.broken_variables.into_iter();
        errors.extend(broken.map(|variable| ConfigError::NotUnicode { variable }));
        assignments.extend(environment::assignments(
            &self.variables,
            schema,
            &mut errors,
        ));
        assignments.extend(by_code(self.code, schema, &mut errors));

        for Assignment {
            setting,
            raw,
            origin,
        } in assignments
        {
            let shown = raw.shown(setting.kind());
            match setting.read(&raw) {
                Ok(value) => {
                    let effective = Effective {
                        value,
                        shown,
                        origin,
                    };
                    values.insert(setting.key(), effective);
                }
                Err(problem) => {
                    errors.push(ConfigError::invalid(setting, Some(&shown), origin, problem));
                }
            }
        }
        errors.extend(profile::unset(schema, &values, &errors));
        match errors.is_empty() {
            true => Ok(Config::new(self.schema, values)),
            false => Err(ConfigErrors(errors)),
        }
    }
}

/// Names no value: it is not yet known which of them are secrets.
impl fmt::Debug for ConfigBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigBuilder")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

fn by_default(setting: &Setting) -> Option<Assignment<'_>> {
    let default = setting.default_text()?;
    Some(Assignment {
        setting,
        raw: Raw::Text(default.to_owned()),
        origin: Origin::Default,
    })
}

fn by_code<'s>(
    code: Vec<(String, String)>,
    schema: &'s Schema,
    errors: &mut Vec<ConfigError>,
) -> Vec<Assignment<'s>> {
    let mut assignments = Vec::new();
    for (key, value) in code {
        let origin = Origin::Code;
        match schema.find(&key) {
            Some(setting) => assignments.push(Assignment {
                setting,
                raw: Raw::Text(value),
                origin,
            }),
            None => errors.push(ConfigError::Unknown {
                nearest: nearest(&key, schema.keys()).map(str::to_owned),
                key,
                origin,
            }),
        }
    }
    assignments
}
