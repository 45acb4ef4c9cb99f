//! What can be configured: names, kinds, defaults and a line of help each.

use std::collections::BTreeSet;
use std::fmt;

use super::environment::PREFIX;
use super::value::Raw;
use super::{Problem, Profile, Value};

/// All settings of a program, checked once.
#[derive(Clone, Debug)]
pub struct Schema {
    settings: Vec<Setting>,
}

/// One value that can be configured.
#[derive(Clone, Debug)]
#[must_use]
pub struct Setting {
    key: &'static str,
    kind: Kind,
    doc: &'static str,
    default: Option<&'static str>,
    schemes: &'static [&'static str],
    required_in_prod: bool,
}

/// What a setting's text must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Any text.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer,
    /// A number with a unit of time: `250ms`, `30s`, `5m`.
    Duration,
    /// A number of bytes: `64MiB`.
    Size,
    /// Texts: separated by commas in the environment, an array in TOML.
    List,
    /// An IP address and a port: `127.0.0.1:3000`.
    Address,
    /// A URL; a password in it is never shown.
    Url,
    /// A text that is never shown.
    Secret,
    /// Such texts: separated by commas in the environment, an array in TOML.
    Secrets,
    /// One of these words.
    Enum(&'static [&'static str]),
}

/// A schema that contradicts itself; a mistake of the program, not of its
/// user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The key is not made of lower-case words joined by dots.
    #[error("`{key}` is no key: use lower-case words joined by dots")]
    Key {
        /// The key as declared.
        key: &'static str,
    },
    /// Two settings would be set by the same variable.
    #[error("two settings would be set by {variable}")]
    Twice {
        /// The variable.
        variable: String,
    },
    /// The key is also the section of another key.
    #[error("`{key}` is a setting and a section")]
    Section {
        /// The key as declared.
        key: &'static str,
    },
    /// The default is not of the setting's own kind.
    #[error("the default of `{key}` cannot be used")]
    Default {
        /// The key as declared.
        key: &'static str,
        /// Why not.
        #[source]
        source: Problem,
    },
    /// An address or a secret would have a default in the profile `prod`.
    #[error("the default of `{key}` would hold in prod, where no address and no secret has one")]
    DefaultInProd {
        /// The key as declared.
        key: &'static str,
    },
}

// === impl Schema ===

impl Schema {
    /// Checks the settings and keeps them in their order.
    ///
    /// # Errors
    ///
    /// Returns a [`SchemaError`] for the first setting that is misspelt,
    /// clashes with another, or has a default of another kind; with a
    /// [`Profile`] also for an address or a secret whose default would hold in `prod`.
    pub fn new(settings: impl IntoIterator<Item = Setting>) -> Result<Self, SchemaError> {
        let schema = Self {
            settings: settings.into_iter().collect(),
        };
        let has_profiles = schema.find(Profile::KEY).is_some();
        let mut variables = BTreeSet::new();
        for setting in &schema.settings {
            let key = setting.key;
            if !is_key(key) {
                return Err(SchemaError::Key { key });
            }
            if schema.has_section(key) {
                return Err(SchemaError::Section { key });
            }
            for variable in [Some(setting.variable()), setting.file_variable()] {
                if let Some(variable) = variable
                    && !variables.insert(variable.clone())
                {
                    return Err(SchemaError::Twice { variable });
                }
            }
            if let Some(default) = setting.default {
                setting
                    .read(&Raw::Text(default.to_owned()))
                    .map_err(|source| SchemaError::Default { key, source })?;
                if has_profiles && setting.leads_outside() && !setting.required_in_prod {
                    return Err(SchemaError::DefaultInProd { key });
                }
            }
        }
        Ok(schema)
    }

    /// All settings, as declared: for a reference page, or a completion.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    pub(super) fn find(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }

    pub(super) fn has_section(&self, section: &str) -> bool {
        self.sections().any(|known| known == section)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.settings.iter().map(|setting| setting.key)
    }

    /// Each section once per setting in it: `a.b.c` is in `a` and in `a.b`.
    pub(super) fn sections(&self) -> impl Iterator<Item = &'static str> {
        self.keys()
            .flat_map(|key| key.match_indices('.').map(move |(dot, _)| &key[..dot]))
    }
}

// === impl Setting ===

impl Setting {
    /// Declares a setting: its dotted key, its kind and a line of help.
    pub const fn new(key: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self {
            key,
            kind,
            doc,
            default: None,
            schemes: &[],
            required_in_prod: false,
        }
    }

    /// Sets the value that holds when nobody configured one, written as in
    /// the environment.
    ///
    /// Default: none; the setting is then unset.
    pub const fn default(mut self, text: &'static str) -> Self {
        self.default = Some(text);
        self
    }

