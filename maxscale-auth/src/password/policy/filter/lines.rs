use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::{FilterBuilder, FilterError, PasswordFilter, Sha1Sum};

/// What the lines of a list are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lines {
    /// A password each, in whatever encoding it was found.
    Passwords,
    /// A SHA-1 in hexadecimal digits each, as in the dumps of Have I Been Pwned: perhaps
    /// with `:` and how often it was found. Those that were found less often than
    /// `at_least` are left out.
    Sha1 {
        /// The fewest times; 0 and 1 take all.
        at_least: u64,
    },
}

/// One line.
enum Line<'a> {
    Password(&'a [u8]),
    Sha1(Sha1Sum),
    LeftOut,
}

// === impl Lines ===

impl Lines {
    /// Builds the filter of a file, which is read twice: to know how many there are, and to
    /// add them. It holds one line at a time. It blocks.
    ///
    /// # Errors
    ///
    /// Returns [`FilterError::File`]; [`FilterError::Line`] for a line that is no hash;
    /// [`FilterError::Size`] for an empty list.
    pub fn build(self, path: impl AsRef<Path>, wrong: f64) -> Result<PasswordFilter, FilterError> {
        let path = path.as_ref();
        let mut passwords = 0;
        self.each(path, |_| passwords += 1)?;
        let mut builder = FilterBuilder::new(passwords, wrong)?;
        self.each(path, |line| match line {
            Line::Password(password) => builder.add(password),
            Line::Sha1(sum) => builder.add_sha1(&sum),
            Line::LeftOut => {}
        })?;
        Ok(builder.finish())
    }

    /// Calls `add` with each line that counts.
    fn each(self, path: &Path, mut add: impl FnMut(Line<'_>)) -> Result<(), FilterError> {
        let failed = |source: io::Error| FilterError::File {
            path: path.to_owned(),
            source,
        };
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        let (mut bytes, mut line) = (Vec::new(), 0);
        loop {
            bytes.clear();
            if file.read_until(b'\n', &mut bytes).map_err(failed)? == 0 {
                return Ok(());
            }
            line += 1;
            let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            if text.is_empty() {
                continue;
            }
            match self.read(text).ok_or(FilterError::Line { line })? {
                Line::LeftOut => {}
                counts => add(counts),
            }
        }
    }

    fn read(self, text: &[u8]) -> Option<Line<'_>> {
        let Self::Sha1 { at_least } = self else {
            return Some(Line::Password(text));
        };
        let (hex, rest) = text.split_first_chunk::<40>()?;
        let times = match rest {
            [] => None,
            [b':', digits @ ..] => Some(
                std::str::from_utf8(digits)
                    .ok()?
                    .trim()
                    .parse::<u64>()
                    .ok()?,
            ),
            _ => return None,
        };
        let mut sum = [0; 20];
        for (byte, pair) in sum.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        let rare = times.is_some_and(|times| times < at_least);
        Some(if rare { Line::LeftOut } else { Line::Sha1(sum) })
    }
}

fn digit(hex: u8) -> Option<u8> {
    let digit = char::from(hex).to_digit(16)?;
    u8::try_from(digit).ok()
}
