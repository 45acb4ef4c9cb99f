//! Configuration files in TOML.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::layer::Assignment;
use super::nearest::nearest;
use super::value::Raw;
use super::{ConfigError, Origin, Problem, Schema};

/// What the file sets. A file that is not TOML sets nothing.
pub(super) fn assignments<'s>(
    path: &Path,
    text: &str,
    schema: &'s Schema,
    errors: &mut Vec<ConfigError>,
) -> Vec<Assignment<'s>> {
    let mut reader = Reader {
        path,
        text,
        schema,
        assignments: Vec::new(),
        errors,
    };
    match DeTable::parse(text) {
        Ok(table) => reader.table(None, table.get_ref()),
        // Only the message is kept: the parser's own error prints the line,
        // and with it a secret.
        Err(error) => reader.errors.push(ConfigError::Syntax {
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            path: path.to_owned(),
            message: error.message().into(),
        }),
    }
    reader.assignments
}

struct Reader<'a, 's> {
    path: &'a Path,
    text: &'a str,
    schema: &'s Schema,
    assignments: Vec<Assignment<'s>>,
    errors: &'a mut Vec<ConfigError>,
}

impl Reader<'_, '_> {
    /// Reads a table whose own key is a section of the schema, or the root.
    fn table(&mut self, section: Option<&str>, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = match section {
                Some(section) => format!("{section}.{}", Word(name.get_ref())),
                None => Word(name.get_ref()).to_string(),
            };
            let origin = Origin::File {
                path: self.path.to_owned(),
                line: line_of(self.text, name.span().start),
            };
            match (self.schema.find(&key), value.get_ref()) {
                (Some(setting), value) => match raw(value) {
                    Ok(raw) => self.assignments.push(Assignment {
                        setting,
                        raw,
                        origin,
                    }),
                    Err(problem) => self
                        .errors
                        .push(ConfigError::invalid(setting, None, origin, problem)),
                },
                (None, DeValue::Table(inner)) if self.schema.has_section(&key) => {
                    self.table(Some(&key), inner);
                }
                (None, value) => {
                    let keys = self.schema.keys();
                    let nearest = match value {
                        DeValue::Table(_) => nearest(&key, self.schema.sections().chain(keys)),
                        _ => nearest(&key, keys),
                    };
                    self.errors.push(ConfigError::Unknown {
                        nearest: nearest.map(str::to_owned),
                        key,
                        origin,
                    });
                }
            }
        }
    }
}

fn raw(value: &DeValue<'_>) -> Result<Raw, Problem> {
    let wrong = |found| Err(Problem::WrongType { found });
    match value {
        DeValue::String(text) => Ok(Raw::Text(text.to_string())),
        DeValue::Boolean(value) => Ok(Raw::Bool(*value)),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Raw::Integer)
            .map_err(|_| Problem::TooLarge),
        DeValue::Array(items) => items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                _ => Err(Problem::WrongType {
                    found: "an array of something other than texts",
                }),
            })
            .collect::<Result<_, _>>()
            .map(Raw::List),
        DeValue::Float(_) => wrong("a number with a fraction"),
        DeValue::Datetime(_) => wrong("a date or time"),
        DeValue::Table(_) => wrong("a table"),
    }
}

/// One word of a key as TOML would need it: quoted unless bare, so that the
/// key `"http.port"` is not taken for `port` in `[http]`.
struct Word<'a>(&'a str);

impl std::fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        match !self.0.is_empty() && self.0.chars().all(bare) {
            true => f.write_str(self.0),
            false => write!(f, "{:?}", self.0),
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    before.filter(|&&byte| byte == b'\n').count() + 1
}
