//! The pages for readers say what the program says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use platform::settings;

const PAGE: &str = include_str!("../../../../docs/src/settings.md");

#[test]
fn page_of_all_settings_is_what_the_program_prints() {
    let mend = "cargo run -- config reference > docs/src/settings.md";
    let printed = settings::reference().unwrap();
    // Line by line, so that a failure shows the one that differs.
    for (printed, page) in printed.lines().zip(PAGE.lines()) {
        assert_eq!(page, printed, "{mend}");
    }
    assert_eq!(PAGE, printed, "{mend}");
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
