use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{FilterError, MOST_PROBES, PasswordFilter};

const MAGIC: &[u8; 7] = b"mxs-pwf";
const VERSION: u8 = 1;
const HEAD: usize = 28;
const SUM: usize = 32;

// === impl PasswordFilter ===

impl PasswordFilter {
    /// Reads the file that [`save`](Self::save) wrote. It blocks: call it before the
    /// service begins.
    ///
    /// # Errors
    ///
    /// Returns [`FilterError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FilterError> {
        let path = path.as_ref();
        let read = fs::read(path);
        let bytes = read.map_err(|source| FilterError::File {
            path: path.to_owned(),
            source,
        })?;
        Self::from_bytes(bytes)
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; all of it is checked first.
    ///
    /// # Errors
    ///
    /// Returns [`FilterError`].
    pub fn from_bytes(mut bytes: Vec<u8>) -> Result<Self, FilterError> {
        let head = bytes.first_chunk::<HEAD>().copied();
        let Some(head) = head.filter(|head| head.starts_with(MAGIC)) else {
            return Err(FilterError::NotOne);
        };
        if head[7] != VERSION {
            return Err(FilterError::Version(head[7]));
        }
        let [probes, passwords, bits] = [
            number(&head[8..12]),
            number(&head[12..20]),
            number(&head[20..]),
        ];
        let expected = (bits / 8).saturating_add((HEAD + SUM) as u64);
        let found = bytes.len() as u64;
        if expected != found {
            return Err(FilterError::Length { expected, found });
        }
        let whole = bytes.split_off(bytes.len() - SUM);
        if Sha256::digest(&bytes)[..] != whole[..] {
            return Err(FilterError::Damaged);
        }
        let probes = u32::try_from(probes).map_err(|_| FilterError::Damaged)?;
        if bits == 0 || bits % 8 != 0 || !(1..=MOST_PROBES).contains(&probes) {
            return Err(FilterError::Damaged);
        }
        bytes.drain(..HEAD);
        Ok(Self {
            probes,
            passwords,
            bits,
            bytes,
        })
    }

    /// The bytes of a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + self.bytes.len() + SUM);
        // A vector takes all that is written to it.
        let _taken = self.write_to(&mut bytes);
        bytes
    }

    /// Writes it to a file, which is there as a whole or as it was before, whenever it
    /// is interrupted. It blocks.
    ///
    /// # Errors
    ///
    /// Returns [`FilterError::File`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), FilterError> {
        let path = path.as_ref();
        let beside = beside(path);
        let written = self.write_beside(&beside);
        let saved = written.and_then(|()| fs::rename(&beside, path));
        saved.map_err(|source| {
            // What is half written is nobody's. The first error is the one to tell.
            let _removed = fs::remove_file(&beside);
            FilterError::File {
                path: path.to_owned(),
                source,
            }
        })
    }

    fn write_beside(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        self.write_to(&mut file)?;
        file.into_inner()?.sync_all()
    }

    fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let mut head = MAGIC.to_vec();
        head.push(VERSION);
        head.extend(self.probes.to_le_bytes());
        head.extend(self.passwords.to_le_bytes());
        head.extend(self.bits.to_le_bytes());
        let mut sum = Sha256::new();
        for part in [&head, &self.bytes] {
            sum.update(part);
            out.write_all(part)?;
        }
        out.write_all(&sum.finalize())
    }
}

/// In the same folder, so that a rename is one step.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Little-endian, of at most eight bytes.
fn number(bytes: &[u8]) -> u64 {
    let digits = bytes.iter().rev();
    digits.fold(0, |number, &byte| (number << 8) | u64::from(byte))
}
