//! Finds the SQL texts in Rust sources: what `sql(…)`, `Sql::both(…)`,
//! `Sql::each(…)` and `Migration { … }` are given, put together as the compiler
//! would from literals, constants, `concat!` and macros: those of the same file, and
//! those of a `#[macro_use] mod` that it stands under.

mod scope;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::tokens::{arguments, inside, is, literals, without_tests};

use scope::Scope;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Statement,
    Migration,
}

/// A text for each engine.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) kind: Kind,
    /// The file, and the constant if it is one.
    pub(crate) at: String,
    /// The documentation of the constant.
    docs: String,
    pub(crate) postgres: String,
    pub(crate) sqlite: String,
}

#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) found: Vec<Found>,
    pub(crate) wrong: Vec<String>,
}

/// What is known of one file.
#[derive(Default)]
struct File {
    path: String,
    tokens: Vec<TokenTree>,
    constants: BTreeMap<String, Vec<TokenTree>>,
    macros: BTreeMap<String, Vec<Rule>>,
    /// Literals that became part of a statement.
    used: RefCell<BTreeSet<String>>,
}

/// One arm of a macro.
#[derive(Clone)]
struct Rule {
    parameters: Vec<String>,
    body: Vec<TokenTree>,
}

/// The item that is being read.
#[derive(Clone, Default)]
struct Item {
    docs: String,
    name: Option<String>,
}

/// What no index serves, and only tests may ask.
pub(crate) const EVERY_ROW: &str = "every row";

const VERBS: [&str; 12] = [
    "ALTER ",
    "CREATE ",
    "DELETE ",
    "DROP ",
    "INSERT ",
    "MERGE ",
    "REPLACE ",
    "SELECT ",
    "TRUNCATE ",
    "UPDATE ",
    "WITH ",
    "COPY ",
];

// === impl Found ===

impl Found {
    /// Whether it makes tables.
    pub(crate) fn defines(&self) -> bool {
        self.kind == Kind::Migration || self.postgres.trim_start().starts_with("CREATE ")
    }

    /// The index that serves it, if it is marked as node-wide.
    pub(crate) fn node_wide(&self) -> Option<&str> {
        let rest = self.docs.split("Node-wide, by ").nth(1)?;
        let named = rest
            .strip_prefix('`')
            .and_then(|rest| rest.split('`').next());
        named.or_else(|| {
            ["the primary key", EVERY_ROW]
                .into_iter()
                .find(|words| rest.starts_with(words))
        })
    }
}

// === impl Sources ===

impl Sources {
    /// All sources but tests.
    pub(crate) fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut paths = Vec::new();
        for (folder, prefix) in [(root.clone(), "maxscale-"), (root.join("examples"), "")] {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if name.starts_with(prefix) && path.join("src").is_dir() {
                    rust_files(&path.join("src"), &mut paths);
                }
            }
        }
        paths.sort();
        let files = paths.iter().map(|path| {
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            File::read(&name, &fs::read_to_string(path).unwrap())
        });
        Self::of(files.collect())
    }

    /// The texts of files, given as path and text.
    pub(crate) fn of_texts(files: &[(&str, &str)]) -> Self {
        Self::of(
            files
                .iter()
                .map(|(path, text)| File::read(path, text))
                .collect(),
        )
    }

    fn of(mut files: Vec<File>) -> Self {
        let scopes: Vec<Scope> = files
            .iter()
            .flat_map(|file| Scope::all(file, &files))
            .collect();
        for file in &mut files {
            for scope in &scopes {
                scope.lend(file);
            }
        }
        let mut sources = Self::default();
        for file in &files {
            // Where `sql` itself is, its argument is its caller's.
            if file.path != "maxscale-shard/src/sql/statement.rs" {
                file.look(&file.tokens, &Item::default(), &mut sources);
            }
        }
        for file in &files {
            let lent = scopes.iter().filter(|scope| scope.from == file.path);
            let users = files.iter().filter(|user| {
                user.path == file.path || lent.clone().any(|scope| scope.covers(&user.path))
            });
            let used: BTreeSet<String> =
                users.flat_map(|user| user.used.borrow().clone()).collect();
            sources.tell_strays(file, &used);
        }
        sources
    }

    fn tell_strays(&mut self, file: &File, used: &BTreeSet<String>) {
        let mut strays = BTreeSet::new();
        literals(&file.tokens, &mut strays);
        for stray in strays.difference(used) {
            let Ok(text) = syn::parse_str::<syn::LitStr>(stray) else {
                continue;
            };
            let text = text.value();
            let begins = |start: &&str| text.trim_start().starts_with(*start);
            if VERBS.iter().any(begins) {
                self.wrong.push(format!(
                    "{}: {stray} looks like SQL and is given to none of sql, Sql::both, Sql::each",
                    file.path
                ));
            }
        }
    }
}

