//! The arrows between the crates and what each may pull in, read from
//! `cargo tree` and from core's sources.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not see as such"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Which of our crates a crate may depend on, with every feature on.
const ARROWS: &[(&str, &[&str])] = &[
    ("maxscale-core", &[]),
    ("maxscale-shard", &["maxscale-core"]),
    ("maxscale-cache", &["maxscale-core"]),
    (
        "maxscale-auth",
        &["maxscale-core", "maxscale-cache", "maxscale-shard"],
    ),
    ("maxscale-queue", &["maxscale-core", "maxscale-shard"]),
    ("maxscale-tests", &[]),
    ("maxscale-measure", &["maxscale-core"]),
];

/// What a crate never touches, with every feature on.
const NEVER: &[(&str, &str)] = &[
    ("maxscale-core", "sqlx"),
    ("maxscale-shard", "fred"),
    ("maxscale-cache", "sqlx"),
];

/// How many crates `cargo add` brings by default, the crate itself counted.
const BUDGETS: &[(&str, usize)] = &[
    ("maxscale-core", 30),
    ("maxscale-shard", 42),
    ("maxscale-cache", 56),
    ("maxscale-queue", 45),
    ("maxscale-auth", 75),
];

/// C code, SQLite, a TLS stack, a driver, a second engine for L1: features bring
/// them, the default does not. Two `libsqlite3-sys` cannot even link into one program.
const NOT_BY_DEFAULT: &[&str] = &[
    "aws-lc-sys",
    "cc",
    "fred",
    "libsqlite3-sys",
    "native-tls",
    "openssl-sys",
    "quick_cache",
    "ring",
    "rustls",
];

/// Peers live in workspaces of their own below `benches/peers/`.
const PEERS: &[&str] = &[
    "amalgam-cache",
    "apalis",
    "axum-login",
    "axum-response-cache",
    "bb8",
    "cached",
    "deadpool",
    "diesel",
    "foyer",
    "governor",
    "jsonwebtoken",
    "multi-tier-cache",
    "stretto",
    "tower-resilience",
    "tower-sessions",
    "tower_governor",
    "underway",
];

/// Core's ground: what everything else in core stands on.
const GROUND: &[&str] = &[
    "chain", "clock", "config", "control", "fact", "id", "keys", "meter", "refusal",
];

/// What stands on the ground and on `redis`, each for itself.
const PILLARS: &[&str] = &[
    "capacity",
    "health",
    "limit",
    "resilience",
    "serve",
    "telemetry",
];

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What `cargo tree` lists for these arguments.
fn tree(arguments: &[&str]) -> BTreeSet<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--prefix", "none"])
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree: {said}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(' ')?;
            let version = rest.split(' ').next()?;
            Some(Package {
                name: name.to_owned(),
                version: version.to_owned(),
            })
        })
        .collect()
}

fn names(arguments: &[&str]) -> BTreeSet<String> {
    tree(arguments).into_iter().map(|it| it.name).collect()
}

fn full(package: &str) -> BTreeSet<String> {
    names(&["-e", "normal,build", "--all-features", "-p", package])
}

#[test]
fn every_crate_depends_on_those_its_arrow_allows_only() {
    for &(package, allowed) in ARROWS {
        let ours: Vec<_> = full(package)
            .into_iter()
            .filter(|name| name.starts_with("maxscale-") && name != package)
            .filter(|name| !allowed.contains(&name.as_str()))
            .collect();

        assert!(ours.is_empty(), "{package} depends on {ours:?}");
    }
}

#[test]
fn no_crate_touches_what_it_never_touches() {
    for &(package, never) in NEVER {
        assert!(
            !full(package).contains(never),
            "{package} depends on {never}"
        );
    }
}

#[test]
fn default_features_stay_within_the_budget() {
    for &(package, budget) in BUDGETS {
        let listed = tree(&["-e", "normal", "-p", package]);

        let count = listed.len();
        assert!(
            count <= budget,
            "{package} has {count} > {budget}: {listed:#?}"
        );
        assert!(count > 5, "{package}: cargo tree listed {listed:?}");
    }
}

#[test]
fn readme_tells_how_many_dependencies_each_crate_has() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for &(package, _) in BUDGETS {
        let row = readme
            .lines()
            .find(|line| line.starts_with(&format!("| [`{package}`]")))
            .unwrap_or_else(|| panic!("README.md has no row for {package}"));
        let told = row.trim_end_matches(['|', ' ']).rsplit(' ').next().unwrap();

        // The same number wherever the test runs.
        let host = ["--target", "x86_64-unknown-linux-gnu"];
        let count = tree(&[&["-e", "normal", "-p", package], &host[..]].concat()).len();

        assert_eq!(told, count.to_string(), "{package}");
    }
}

