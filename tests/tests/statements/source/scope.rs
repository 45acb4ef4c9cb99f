//! Macros that a file has from a module which is marked with `#[macro_use]`.

use std::collections::BTreeMap;

use proc_macro2::Delimiter;

use super::{File, Rule};
use crate::tokens::{inside, is};

/// Where the macros of one module are seen: in the file that declares it, and in
/// all under that.
pub(crate) struct Scope {
    /// The file of the module.
    pub(crate) from: String,
    /// The file that declares it.
    by: String,
    /// The folder of that file's modules.
    under: String,
    macros: BTreeMap<String, Vec<Rule>>,
}

// === impl Scope ===

impl Scope {
    /// Those of the modules that `file` declares, whose texts are among `files`.
    pub(super) fn all(file: &File, files: &[File]) -> Vec<Self> {
        let under = folder(&file.path);
        let declared = file.tokens.windows(5).filter_map(|five| {
            let [hash, attribute, module, name, end] = five else {
                return None;
            };
            let attribute = inside(Some(attribute), Delimiter::Bracket)?;
            let marked = matches!(attribute.as_slice(), [one] if is(one, "macro_use"));
            let says = is(hash, "#") && marked && is(module, "mod") && is(end, ";");
            says.then(|| name.to_string())
        });
        let scopes = declared.filter_map(|name| {
            let from = format!("{under}{name}.rs");
            let there = files.iter().find(|file| file.path == from)?;
            Some(Self {
                from,
                by: file.path.clone(),
                under: under.clone(),
                macros: there.macros.clone(),
            })
        });
        scopes.collect()
    }

    pub(super) fn covers(&self, path: &str) -> bool {
        path == self.by || (path.starts_with(&self.under) && path != self.from)
    }

    /// Gives `file` what it sees of it; its own macros come first.
    pub(super) fn lend(&self, file: &mut File) {
        if !self.covers(&file.path) {
            return;
        }
        for (name, rules) in &self.macros {
            let known = file.macros.entry(name.clone());
            known.or_insert_with(|| rules.clone());
        }
    }
}

/// The folder of a file's modules: beside the root of a crate, else one of its own.
fn folder(path: &str) -> String {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let root = matches!(name, "lib.rs" | "main.rs");
    let stem = name.trim_end_matches(".rs");
    match (parent, root) {
        ("", true) => String::new(),
        ("", false) => format!("{stem}/"),
        (parent, true) => format!("{parent}/"),
        (parent, false) => format!("{parent}/{stem}/"),
    }
}
