//! Where a program runs, and what it may therefore leave unsaid.

use std::collections::BTreeMap;

use super::layer::Effective;
use super::value::Value;
use super::{ConfigError, Kind, Origin, Schema, Setting};

/// Where a program runs: on a developer's machine, or for its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are these two")]
pub enum Profile {
    /// Every setting may be left out.
    Dev,
    /// No address and no secret has a default.
    Prod,
}

// === impl Profile ===

impl Profile {
    /// The key of the setting that chooses it.
    pub const KEY: &str = "profile";

    /// The setting that chooses it; a schema without it knows `dev` only.
    pub const fn setting() -> Setting {
        let doc =
            "In `prod` no address and no secret has a default, and what is insecure is refused.";
        Setting::new(Self::KEY, Kind::Enum(&["dev", "prod"]), doc).default("dev")
    }
}

/// The profile among `values`.
pub(super) fn chosen(values: &BTreeMap<&'static str, Effective>) -> Profile {
    match values.get(Profile::KEY).map(|chosen| &chosen.value) {
        Some(Value::Text(word)) if word == "prod" => Profile::Prod,
        _ => Profile::Dev,
    }
}

/// What has to be set in the profile that was chosen, and is not. What was set
/// wrongly was said already.
pub(super) fn unset(
    schema: &Schema,
    values: &BTreeMap<&'static str, Effective>,
    said: &[ConfigError],
) -> Vec<ConfigError> {
    let Some(Effective { origin, .. }) = values.get(Profile::KEY) else {
        return Vec::new();
    };
    if chosen(values) == Profile::Dev {
        return Vec::new();
    }
    let is_set = |setting: &Setting| {
        let effective = values.get(setting.key());
        effective.is_some_and(|effective| effective.origin != Origin::Default)
    };
    let required = schema.settings().iter().filter(|setting| {
        setting.is_required_in_prod()
            && !is_set(setting)
            && !said.iter().any(|error| error.concerns(setting))
    });
    required
        .map(|setting| ConfigError::UnsetInProd {
            key: setting.key(),
            kind: setting.kind(),
            variable: setting.variable(),
            default: setting.default_text(),
            profile: origin.clone(),
        })
        .collect()
}
