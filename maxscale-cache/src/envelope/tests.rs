use super::*;

fn example(value: Option<&'static [u8]>) -> Envelope {
    Envelope {
        value: value.map_or(Value::Absent, |it| Value::Here(Bytes::from_static(it))),
        codec: codec::UNNAMED,
        era: 2,
        since: 3,
        fresh: 4,
        fence: Fence::of(5, 6),
        cost: 7,
        tags: vec![
            ("team".into(), Fence::of(8, 9)),
            ("".into(), Fence::new(10)),
        ],
    }
}

fn seal(envelope: &Envelope, key: &str) -> Bytes {
    envelope.seal(key, &envelope.body(Packing::NONE))
}

fn open(key: &str, bytes: &Bytes) -> Result<Envelope, Unread> {
    Envelope::open(key, bytes, 1_000)
}

/// Lets the checksum be right, as it is if somebody means what is inside.
pub(super) fn sign(key: &str, bytes: &mut [u8]) {
    let sum = checksum(key, &bytes[12..]).to_le_bytes();
    bytes[4..12].copy_from_slice(&sum);
}

#[test]
fn every_flipped_bit_and_every_cut_is_a_miss() {
    let away = Away {
        digest: [7; 32],
        is_packed: true,
    };
    for value in [
        Value::Here(Bytes::from_static(b"{\"name\":\"ada\"}")),
        Value::Absent,
        Value::Away(away),
    ] {
        for codec in [codec::UNNAMED, codec::number("postcard")] {
            let envelope = Envelope {
                codec,
                value: value.clone(),
                ..example(None)
            };
            let sealed = seal(&envelope, "k");
            assert_eq!(open("k", &sealed), Ok(envelope));

            for bit in 0..sealed.len() * 8 {
                let mut bytes = sealed.to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let why = if bit < 32 {
                    Unread::Form
                } else {
                    Unread::Damaged
                };
                assert_eq!(open("k", &bytes.into()), Err(why), "bit {bit}");
            }
            for len in 0..sealed.len() {
                let why = if len < 4 {
                    Unread::Form
                } else {
                    Unread::Damaged
                };
                assert_eq!(open("k", &sealed.slice(..len)), Err(why), "cut to {len}");
            }
        }
    }
}

#[test]
fn value_of_another_key_is_a_miss() {
    assert_eq!(open("b", &seal(&example(None), "a")), Err(Unread::Damaged));
}

#[test]
fn value_over_the_limit_is_a_miss() {
    let sealed = seal(&example(Some(&[0; 1_001])), "k");
    assert_eq!(open("k", &sealed), Err(Unread::Size));
    assert!(Envelope::open("k", &sealed, 1_001).is_ok());
}

#[test]
fn flags_of_other_builds_are_a_miss() {
    let sealed = seal(&example(Some(b"1")), "k");
    for flag in 0..8 {
        let mut bytes = sealed.to_vec();
        bytes[12] |= 1 << flag;
        sign("k", &mut bytes);
        let opened = open("k", &bytes.into());
        match 1 << flag {
            ABSENT => assert_eq!(opened.unwrap().value, Value::Absent),
            // They mean something here, and what they speak of is not there.
            known if KNOWN & known != 0 => assert_eq!(opened, Err(Unread::Damaged)),
            _ => assert_eq!(opened, Err(Unread::Form), "flag {flag}"),
        }
    }
}

#[test]
fn what_builds_without_other_codecs_wrote_is_as_it_was() {
    let sealed = seal(&example(Some(b"1")), "k");
    assert_eq!(sealed[..4], *b"MXC\x02");
    assert_eq!(sealed[12], 0, "flags");
    assert_eq!(sealed[sealed.len() - 5..], *b"\x01\0\0\x001");
    assert_eq!(
        xxhash_rust::xxh3::xxh3_64(&sealed),
        12_697_223_179_346_624_761,
        "golden"
    );
}

#[test]
fn bytes_that_are_whole_but_make_no_sense_are_a_miss() {
    // Whoever wrote them knows the checksum, so it lies right.
    let sealed = seal(&example(Some(b"1")), "k");
    for at in 12..sealed.len() {
        for byte in [0, 1, 0x7f, 0xff] {
            let mut bytes = sealed.to_vec();
            bytes[at] = byte;
            sign("k", &mut bytes);
            // It must not panic; what opens is as long as it says.
            let _ = open("k", &bytes.into());
        }
    }
}
