//! Variables of the environment; the only place that reads the process's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;

use super::layer::Assignment;
use super::nearest::nearest;
use super::value::Raw;
use super::{ConfigError, Kind, Origin, Schema, Setting};

/// What the names of our variables start with.
pub(super) const PREFIX: &str = "MAXSCALE__";

/// Variables that many programs share, each with the key it sets and the kind that
/// this setting must have. An empty one counts as unset, as their conventions say,
/// and ours with the same meaning wins.
const SHARED: [(&str, &str, Kind); 7] = [
    ("RUST_LOG", "log.filter", Kind::Text),
    ("NO_COLOR", "log.color", Kind::Bool),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "otel.endpoint", Kind::Url),
    ("OTEL_EXPORTER_OTLP_HEADERS", "otel.headers", Kind::Secrets),
    ("OTEL_RESOURCE_ATTRIBUTES", "otel.attributes", Kind::List),
    ("OTEL_SERVICE_NAME", "otel.service", Kind::Text),
    ("OTEL_TRACES_SAMPLER_ARG", "otel.share", Kind::Text),
];

/// The variable that sets `setting` and belongs to many programs.
pub(super) fn shared_with(setting: &Setting) -> Option<&'static str> {
    let same = |&&(_, key, kind): &&(_, &str, Kind)| key == setting.key() && kind == setting.kind();
    SHARED.iter().find(same).map(|(name, ..)| *name)
}

/// The process's variables that concern us, and the names of those whose
/// value is not Unicode.
pub(super) fn of_process() -> (BTreeMap<String, String>, Vec<String>) {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the environment"
    )]
    let variables = std::env::vars_os();
    unicode(variables)
}

fn unicode(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> (BTreeMap<String, String>, Vec<String>) {
    let (mut readable, mut broken) = (BTreeMap::new(), Vec::new());
    for (name, value) in variables {
        let name = name.to_string_lossy().into_owned();
        let shared = SHARED.iter().any(|(shared, ..)| *shared == name);
        if !name.starts_with(PREFIX) && !shared {
            continue;
        }
        match value.into_string() {
            Ok(value) => {
                readable.insert(name, value);
            }
            Err(_) => broken.push(name),
        }
    }
    (readable, broken)
}

/// What the variables set, weakest first.
pub(super) fn assignments<'s>(
    variables: &BTreeMap<String, String>,
    schema: &'s Schema,
    errors: &mut Vec<ConfigError>,
) -> Vec<Assignment<'s>> {
    let mut assignments = Vec::new();
    let mut assign = |setting, name: &str, raw| {
        let name = name.to_owned();
        assignments.push(Assignment {
            setting,
            raw,
            origin: Origin::Environment { name },
        });
    };
    for (name, key, kind) in SHARED {
        let value = variables.get(name).filter(|value| !value.is_empty());
        let setting = schema.find(key).filter(|setting| setting.kind() == kind);
        if let (Some(value), Some(setting)) = (value, setting) {
            let raw = match kind {
                Kind::Bool => Raw::Bool(false),
                _ => Raw::Text(value.clone()),
            };
            assign(setting, name, raw);
        }
    }
    for (name, value) in variables
        .iter()
        .filter(|(name, _)| name.starts_with(PREFIX))
    {
        match Target::of(name, schema) {
            Some(Target::Value(setting)) => assign(setting, name, Raw::Text(value.clone())),
            Some(Target::File(setting)) if variables.contains_key(&setting.variable()) => {
                errors.push(ConfigError::TwoSources {
                    variable: setting.variable(),
                    file_variable: name.clone(),
                });
            }
            Some(Target::File(setting)) => match fs::read_to_string(value) {
                Ok(text) => {
                    let text = text.strip_suffix('\n').unwrap_or(&text);
                    let text = text.strip_suffix('\r').unwrap_or(text);
                    assign(setting, name, Raw::Text(text.to_owned()));
                }
                Err(source) => errors.push(ConfigError::SecretFile {
                    key: setting.key(),
                    variable: name.clone(),
                    source,
                }),
            },
            None => errors.push(unknown(name, schema)),
        }
    }
    assignments
}

/// What a variable sets: the value, or the file that holds it.
enum Target<'s> {
    Value(&'s Setting),
    File(&'s Setting),
}

impl<'s> Target<'s> {
    fn of(name: &str, schema: &'s Schema) -> Option<Self> {
        schema.settings().iter().find_map(|setting| {
            if setting.variable() == name {
                Some(Self::Value(setting))
            } else if setting.file_variable().as_deref() == Some(name) {
                Some(Self::File(setting))
            } else {
                None
            }
        })
    }
}

fn unknown(name: &str, schema: &Schema) -> ConfigError {
    let known = schema
        .settings()
        .iter()
        .flat_map(|setting| [Some(setting.variable()), setting.file_variable()])
        .flatten();
    ConfigError::Unknown {
        key: name.to_owned(),
        nearest: nearest(name, known),
        origin: Origin::Environment {
            name: name.to_owned(),
        },
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use super::unicode;

    #[test]
    fn bytes_that_are_no_text_trouble_only_our_variables() {
        let bytes = || OsString::from_vec(vec![b'a', 0xff]);
        let (readable, broken) = unicode([
            ("MAXSCALE__A".into(), bytes()),
            ("PATH".into(), bytes()),
            (bytes(), "x".into()),
            ("MAXSCALE__B".into(), "b".into()),
        ]);
        assert_eq!(broken, ["MAXSCALE__A"]);
        assert!(readable.into_keys().eq(["MAXSCALE__B"]));
    }
}