#[test]
fn default_features_bring_no_c_code_no_sqlite_no_tls_and_no_driver() {
    for &(package, _) in BUDGETS {
        let all = names(&["-e", "normal,build", "-p", package]);

        for &unwanted in NOT_BY_DEFAULT {
            assert!(!all.contains(unwanted), "{package} brings {unwanted}");
        }
    }
}

#[test]
fn no_member_depends_on_a_benchmark_peer() {
    let all = names(&["--workspace", "--all-features", "-e", "all"]);

    for &peer in PEERS {
        assert!(!all.contains(peer), "a member depends on {peer}");
    }
}

#[test]
fn every_benchmark_peer_is_a_workspace_of_its_own_with_a_lock_file() {
    let areas = fs::read_dir(root().join("benches/peers")).unwrap();
    for area in areas.map(|area| area.unwrap().path()) {
        let rust = fs::read_to_string(area.join("Cargo.toml")).ok();
        if let Some(manifest) = &rust {
            let own = manifest.lines().any(|line| line == "[workspace]");
            assert!(own, "{}: no [workspace]", area.display());
            let locked = area.join("Cargo.lock").is_file();
            assert!(locked, "{}: no Cargo.lock", area.display());
        }
        let npm = area.join("npm");
        if npm.is_dir() {
            let locked = npm.join("package-lock.json").is_file();
            assert!(locked, "{}: no package-lock.json", npm.display());
        }
        assert!(
            rust.is_some() || npm.is_dir(),
            "{}: no peer",
            area.display()
        );
    }
}

#[test]
fn cores_ground_uses_nothing_that_stands_on_it() {
    let above: Vec<_> = [PILLARS, &["redis", "stack"]].concat();
    let found: Vec<_> = GROUND
        .iter()
        .flat_map(|module| uses(module, &above))
        .collect();

    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn limit_telemetry_health_and_resilience_do_not_use_each_other() {
    let found: Vec<_> = PILLARS
        .iter()
        .flat_map(|module| {
            let mut others = [PILLARS, &["stack"]].concat();
            others.retain(|other| other != module);
            uses(module, &others)
        })
        .collect();

    assert!(found.is_empty(), "{found:#?}");
}

/// Where one of core's modules names one of `others`, as "file: module".
fn uses(module: &str, others: &[&str]) -> Vec<String> {
    let source = root().join("maxscale-core/src");
    let top = source.join(format!("{module}.rs"));
    let mut files = vec![top.clone()];
    files.extend(files_below(&source.join(module)));
    let mut found = Vec::new();
    for file in files {
        // A module that does not exist yet uses nothing.
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        let mut named = named_after("crate::", &text);
        // In the top file `super` is the crate, too.
        if file == top {
            named.extend(named_after("super::", before_tests(&text)));
        }
        let bad = named.iter().filter(|name| others.contains(&name.as_str()));
        found.extend(bad.map(|name| format!("{}: {name}", file.display())));
    }
    found
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .flat_map(|path| {
            if path.is_dir() {
                files_below(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// In an inner `mod tests`, `super` is the file itself.
fn before_tests(text: &str) -> &str {
    text.split("\nmod tests {").next().unwrap_or_default()
}

/// The modules named directly after a path's start, also in braces.
fn named_after(start: &str, text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let word = |text: &str| -> String {
        let text = text.trim_start();
        let is_part = |c: &char| c.is_alphanumeric() || *c == '_';
        text.chars().take_while(is_part).collect()
    };
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(start) {
        let rest = &code[at + start.len()..];
        found.insert(word(rest));
        // In braces a name follows the first brace and each comma beside it.
        let mut depth = 0;
        for (at, c) in rest.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            if depth == 1 && matches!(c, '{' | ',') {
                found.insert(word(&rest[at + 1..]));
            }
        }
    }
    found.remove("");
    found
}

#[test]
fn modules_are_found_in_every_form_of_a_path() {
    let text = "use crate::limit;\nuse crate::{\n    clock::{Clock, health},\n    keys, \
                telemetry::Meter,\n};\n// crate::redis\nfn f() -> crate::stack::S {}\n";

    let named: Vec<_> = named_after("crate::", text).into_iter().collect();

    assert_eq!(named, ["clock", "keys", "limit", "stack", "telemetry"]);
}
