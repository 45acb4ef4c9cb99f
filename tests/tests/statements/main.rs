//! Every SQL text of the crates and the examples, held to one rule: a sharded
//! table's keys begin with `shard_id`, and a statement names it by equality.
//!
//! The texts are read from the sources, so that one which no test runs counts
//! too. A statement that serves no single key says so in its documentation,
//! with the index that serves it: "Node-wide, by `ms_job_due`: …", or "by the
//! primary key" where it lists its rows. What is not marked and does not name
//! `shard_id` fails here. "By every row" may only what makes rows older for tests.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not see as such"
)]

mod rule;
mod schema;
mod source;
mod tokens;

use rule::Rule;
use schema::Schema;
use source::{EVERY_ROW, Kind, Sources};
use sqlparser::ast::Statement;
use sqlparser::dialect::{Dialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::parser::Parser;

/// The least number of statements in each, so that none is passed over.
const AT_LEAST: &[(&str, usize)] = &[
    ("maxscale-shard/", 20),
    ("maxscale-auth/", 6),
    ("maxscale-queue/", 6),
    ("examples/platform/", 7),
];

/// Only there, and never in a service.
const FOR_TESTS: &str = "maxscale-queue/src/store/due.rs";

struct Engine {
    name: &'static str,
    dialect: Box<dyn Dialect>,
    text: fn(&source::Found) -> &str,
}

fn engines() -> [Engine; 2] {
    [
        Engine {
            name: "PostgreSQL",
            dialect: Box::new(PostgreSqlDialect {}),
            text: |found| &found.postgres,
        },
        Engine {
            name: "SQLite",
            dialect: Box::new(SQLiteDialect {}),
            text: |found| &found.sqlite,
        },
    ]
}

impl Engine {
    fn parse(&self, text: &str) -> Result<Vec<Statement>, String> {
        Parser::parse_sql(&*self.dialect, text).map_err(|error| error.to_string())
    }

    /// The tables that all migrations make, and what is wrong with them.
    fn schema(&self, sources: &Sources, wrong: &mut Vec<String>) -> Schema {
        let mut schema = Schema::default();
        for found in &sources.found {
            let text = (self.text)(found);
            match self.parse(text) {
                Ok(parsed) => {
                    for statement in parsed.iter().filter(|_| found.defines()) {
                        let refused = schema.define(statement);
                        wrong.extend(refused.err().map(|why| self.tell(found, &why)));
                    }
                }
                Err(why) => wrong.push(self.tell(found, &why)),
            }
        }
        wrong.extend(
            schema
                .without_key()
                .map(|name| format!("{name} has no primary key")),
        );
        schema
    }

    fn tell(&self, found: &source::Found, why: &str) -> String {
        format!(
            "{} on {}: {why}\n    {}",
            found.at,
            self.name,
            (self.text)(found).trim()
        )
    }
}

/// What is wrong with the texts, and with how they were written down.
fn wrong(sources: &Sources) -> Vec<String> {
    let mut wrong = sources.wrong.clone();
    for engine in engines() {
        let schema = engine.schema(sources, &mut wrong);
        let rule = Rule { schema: &schema };
        for found in sources.found.iter().filter(|found| !found.defines()) {
            if found.node_wide() == Some(EVERY_ROW) && !found.at.starts_with(FOR_TESTS) {
                wrong.push(engine.tell(found, "reads every row, and is not for tests"));
            }
            let text = (engine.text)(found);
            // What cannot be parsed was told with the schema.
            for statement in engine.parse(text).unwrap_or_default() {
                let held = rule.hold(&statement, found.node_wide());
                wrong.extend(held.err().map(|why| engine.tell(found, &why)));
            }
        }
    }
    wrong
}

#[test]
fn every_statement_of_the_crates_keeps_to_the_shard() {
    let sources = Sources::read();
    let wrong = wrong(&sources);
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    for (place, least) in AT_LEAST {
        let statements = sources.found.iter();
        let count = statements
            .filter(|found| found.at.starts_with(place) && found.kind == Kind::Statement)
            .count();
        assert!(count >= *least, "{place}: only {count} statements found");
    }
}

const TABLES: &str = r#"
    const M: Migration = Migration { version: 1, name: "", postgres: T, sqlite: T };
    const T: &str = "
        CREATE TABLE t (shard_id integer NOT NULL, id uuid, n bigint, PRIMARY KEY (shard_id, id));
        CREATE TABLE u (shard_id integer NOT NULL, id uuid, PRIMARY KEY (shard_id, id));
        CREATE INDEX t_n ON t (n, id)";
"#;

/// What is wrong with a file of this text, beside one that makes `t` and `u`.
fn told(text: &str) -> String {
    told_of(&[("file.rs", text)])
}

/// The same of several files, by their paths.
fn told_of(files: &[(&str, &str)]) -> String {
    let files: Vec<_> = [("tables.rs", TABLES)]
        .into_iter()
        .chain(files.iter().copied())
        .collect();
    wrong(&Sources::of_texts(&files)).join("\n")
}

#[test]
fn statement_without_a_shard_is_found_however_it_is_written() {
    for (text, why) in [
        (
            r#"fn f() { sql("SELECT n FROM t WHERE id = $1") }"#,
            "names no shard_id of t",
        ),
        (
            r#"const A: Sql = Sql::both("DELETE FROM t WHERE id = $1");"#,
            "file.rs: A on SQLite: names no",
        ),
        // The second text alone.
        (
            r#"const A: Sql = Sql::each("SELECT n FROM t WHERE shard_id = $1", "SELECT n FROM t");"#,
            "on SQLite: names no shard_id of t",
        ),
        (
            r#"macro_rules! of { ($what:expr) => { concat!("SELECT ", $what, " FROM t") }; }
               const A: Sql = Sql::both(of!("n"));"#,
            "SELECT n FROM t",
        ),
        (
            r#"fn f() { sql("SELECT n FROM t WHERE shard_id = $1 OR id = $2") }"#,
            "names no",
        ),
        (
            r#"fn f() { sql("SELECT n FROM t WHERE shard_id > $1") }"#,
            "names no",
        ),
        (
            r#"fn f() { sql("SELECT n FROM t WHERE shard_id = 1") }"#,
            "names no",
        ),
        (
            r#"fn f() { sql("UPDATE t SET n = 1 WHERE id = $1") }"#,
            "names no shard_id of t",
        ),
        (
            r#"fn f() { sql("UPDATE t SET shard_id = $2 WHERE shard_id = $1") }"#,
            "changes shard_id",
        ),
        (
            r#"fn f() { sql("INSERT INTO t (id, n) VALUES ($1, $2)") }"#,
            "names no shard_id of t",
        ),
        (
            r#"fn f() { sql("INSERT INTO t (shard_id, id) VALUES (1, $2)") }"#,
            "names no",
        ),
        (
            r#"fn f() { sql("INSERT INTO t (shard_id, id) SELECT shard_id, id FROM u WHERE shard_id = $1") }"#,
            "names no shard_id of t",
        ),
        (
            r#"fn f() { sql("SELECT 1 FROM t JOIN u ON u.id = t.id WHERE t.shard_id = $1") }"#,
            "names no shard_id of u",
        ),
        (
            r#"fn f() { sql("SELECT 1 FROM t JOIN u ON u.shard_id = t.shard_id") }"#,
            "names no shard_id of t",
        ),
        (
            r#"fn f() { sql("DELETE FROM t WHERE shard_id = $1 AND id IN (SELECT id FROM u)") }"#,
            "names no shard_id of u",
        ),
        (
            r#"fn f() { sql("SELECT n FROM v WHERE shard_id = $1") }"#,
            "no migration makes v",
        ),
        (
            r#"fn f() { sql(&format!("SELECT n FROM {table}")) }"#,
            "cannot be read",
        ),
        (r#"fn f() { run("SELECT n FROM t") }"#, "looks like SQL"),
        (
            r#"fn f() { sql("SELECT (n FROM t") }"#,
            "file.rs on PostgreSQL: sql parser error",
        ),
    ] {
        let told = told(text);
        assert!(told.contains(why), "{text}: {told:?}");
    }
}

/// A macro stands for its text where the compiler lets it, and nowhere else.
#[test]
fn macros_are_seen_under_the_module_that_has_them() {
    const SHARED: &str =
        r#"macro_rules! of { ($what:expr) => { concat!("SELECT ", $what, " FROM t") }; }"#;
    const USES: &str = r#"const A: Sql = Sql::both(of!("n"));"#;
    const KEEPS: &str = r#"const A: Sql = Sql::both(concat!(of!("n"), " WHERE shard_id = $1"));"#;
    let shared = "#[macro_use] mod shared;";
    for (parent, path, text, why) in [
        (shared, "a/under.rs", KEEPS, ""),
        (shared, "a/under/deep.rs", KEEPS, ""),
        (
            shared,
            "a/under.rs",
            USES,
            "a/under.rs: A on SQLite: names no shard_id of t",
        ),
        (
            "#[path] mod shared;",
            "a/under.rs",
            KEEPS,
            "of! is no macro that this file sees",
        ),
        (
            "mod shared;",
            "a/under.rs",
            KEEPS,
            "of! is no macro that this file sees",
        ),
        (
            shared,
            "beside.rs",
            KEEPS,
            "of! is no macro that this file sees",
        ),
        (
            shared,
            "ab/under.rs",
            KEEPS,
            "of! is no macro that this file sees",
        ),
        (shared, "a/under.rs", "", "looks like SQL"),
    ] {
        let told = told_of(&[("a.rs", parent), ("a/shared.rs", SHARED), (path, text)]);
        assert_eq!(
            why.is_empty(),
            told.is_empty(),
            "{parent} {path} {text}: {told:?}"
        );
        assert!(told.contains(why), "{parent} {path} {text}: {told:?}");
    }
}

#[test]
fn scatter_has_its_shards_from_the_router() {
    for text in [
        "SELECT n FROM t WHERE shard_id = ANY($1)",
        "SELECT n FROM t WHERE n = ANY($shards)",
    ] {
        let told = told(&format!("fn f() {{ sql({text:?}) }}"));
        assert!(told.contains("names no shard_id of t"), "{text}: {told:?}");
    }
}

#[test]
fn statement_with_its_shard_passes() {
    for text in [
        "SELECT n FROM t WHERE shard_id = $1 AND (id = $2 OR n = $3)",
        "SELECT 1 FROM t AS a JOIN u AS b ON b.shard_id = a.shard_id WHERE $1 = a.shard_id",
        "INSERT INTO t (id, shard_id) VALUES ($1, $2) ON CONFLICT (shard_id, id) DO UPDATE SET n = 1",
        "SELECT 1 FROM pg_tables",
        // Of a scatter, which names the shards of each node.
        "SELECT n FROM t WHERE shard_id = ANY($shards) AND n > $1",
    ] {
        assert_eq!(told(&format!("fn f() {{ sql({text:?}) }}")), "");
    }
    assert_eq!(
        told(r#"#[cfg(test)] mod tests { fn f() { sql("SELECT n FROM t") } }"#),
        ""
    );
}

const OLDER: &str = "UPDATE t SET n = n - $1";

#[test]
fn node_wide_statement_says_so_and_has_an_index() {
    let marked =
        |mark: &str, text: &str| told(&format!("/// {mark}\nconst A: Sql = Sql::both({text:?});"));
    let sweep = "SELECT id FROM t WHERE n = $1";
    assert_eq!(marked("Node-wide, by `t_n`: a sweep.", sweep), "");
    let walk = "SELECT id FROM t WHERE n <= $1 ORDER BY n LIMIT $2";
    assert_eq!(marked("Node-wide, by `t_n`: the first.", walk), "");
    let older =
        format!("/// Node-wide, by every row: older.\nconst A: Sql = Sql::both({OLDER:?});");
    assert_eq!(told_of(&[(FOR_TESTS, &older)]), "");
    let by_key = "UPDATE t SET n = 1 FROM l WHERE t.shard_id = l.shard AND t.id = l.id";
    let by_key = format!("WITH l AS (SELECT 1 AS shard, 2 AS id) {by_key}");
    assert_eq!(
        marked("Node-wide, by the primary key: a list.", &by_key),
        ""
    );

    for (mark, text, why) in [
        ("Node-wide: a sweep.", sweep, "not marked"),
        ("Node-wide, by `t_m`: a sweep.", sweep, "t has no index t_m"),
        (
            "Node-wide, by `t_n`: a sweep.",
            "SELECT id FROM t WHERE id = $1",
            "compares no n",
        ),
        (
            "Node-wide, by `t_n`: a sweep.",
            "SELECT id FROM t WHERE id <= $1 AND n + 1 > $2",
            "compares no n",
        ),
        (
            "Node-wide, by the primary key: it.",
            "SELECT n FROM t WHERE shard_id > $1 AND id > $2",
            "compares no shard_id",
        ),
        (
            "Node-wide, by the primary key: it.",
            sweep,
            "compares no shard_id",
        ),
        ("Node-wide, by every row: older.", OLDER, "is not for tests"),
        (
            "Node-wide, by `t_n`: no.",
            "SELECT id FROM t WHERE shard_id = $1",
            "names shard_id",
        ),
    ] {
        let told = marked(mark, text);
        assert!(told.contains(why), "{mark}: {told:?}");
    }
}

#[test]
fn key_that_does_not_begin_with_the_shard_is_found() {
    for (text, why) in [
        ("CREATE UNIQUE INDEX t_id ON t (id)", "unique by id"),
        (
            "CREATE UNIQUE INDEX t_id ON t (id, shard_id)",
            "unique by id, shard_id",
        ),
        ("ALTER TABLE t ADD COLUMN m bigint UNIQUE", "unique by m"),
        ("ALTER TABLE t ADD CONSTRAINT c UNIQUE (n)", "unique by n"),
        (
            "CREATE TABLE v (shard_id integer NOT NULL, id uuid PRIMARY KEY)",
            "unique by id",
        ),
        (
            "CREATE TABLE v (shard_id integer NOT NULL, id uuid)",
            "v has no primary key",
        ),
        (
            "CREATE TABLE v (shard_id bigint NOT NULL, PRIMARY KEY (shard_id))",
            "not integer NOT NULL",
        ),
        ("CREATE TABLE v (id uuid PRIMARY KEY)", "v has no shard_id"),
        ("INSERT INTO t (id) SELECT id FROM l", "which shard"),
        ("CREATE VIEW v AS SELECT 1", "does not know"),
    ] {
        let told = told(&format!(
            "const M: Migration = Migration {{ version: 2, postgres: {text:?}, sqlite: {text:?} }};"
        ));
        assert!(told.contains(why), "{text}: {told:?}");
    }
}
