use std::fs;
use std::path::PathBuf;

use super::*;

fn filter(passwords: u64) -> PasswordFilter {
    let mut builder = FilterBuilder::new(passwords, FilterBuilder::WRONG).unwrap();
    for number in 0..passwords {
        builder.add(format!("stolen {number}").as_bytes());
    }
    builder.finish()
}

#[test]
fn nothing_is_missed_and_little_is_taken_for_another() {
    const MANY: u64 = 300_000;
    let filter = filter(MANY);
    assert!((0..MANY).all(|number| filter.may_contain(&format!("stolen {number}"))));
    let wrong = (0..MANY).filter(|number| filter.may_contain(&format!("fresh {number}")));
    let wrong = wrong.count();
    // One in 10,000: 30 of these, always the same.
    assert!((10..=50).contains(&wrong), "{wrong}");
    // A million take 2.5 MB at most.
    let size = filter.to_bytes().len();
    assert!(size <= 750_000, "{size}");
    assert_eq!(filter.passwords(), MANY);
}

/// The format is fixed: files outlive the program that wrote them.
#[test]
fn bytes_are_those_of_the_format() {
    let mut builder = FilterBuilder::new(1, 0.5).unwrap();
    builder.add(b"password");
    let bytes = builder.finish().to_bytes();
    let (head, rest) = bytes.split_at(28);
    assert_eq!(&head[..8], b"mxs-pwf\x01");
    assert_eq!(head[8..12], 1_u32.to_le_bytes());
    assert_eq!(head[12..20], 1_u64.to_le_bytes());
    assert_eq!(head[20..], 64_u64.to_le_bytes());
    // SHA-1 is 5baa61e4c9b93f3f…; of its first eight bytes, little-endian, the last six bits are 0x1b.
    assert_eq!(rest[..8], (1_u64 << 0x1b).to_le_bytes());
    assert_eq!(rest.len(), 8 + 32);
}

#[test]
fn file_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stolen.filter");
    let filter = filter(100);
    filter.save(&path).unwrap();
    let back = PasswordFilter::open(&path).unwrap();
    assert_eq!(back.to_bytes(), filter.to_bytes());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn any_other_byte_and_any_other_length_is_refused() {
    let bytes = filter(3).to_bytes();
    for at in 0..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 1;
        assert!(PasswordFilter::from_bytes(other).is_err(), "{at}");
        assert!(
            PasswordFilter::from_bytes(bytes[..at].to_vec()).is_err(),
            "{at}"
        );
    }
    let mut longer = bytes.clone();
    longer.push(0);
    let refused = PasswordFilter::from_bytes(longer);
    assert!(matches!(refused, Err(FilterError::Length { .. })));
    let mut newer = bytes.clone();
    newer[7] = 2;
    assert!(matches!(
        PasswordFilter::from_bytes(newer),
        Err(FilterError::Version(2))
    ));
    let mut wide = bytes;
    wide[20..28].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(
        PasswordFilter::from_bytes(wide),
        Err(FilterError::Length { .. })
    ));
    assert!(matches!(
        PasswordFilter::from_bytes(Vec::new()),
        Err(FilterError::NotOne)
    ));
}

#[test]
fn file_that_cannot_be_written_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stolen.filter");
    filter(3).save(&path).unwrap();
    // Where the new one would be written there is a folder.
    fs::create_dir(folder.path().join("stolen.filter.part")).unwrap();
    let refused = filter(5).save(&path);
    assert!(matches!(refused, Err(FilterError::File { .. })));
    assert_eq!(PasswordFilter::open(&path).unwrap().passwords(), 3);
    let absent = PasswordFilter::open(folder.path().join("absent"));
    assert!(matches!(absent, Err(FilterError::File { .. })));
}

fn list(lines: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.txt");
    fs::write(&path, lines).unwrap();
    (folder, path)
}

#[test]
fn lists_of_passwords_are_read_in_any_encoding() {
    let (_folder, path) = list(b"first\r\nse cond \n\nthird\xff\nlast");
    let filter = Lines::Passwords.build(&path, 1e-9).unwrap();
    assert_eq!(filter.passwords(), 4);
    for found in ["first", "se cond ", "last"] {
        assert!(filter.may_contain(found), "{found}");
    }
    assert!(filter.may_contain_sha1(&Sha1::digest(b"third\xff").into()));
    assert!(!filter.may_contain("first\r") && !filter.may_contain(""));
}

#[test]
fn lists_of_hashes_are_read_with_and_without_counts() {
    let lines = b"5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8:52372427\n\
        7c4a8d09ca3762af61e59520943dc26494f8941b\r\n\
        F7C3BC1D808E04732ADF679965CCC34CA7AE3441:9\n";
    let (_folder, path) = list(lines);
    let build = |at_least| Lines::Sha1 { at_least }.build(&path, 1e-9).unwrap();
    let (all, frequent) = (build(0), build(10));
    assert_eq!([all.passwords(), frequent.passwords()], [3, 2]);
    for found in ["password", "123456", "123456789"] {
        assert!(all.may_contain(found), "{found}");
    }
    assert!(!frequent.may_contain("123456789"));
}

#[test]
fn line_that_is_no_hash_is_named() {
    let good = "5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8:3";
    for bad in [
        "password",
        &good[..39],
        &good[..41],
        "5BAA61E4C9B93F3F0682250B6CF8331B7EE68FDG:3",
        &format!("{good}x"),
    ] {
        let (_folder, path) = list(format!("{good}\n{bad}\n").as_bytes());
        let refused = Lines::Sha1 { at_least: 0 }.build(&path, 1e-4);
        assert!(
            matches!(refused, Err(FilterError::Line { line: 2 })),
            "{bad}"
        );
    }
}

#[test]
fn sizes_that_make_no_filter_are_refused() {
    for (passwords, wrong) in [
        (0, 1e-4),
        (1, 0.0),
        (1, 1.0),
        (1, f64::NAN),
        (1, -1.0),
        (u64::MAX, 1e-4),
    ] {
        let refused = FilterBuilder::new(passwords, wrong);
        assert!(
            matches!(refused, Err(FilterError::Size { .. })),
            "{passwords} {wrong}"
        );
    }
    let (_folder, path) = list(b"\n\n");
    let empty = Lines::Passwords.build(&path, 1e-4);
    assert!(matches!(empty, Err(FilterError::Size { passwords: 0, .. })));
}
