/// The passwords of eight characters or more among the 30,000 most common ones, sorted.
///
/// Of zxcvbn 4.4.2 (MIT, see `most_used.LICENSE`), which counted them in Mark Burnett's ten
/// million passwords.
const MOST_USED: &str = include_str!("most_used.txt");

/// Whether a password, without upper case, is one of them.
pub(super) fn is_one(folded: &str) -> bool {
    let (mut low, mut high) = (0, MOST_USED.len());
    while low < high {
        let line = line_at(usize::midpoint(low, high));
        match MOST_USED[line.clone()].cmp(folded) {
            std::cmp::Ordering::Equal => return true,
            // One further is the end of the line.
            std::cmp::Ordering::Less => low = line.end + 1,
            std::cmp::Ordering::Greater => high = line.start,
        }
    }
    false
}

/// The line that the byte is in, or ends.
fn line_at(byte: usize) -> std::ops::Range<usize> {
    let text = MOST_USED.as_bytes();
    let start = text[..byte].iter().rposition(|&b| b == b'\n');
    let end = text[byte..].iter().position(|&b| b == b'\n');
    start.map_or(0, |at| at + 1)..end.map_or(text.len(), |at| byte + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_found_and_nothing_between_them() {
        let lines: Vec<&str> = MOST_USED.lines().collect();
        assert_eq!(lines.len(), 11_611);
        assert!(lines.is_sorted() && MOST_USED.is_ascii());
        for line in lines {
            assert!(is_one(line), "{line}");
            assert!(!is_one(&format!("{line}\u{1}")), "{line}");
        }
        for absent in [
            "",
            "\n",
            "0",
            "zzzzzzzzzzzzzz\u{7f}",
            "correct horse battery",
        ] {
            assert!(!is_one(absent), "{absent:?}");
        }
    }
}