fn rust_files(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            rust_files(&path, paths);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            paths.push(path);
        }
    }
}

// === impl File ===

impl File {
    fn read(path: &str, text: &str) -> Self {
        let stream: TokenStream = text.parse().unwrap_or_else(|e| panic!("{path}: {e}"));
        let tokens = without_tests(stream);
        let mut file = Self {
            path: path.to_owned(),
            ..Self::default()
        };
        file.learn(&tokens);
        file.tokens = tokens;
        file
    }

    /// Notes constants that are texts, and macros.
    fn learn(&mut self, tokens: &[TokenTree]) {
        for (at, token) in tokens.iter().enumerate() {
            let rest = &tokens[at + 1..];
            if is(token, "const") && rest.len() > 2 && is(&rest[1], ":") {
                let end = rest.iter().position(|t| is(t, ";")).unwrap_or(rest.len());
                let item = &rest[..end];
                if let Some(equals) = item.iter().position(|t| is(t, "="))
                    && is(&item[2], "&")
                    && is(&item[equals - 1], "str")
                {
                    let value = item[equals + 1..].to_vec();
                    self.constants.insert(item[0].to_string(), value);
                }
            }
            if is(token, "macro_rules")
                && rest.len() > 2
                && let Some(arms) = inside(rest.get(2), Delimiter::Brace)
            {
                let mut rules = Vec::new();
                for arm in arms.split(|token| is(token, ";")) {
                    if let (Some(pattern), Some(body)) = (
                        inside(arm.first(), Delimiter::Parenthesis),
                        inside(arm.last(), Delimiter::Brace),
                    ) {
                        let after_dollar = pattern.windows(2).filter(|two| is(&two[0], "$"));
                        rules.push(Rule {
                            parameters: after_dollar.map(|two| two[1].to_string()).collect(),
                            body,
                        });
                    }
                }
                self.macros.insert(rest[1].to_string(), rules);
            }
            if let TokenTree::Group(group) = token {
                self.learn(&group.stream().into_iter().collect::<Vec<_>>());
            }
        }
    }

    /// Notes what is given to the constructors of statements.
    fn look(&self, tokens: &[TokenTree], outer: &Item, sources: &mut Sources) {
        let mut item = outer.clone();
        for (at, token) in tokens.iter().enumerate() {
            let before = |back: usize| at.checked_sub(back).map(|at| &tokens[at]);
            let was = |back, text| before(back).is_some_and(|token| is(token, text));
            if was(1, "const") && !is(token, "fn") {
                item.name = Some(token.to_string());
            }
            let TokenTree::Group(group) = token else {
                if is(token, ";") {
                    item = outer.clone();
                }
                continue;
            };
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            if was(1, "#") {
                if inner.len() == 3 && is(&inner[0], "doc") {
                    item.docs += &inner[2].to_string();
                }
                continue;
            }
            let call = group.delimiter() == Delimiter::Parenthesis;
            let of_sql = was(4, "Sql") && was(2, ":");
            let name = before(1).map(ToString::to_string).unwrap_or_default();
            match name.as_str() {
                "sql" if call && !was(2, "fn") => self.note(&inner, &item, sources),
                "both" | "each" if call && of_sql => self.note(&inner, &item, sources),
                "Migration" if group.delimiter() == Delimiter::Brace && !was(2, "struct") => {
                    self.note_migration(&inner, sources);
                }
                _ => self.look(&inner, &item, sources),
            }
            if group.delimiter() == Delimiter::Brace {
                item = outer.clone();
            }
        }
    }

