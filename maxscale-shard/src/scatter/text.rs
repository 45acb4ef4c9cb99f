//! What a statement must look like to be asked of every node.

use super::ScatterError;
use crate::sql::{Engine, Statement, Value};

/// Where a leg's shards are put in.
const SHARDS: &str = "$shards";
/// The same in a form that SQLite has no words for.
const ANY_SHARD: &str = "= ANY($shards)";

/// Words that have no place at the end of a statement that becomes a part of another.
const ENDS: [&str; 5] = ["ORDER", "LIMIT", "OFFSET", "FETCH", "FOR"];

/// Checks the text for `engine` before anything is asked.
pub(super) fn check(statement: &Statement, engine: Engine) -> Result<(), ScatterError> {
    let text = statement.text(engine);
    let refused = |why| Err(ScatterError::Text { why });
    let mut words = Words::of(text);
    let first = words.next().map(|word| word.text.to_ascii_uppercase());
    if !first.is_some_and(|word| word == "SELECT" || word == "WITH") {
        return refused("it must be a SELECT");
    }
    for word in words.filter(|word| word.depth == 0) {
        if word.text == ";" {
            return refused("it must be one statement, without a semicolon");
        }
        if word.text == ")" {
            return refused("it closes a parenthesis that it does not open");
        }
        if ENDS.iter().any(|end| word.text.eq_ignore_ascii_case(end)) {
            return refused(
                "ORDER BY, LIMIT, OFFSET, FETCH and FOR are not its own: say them of the scatter",
            );
        }
    }
    if !text.contains(SHARDS) {
        return refused("it must say shard_id = ANY($shards)");
    }
    Ok(())
}

/// The text with the parameter `shards` in its place.
pub(super) fn with_shards(text: &str, engine: Engine, shards: &str) -> String {
    match engine {
        Engine::Postgres => text.replace(SHARDS, shards),
        Engine::Sqlite => {
            let any = format!("IN (SELECT value FROM json_each({shards}))");
            text.replace(ANY_SHARD, &any).replace(SHARDS, shards)
        }
    }
}

/// The condition that `column` is among the numbers of a parameter.
pub(super) fn among(column: &str, engine: Engine, numbers: &str) -> String {
    with_shards(&format!("{column} {ANY_SHARD}"), engine, numbers)
}

/// A statement in the making: its parameters so far.
pub(super) struct Binds(pub(super) Vec<Value>);

// === impl Binds ===

impl Binds {
    /// Adds a parameter; gives its name.
    pub(super) fn bind(&mut self, value: Value) -> String {
        self.0.push(value);
        format!("${}", self.0.len())
    }
}

/// Words and signs of a text, without those in quotes and comments.
struct Words<'t> {
    rest: &'t str,
    depth: u32,
}

struct Word<'t> {
    text: &'t str,
    /// In how many parentheses it is.
    depth: u32,
}

// === impl Words ===

impl<'t> Words<'t> {
    const fn of(text: &'t str) -> Self {
        Self {
            rest: text,
            depth: 0,
        }
    }

    fn take(&mut self, bytes: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        taken
    }

    /// Past what begins here and goes on to the next `end`, or to the text's end.
    fn skip(&mut self, start: usize, end: &str) {
        let rest = &self.rest[start..];
        let length = rest.find(end).map_or(rest.len(), |at| at + end.len());
        self.take(start + length);
    }
}

impl<'t> Iterator for Words<'t> {
    type Item = Word<'t>;

    fn next(&mut self) -> Option<Word<'t>> {
        loop {
            let first = self.rest.chars().next()?;
            let word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
            match first {
                '\'' | '"' | '`' => self.skip(1, first.encode_utf8(&mut [0; 4])),
                '-' if self.rest.starts_with("--") => self.skip(2, "\n"),
                '/' if self.rest.starts_with("/*") => self.skip(2, "*/"),
                // A text in dollars; `$1` and `$shards` are words.
                '$' if dollar_quote(self.rest).is_some() => {
                    let quote = dollar_quote(self.rest).unwrap_or_default();
                    self.skip(quote.len(), quote);
                }
                '(' => {
                    self.take(1);
                    self.depth += 1;
                }
                ')' if self.depth > 0 => {
                    self.take(1);
                    self.depth -= 1;
                }
                _ => {
                    let length = self.rest.find(|c| !word(c)).filter(|length| *length > 0);
                    let length = match length {
                        Some(length) => length,
                        None if word(first) => self.rest.len(),
                        None => first.len_utf8(),
                    };
                    let (text, depth) = (self.take(length), self.depth);
                    if !text.chars().all(char::is_whitespace) {
                        return Some(Word { text, depth });
                    }
                }
            }
        }
    }
}

/// `$$` or `$tag$`, where it begins here.
fn dollar_quote(text: &str) -> Option<&str> {
    let name = text.strip_prefix('$')?;
    let end = name.find('$')?;
    let tag = &name[..end];
    let plain = tag.chars().all(|c| c.is_alphanumeric() || c == '_');
    let number = tag.starts_with(|c: char| c.is_ascii_digit());
    (plain && !number).then(|| &text[..end + 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Sql;

    fn checked(text: &'static str) -> Result<(), ScatterError> {
        check(&Sql::both(text).statement(), Engine::Postgres)
    }

    #[test]
    fn statement_that_can_be_a_part_of_another_passes() {
        for text in [
            "SELECT n FROM t WHERE shard_id = ANY($shards)",
            "select n from t -- order by ; limit\n where shard_id = any($shards)",
            "WITH l AS (SELECT n FROM t WHERE shard_id = ANY($shards) ORDER BY n LIMIT 3) SELECT n FROM l",
            "SELECT 'ORDER; LIMIT', \"order\", $$ FOR ) $$, $a$ ; $a$, border FROM t /* ) */ WHERE shard_id = ANY($shards)",
            "SELECT substring(x FROM 1 FOR 2) FROM t WHERE n > $1 AND m > $2 AND shard_id = ANY($shards)",
        ] {
            assert!(checked(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn statement_that_cannot_is_refused_saying_why() {
        for (text, why) in [
            ("DELETE FROM t WHERE shard_id = ANY($shards)", "SELECT"),
            ("", "SELECT"),
            ("SELECT n FROM t WHERE shard_id = $1", "ANY($shards)"),
            (
                "SELECT n FROM t WHERE shard_id = ANY($shards);",
                "semicolon",
            ),
            (
                "SELECT n FROM t WHERE shard_id = ANY($shards) oRder by n COLLATE \"de\"",
                "ORDER BY",
            ),
            (
                "SELECT n FROM t WHERE shard_id = ANY($shards)\nLIMIT 3",
                "LIMIT",
            ),
            (
                "SELECT n FROM t WHERE shard_id = ANY($shards) FOR UPDATE",
                "FOR",
            ),
            (
                "SELECT n FROM t WHERE shard_id = ANY($shards)) AS a, (SELECT 1",
                "parenthesis",
            ),
        ] {
            let refused = checked(text).unwrap_err().to_string();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }

    #[test]
    fn sqlite_looks_for_the_shards_in_a_list() {
        let text = "SELECT n FROM t WHERE t.shard_id = ANY($shards)";
        assert_eq!(
            with_shards(text, Engine::Sqlite, "$3"),
            "SELECT n FROM t WHERE t.shard_id IN (SELECT value FROM json_each($3))"
        );
        assert_eq!(
            with_shards(text, Engine::Postgres, "$3"),
            "SELECT n FROM t WHERE t.shard_id = ANY($3)"
        );
    }
}
