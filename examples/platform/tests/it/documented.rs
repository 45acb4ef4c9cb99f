//! The pages for readers say what the program says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use platform::settings;

/// A row of the page's table: key, variable, default, all as the page writes them.
type Row = [String; 3];

const PAGE: &str = include_str!("../../../../docs/src/configuration.md");

/// The rows of the page's table of settings.
fn rows() -> Vec<Row> {
    let table = PAGE
        .split_once("## Settings")
        .expect("the page has settings")
        .1;
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split(" | ").map(str::trim);
        [(); 3].map(|()| cells.next().unwrap_or_default().to_owned())
    })
    .collect()
}

#[test]
fn configuration_page_has_each_setting_with_its_variable_and_default() {
    let schema = settings::schema().unwrap();
    let code = |text: &str| format!("`{text}`");
    let expected: Vec<Row> = (schema.settings().iter())
        .map(|setting| {
            // What holds without a default is told in words.
            let default = setting.default_text().map(code).unwrap_or_default();
            [code(setting.key()), code(&setting.variable()), default]
        })
        .collect();
    let told: Vec<Row> = (rows().into_iter())
        .map(|[key, variable, default]| {
            let alone = default.starts_with('`') && default.matches('`').count() == 2;
            let default = if alone && default.ends_with('`') {
                default
            } else {
                String::new()
            };
            [key, variable, default]
        })
        .collect();
    let sorted = |rows: &[Row]| BTreeSet::from_iter(rows.to_vec());
    assert_eq!(sorted(&told), sorted(&expected));
    assert_eq!(told.len(), expected.len(), "a setting stands there twice");
}

#[test]
fn no_page_names_a_variable_that_does_not_exist() {
    let schema = settings::schema().unwrap();
    let known: BTreeSet<String> = (schema.settings().iter())
        .flat_map(|setting| [Some(setting.variable()), setting.file_variable()])
        .flatten()
        .collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let pages = fs::read_dir(root.join("docs/src")).unwrap();
    let mut pages: Vec<_> = pages.map(|page| page.unwrap().path()).collect();
    pages.push(root.join("README.md"));
    let mut seen = 0;
    for page in pages
        .iter()
        .filter(|page| page.extension().is_some_and(|e| e == "md"))
    {
        let text = fs::read_to_string(page).unwrap();
        for (at, prefix) in text.match_indices("MAXSCALE__") {
            let name = |c: char| c.is_ascii_uppercase() || c == '_';
            let variable = &text[at..];
            let end = variable.find(|c| !name(c)).unwrap_or(variable.len());
            let variable = &variable[..end];
            let told = variable == prefix || known.contains(variable);
            assert!(told, "{}: {variable}", page.display());
            seen += 1;
        }
    }
    assert!(seen > known.len() / 2, "the pages name {seen} variables");
}
