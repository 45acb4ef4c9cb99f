//! The list of everything that can be set, as a page for readers.

use std::fmt;

use super::environment;
use super::{Schema, Setting};

/// A schema as a table in Markdown; see [`Schema::reference`].
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Reference<'a>(&'a Schema);

// === impl Schema ===

impl Schema {
    /// Prints as a table in Markdown: each setting with the variables that set
    /// it, what they take, its default and its help.
    pub const fn reference(&self) -> Reference<'_> {
        Reference(self)
    }
}

// === impl Reference ===

impl fmt::Display for Reference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| setting | variables | takes | default | meaning |")?;
        writeln!(f, "| --- | --- | --- | --- | --- |")?;
        for setting in self.0.settings() {
            write!(f, "| `{}` | {} ", setting.key(), variables(setting))?;
            write!(f, "| {} ", cell(&setting.kind().to_string()))?;
            writeln!(f, "| {} | {} |", default(setting), cell(setting.doc()))?;
        }
        Ok(())
    }
}

/// All variables that give it a value, each as code.
fn variables(setting: &Setting) -> String {
    let shared = environment::shared_with(setting).map(str::to_owned);
    let names = [Some(setting.variable()), setting.file_variable(), shared];
    let names: Vec<_> = names.into_iter().flatten().collect();
    format!("`{}`", names.join("`<br>`"))
}

fn default(setting: &Setting) -> String {
    match (setting.default_text(), setting.is_required_in_prod()) {
        (Some(text), true) => format!("`{text}`; in `prod` none"),
        (Some(text), false) => format!("`{text}`"),
        (None, true) => "none; has to be set in `prod`".to_owned(),
        (None, false) => "none".to_owned(),
    }
}

/// Text that does not end its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