    /// Sets the schemes that a [`Kind::Url`] may have.
    ///
    /// Default: any.
    pub const fn schemes(mut self, schemes: &'static [&'static str]) -> Self {
        self.schemes = schemes;
        self
    }

    /// Lets the default hold in the profile `dev` only: in `prod` somebody
    /// must set it.
    ///
    /// Default: no.
    pub const fn required_in_prod(mut self) -> Self {
        self.required_in_prod = true;
        self
    }

    /// The dotted key, as in `shards.nodes`.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        self.key
    }

    /// What its text must look like.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The line of help.
    #[must_use]
    pub const fn doc(&self) -> &'static str {
        self.doc
    }

    /// The default's text, if there is one.
    #[must_use]
    pub const fn default_text(&self) -> Option<&'static str> {
        self.default
    }

    /// Whether somebody must set it in the profile `prod`.
    #[must_use]
    pub const fn is_required_in_prod(&self) -> bool {
        self.required_in_prod
    }

    /// Whether its value says where to connect, what to listen on, or a secret.
    const fn leads_outside(&self) -> bool {
        matches!(
            self.kind,
            Kind::Address | Kind::Url | Kind::Secret | Kind::Secrets
        )
    }

    /// The variable that sets it, as in `MAXSCALE__SHARDS__NODES`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.key.replace('.', "__").to_uppercase())
    }

    /// The variable that names a file with the value, for the kinds that may
    /// hold a password: `MAXSCALE__REDIS__URL_FILE`.
    #[must_use]
    pub fn file_variable(&self) -> Option<String> {
        // A list may be one of URLs.
        let may_hold_a_password = matches!(
            self.kind,
            Kind::Secret | Kind::Secrets | Kind::Url | Kind::List
        );
        may_hold_a_password.then(|| self.variable() + "_FILE")
    }

    pub(super) fn read(&self, raw: &Raw) -> Result<Value, Problem> {
        let value = Value::read(self.kind, raw)?;
        if let (Kind::Url, Value::Text(url)) = (self.kind, &value) {
            let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
            if !self.schemes.is_empty() && !self.schemes.contains(&scheme) {
                return Err(Problem::Scheme {
                    accepted: self.schemes,
                });
            }
        }
        Ok(value)
    }
}

// === impl Kind ===

impl fmt::Display for Kind {
    /// Says what to write: "a duration such as 250ms, 30s or 5m".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "a text",
            Self::Bool => "true or false",
            Self::Integer => "a whole number",
            Self::Duration => "a duration such as 250ms, 30s or 5m",
            Self::Size => "a size such as 64MiB",
            Self::List => "a list: texts separated by commas, or an array of texts in TOML",
            Self::Address => "an IP address and a port such as 127.0.0.1:3000",
            Self::Url => "a URL such as scheme://host/path",
            Self::Secret => "a secret text",
            Self::Secrets => "secret texts separated by commas, or an array of them in TOML",
            Self::Enum(words) => return write!(f, "one of {}", words.join(", ")),
        })
    }
}

/// Double underscores would make two keys of one variable.
fn is_key(key: &str) -> bool {
    key.split('.').all(|word| {
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        !word.is_empty()
            && word.chars().all(letters)
            && !word.starts_with('_')
            && !word.ends_with('_')
            && !word.contains("__")
    })
}

#[cfg(test)]
mod tests {
    use super::{Kind, Schema, SchemaError, Setting};

    fn schema(settings: &[(&'static str, Kind)]) -> Result<Schema, SchemaError> {
        Schema::new(
            settings
                .iter()
                .map(|&(key, kind)| Setting::new(key, kind, "")),
        )
    }

    #[test]
    fn settings_list_their_variables() {
        let schema = schema(&[
            ("shards.nodes", Kind::List),
            ("cache.l2.url", Kind::Url),
            ("startup.max_wait", Kind::Duration),
        ]);
        let variables: Vec<_> = schema
            .unwrap()
            .settings()
            .iter()
            .map(|setting| (setting.variable(), setting.file_variable()))
            .collect();
        assert_eq!(
            variables,
            [
                (
                    "MAXSCALE__SHARDS__NODES".to_owned(),
                    Some("MAXSCALE__SHARDS__NODES_FILE".to_owned())
                ),
                (
                    "MAXSCALE__CACHE__L2__URL".to_owned(),
                    Some("MAXSCALE__CACHE__L2__URL_FILE".to_owned())
                ),
                ("MAXSCALE__STARTUP__MAX_WAIT".to_owned(), None),
            ],
        );
    }

    #[test]
    fn misspelt_keys_are_refused() {
        for key in ["", "Http.port", "http..port", "http.a__b", "_a.b", "a b"] {
            let refused = schema(&[(key, Kind::Text)]);
            assert!(matches!(refused, Err(SchemaError::Key { .. })), "{key}");
        }
    }

    #[test]
    fn settings_that_share_a_variable_are_refused() {
        let twice = schema(&[("a.b", Kind::Text), ("a.b", Kind::Bool)]);
        assert!(matches!(twice, Err(SchemaError::Twice { .. })));
        let file = schema(&[("a.url_file", Kind::Text), ("a.url", Kind::Url)]);
        assert!(matches!(file, Err(SchemaError::Twice { .. })));
        let section = schema(&[("a", Kind::Text), ("a.b", Kind::Text)]);
        assert!(matches!(section, Err(SchemaError::Section { key: "a" })));
    }

    #[test]
    fn default_of_another_kind_is_refused() {
        let wait = Setting::new("startup.wait", Kind::Duration, "").default("30");
        assert!(matches!(
            Schema::new([wait]),
            Err(SchemaError::Default { .. })
        ));
    }
}
