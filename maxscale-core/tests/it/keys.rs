//! A key is rotated while others seal, sign and read.

use std::collections::BTreeSet;
use std::sync::{Barrier, Mutex};
use std::thread;

use maxscale_core::keys::{KeyRing, Keys, Secret, Tag};

const THREADS: usize = 4;
const VERSIONS: u8 = 12;
/// So many rows the thread that rotates writes under each key.
const ROWS: usize = 100;

/// What a thread left behind, to be read by any other.
#[derive(Clone)]
struct Written {
    row: String,
    sealed: Vec<u8>,
    signed: (u8, Tag),
}

fn secret(version: u8) -> Secret {
    Secret::new([version; KeyRing::MIN_LEN])
}

fn write(keys: &Keys, row: String) -> Written {
    let ring = keys.ring();
    let name = row.as_bytes();
    Written {
        sealed: ring.seal("row", name, b"its value").unwrap(),
        signed: ring.sign("row", name),
        row,
    }
}

fn check(keys: &Keys, written: &Written) {
    let (name, ring) = (written.row.as_bytes(), keys.ring());
    let opened = ring.open("row", name, &written.sealed);
    assert_eq!(opened.unwrap(), b"its value");
    let (version, tag) = &written.signed;
    assert!(ring.verify(*version, "row", name, tag), "{}", written.row);
}

/// Writes, and reads what anybody has written before.
fn write_and_read(keys: &Keys, all: &Mutex<Vec<Written>>, thread: usize, round: usize) {
    for n in 0..ROWS {
        let written = write(keys, format!("{thread}/{round}/{n}"));
        let earlier = {
            let mut all = all.lock().unwrap();
            all.push(written);
            all[(n * 7_919) % all.len()].clone()
        };
        check(keys, &earlier);
    }
}

/// What threads wrote while one of them went through all versions.
fn written_during_rotation(keys: &Keys) -> Vec<Written> {
    let (all, start) = (Mutex::new(Vec::new()), Barrier::new(THREADS));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (all, start) = (&all, &start);
            scope.spawn(move || {
                start.wait();
                for version in 1..=VERSIONS {
                    if thread == 0 && version > 1 {
                        let next = |ring: KeyRing| ring.with_old(version, secret(version));
                        keys.exchange(next).unwrap();
                        keys.exchange(|ring| ring.promoted(version)).unwrap();
                    }
                    write_and_read(keys, all, thread, version.into());
                }
            });
        }
    });
    all.into_inner().unwrap()
}

#[test]
fn everything_sealed_or_signed_before_a_rotation_under_load_reads_after_it() {
    let keys = Keys::new(KeyRing::new(1, secret(1)).unwrap());
    let all = written_during_rotation(&keys);
    assert_eq!(all.len(), THREADS * usize::from(VERSIONS) * ROWS);
    let under = |written: &Written| KeyRing::sealed_under(&written.sealed);
    let versions: BTreeSet<_> = all.iter().filter_map(under).collect();
    assert!(versions.into_iter().eq(1..=VERSIONS));
    for written in &all {
        check(&keys, written);
    }
}

#[test]
fn flipped_bit_never_opens_whichever_key_sealed() {
    let keys = Keys::new(KeyRing::new(1, secret(1)).unwrap());
    let all = written_during_rotation(&keys);
    let ring = keys.ring();
    for version in 1..=VERSIONS {
        let under = |written: &&Written| KeyRing::sealed_under(&written.sealed) == Some(version);
        let sample = all.iter().find(under).unwrap();
        for bit in 0..sample.sealed.len() * 8 {
            let mut bad = sample.sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let opened = ring.open("row", sample.row.as_bytes(), &bad);
            assert!(opened.is_err(), "version {version}, bit {bit}");
        }
    }
}
