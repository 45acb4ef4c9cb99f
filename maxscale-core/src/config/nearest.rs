//! The known name that an unknown one was probably meant to be.

/// Longer names are cut before they are compared, so that a file of one huge
/// key costs no more than any other.
const COMPARED: usize = 100;

/// The candidate with the fewest edits from `name`; the first of equals.
pub(super) fn nearest<T: AsRef<str>>(
    name: &str,
    candidates: impl IntoIterator<Item = T>,
) -> Option<T> {
    candidates
        .into_iter()
        .min_by_key(|candidate| distance(name, candidate.as_ref()))
}

/// Levenshtein's distance, blind to case.
fn distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| -> Vec<char> {
        let lower = text.chars().flat_map(char::to_lowercase);
        lower.take(COMPARED).collect()
    };
    let (a, b) = (letters(a), letters(b));

    // `row[j]` is the distance between the letters of `a` so far and `b[..j]`.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distance_counts_single_edits() {
        let cases = [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("http.prot", "http.port", 2),
            ("HTTP", "http", 0),
            ("größe", "grösse", 2),
        ];
        for (a, b, expected) in cases {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn fewest_edits_win() {
        let known = ["http.port", "http.address", "shards.nodes"];
        assert_eq!(nearest("shard.node", known), Some("shards.nodes"));
        assert_eq!(nearest("anything", [""; 0]), None);
    }
}
