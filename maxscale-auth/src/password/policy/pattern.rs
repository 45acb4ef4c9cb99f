/// Whether a password is only a piece repeated that has fewer than `min` characters, or
/// a few runs of neighbours in the alphabet, among the digits or on a keyboard.
pub(super) fn is_plain(folded: &str, min: usize) -> bool {
    let chars: Vec<char> = folded.chars().collect();
    let piece = period(&chars);
    (piece < min && piece * 2 <= chars.len()) || is_runs(&chars)
}

/// The shortest run that counts as one.
const RUN: usize = 4;

const ROWS: [&str; 8] = [
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "qwertzuiop",
    "azertyuiop",
    "yxcvbnm",
];

/// The length of the shortest piece of which the text is a repetition, the last one
/// perhaps cut short.
fn period(chars: &[char]) -> usize {
    let mut periods = 1..chars.len();
    let whole = |piece: &usize| chars[*piece..] == chars[..chars.len() - piece];
    periods.find(whole).unwrap_or(chars.len())
}

/// Whether the text is nothing but runs.
fn is_runs(chars: &[char]) -> bool {
    let mut rest = chars;
    while !rest.is_empty() {
        let run = run(rest);
        if run < RUN {
            return false;
        }
        rest = &rest[run..];
    }
    true
}

/// How many characters at the beginning follow each other in one row, in one direction,
/// or are the same.
fn run(chars: &[char]) -> usize {
    let follows = |row: &str, pair: &[char]| {
        let mut neighbours = row.chars().zip(row.chars().skip(1));
        neighbours.any(|(one, next)| [one, next] == *pair)
    };
    let back = |pair: &[char]| [pair[1], pair[0]];
    let length = |holds: &dyn Fn(&[char]) -> bool| {
        1 + chars.windows(2).take_while(|pair| holds(pair)).count()
    };
    let rows = ROWS.iter().map(|row| {
        let up = length(&|pair| follows(row, pair));
        up.max(length(&|pair| follows(row, &back(pair))))
    });
    rows.max()
        .unwrap_or(1)
        .max(length(&|pair| pair[0] == pair[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_and_runs_are_plain() {
        for plain in [
            "aaaaaaaaaaaaaaa",
            "abcabcabcabcabc",
            "secret1secret1secret1",
            "secret12secret12",
            "passwordpassword",
            "123456789012345",
            "987654321098765",
            "abcdefghijklmnopq",
            "qwertyuiopasdfghjkl",
            "1234567890qwertyuiop",
            "poiuytrewqlkjhgfdsa",
            "qwertzuiopyxcvbnm",
            "aaaabbbbccccdddd",
        ] {
            assert!(is_plain(plain, 15), "{plain}");
        }
    }

    #[test]
    fn words_are_not() {
        for fine in [
            "correct horse battery",
            "qwerty is no password",
            "1234 abcd 5678 efg",
            "ääöö üüßß ääöö üü",
            "two words two words wrong",
            "a piece that begins as it ends: a",
        ] {
            assert!(!is_plain(fine, 15), "{fine}");
        }
        assert!(is_plain("secret12secret12", 9) && !is_plain("secret12secret12", 8));
    }
}