    fn note(&self, given: &[TokenTree], item: &Item, sources: &mut Sources) {
        let at = match &item.name {
            Some(name) => format!("{}: {name}", self.path),
            None => self.path.clone(),
        };
        let texts: Result<Vec<String>, String> = arguments(given)
            .into_iter()
            .map(|argument| self.text(argument, &BTreeMap::new()))
            .collect();
        match texts {
            Ok(texts) if !texts.is_empty() => sources.found.push(Found {
                kind: Kind::Statement,
                at,
                docs: item.docs.clone(),
                postgres: texts[0].clone(),
                sqlite: texts[texts.len() - 1].clone(),
            }),
            Ok(_) => sources
                .wrong
                .push(format!("{at}: a statement without a text")),
            Err(why) => sources
                .wrong
                .push(format!("{at}: a text that cannot be read: {why}")),
        }
    }

    fn note_migration(&self, fields: &[TokenTree], sources: &mut Sources) {
        let fields = arguments(fields);
        let field = |name: &str| fields.iter().find(|field| is(&field[0], name));
        // An error may be called so too.
        let (Some(postgres), Some(sqlite)) = (field("postgres"), field("sqlite")) else {
            return;
        };
        let text =
            |field: &[TokenTree]| self.text(field.get(2..).unwrap_or(field), &BTreeMap::new());
        match (text(postgres), text(sqlite)) {
            (Ok(postgres), Ok(sqlite)) => sources.found.push(Found {
                kind: Kind::Migration,
                at: self.path.clone(),
                docs: String::new(),
                postgres,
                sqlite,
            }),
            (Err(why), _) | (_, Err(why)) => {
                let path = &self.path;
                (sources.wrong).push(format!("{path}: a text that cannot be read: {why}"));
            }
        }
    }

    /// What the compiler makes of `tokens`, where `$name` stands for a text.
    fn text(
        &self,
        tokens: &[TokenTree],
        known: &BTreeMap<String, String>,
    ) -> Result<String, String> {
        match tokens {
            [TokenTree::Literal(literal)] => {
                self.used.borrow_mut().insert(literal.to_string());
                let text: Result<syn::LitStr, _> = syn::parse_str(&literal.to_string());
                text.map(|text| text.value())
                    .map_err(|error| error.to_string())
            }
            [dollar, name] if is(dollar, "$") => {
                let text = known.get(&name.to_string()).cloned();
                text.ok_or_else(|| format!("${name} is unknown"))
            }
            [TokenTree::Ident(name)] => {
                let constant = self.constants.get(&name.to_string());
                let constant =
                    constant.ok_or_else(|| format!("{name} is no constant text here"))?;
                self.text(constant, known)
            }
            [TokenTree::Ident(name), mark, TokenTree::Group(given)] if is(mark, "!") => {
                let given: Vec<TokenTree> = given.stream().into_iter().collect();
                let given: Result<Vec<String>, String> = arguments(&given)
                    .into_iter()
                    .map(|argument| self.text(argument, known))
                    .collect();
                let given = given?;
                if name == "concat" {
                    return Ok(given.concat());
                }
                let rules = self.macros.get(&name.to_string());
                let fits = |rule: &&Rule| rule.parameters.len() == given.len();
                let rule = rules.and_then(|rules| rules.iter().find(fits));
                let rule =
                    rule.ok_or_else(|| format!("{name}! is no macro that this file sees"))?;
                let known = rule.parameters.iter().cloned().zip(given).collect();
                self.text(&rule.body, &known)
            }
            other => {
                let other: TokenStream = other.iter().cloned().collect();
                Err(format!("`{other}` is no text that is known before it runs"))
            }
        }
    }
}
