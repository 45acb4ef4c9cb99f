use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::codec::{self, Codec as _, Json, Lz4};
use crate::envelope::tests::sign;
use crate::envelope::{Envelope, Value};
use crate::remote::Fence;

const MOST: usize = 10_000;

/// What an opened envelope takes beside its value.
const HEADS: u64 = 512;

fn packing(over: usize) -> Packing {
    codec::Codec::<String>::packing(&Lz4::new(Json).over(over))
}

fn sealed(value: &[u8], over: usize) -> Bytes {
    let envelope = Envelope {
        value: Value::Here(Bytes::copy_from_slice(value)),
        codec: codec::UNNAMED,
        era: 1,
        since: 2,
        fresh: 3,
        fence: Fence::of(4, 5),
        cost: 6,
        tags: Vec::new(),
    };
    envelope.seal("k", &envelope.body(packing(over)))
}

fn opened(bytes: &Bytes) -> Result<Bytes, Unread> {
    open(bytes, MOST)
}

fn open(bytes: &Bytes, most: usize) -> Result<Bytes, Unread> {
    match Envelope::open("k", bytes, most)?.value {
        Value::Here(encoded) => Ok(encoded),
        other => panic!("it was sealed with a value, not {other:?}"),
    }
}

fn is_packed(sealed: &Bytes) -> bool {
    sealed[12] & PACKED != 0
}

/// An envelope of these bytes, as if they were a packed value.
fn claimed(length: u32, block: &[u8]) -> Bytes {
    let mut bytes = sealed(&[&length.to_le_bytes(), block].concat(), usize::MAX).to_vec();
    bytes[12] |= PACKED;
    sign("k", &mut bytes);
    bytes.into()
}

/// Values that become shorter, whatever is in them.
fn repetitive() -> impl Strategy<Value = Vec<u8>> {
    (vec(any::<u8>(), 1..100), 5_usize..50)
        .prop_map(|(part, times)| part.repeat(times.max(60 / part.len())))
}

#[test]
fn only_what_is_longer_than_the_threshold_and_becomes_shorter_is_packed() {
    assert!(!is_packed(&sealed(&[7; 100], 100)));
    assert!(is_packed(&sealed(&[7; 101], 100)));
    let noise: Vec<u8> = (0..200_u64)
        .map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()[7])
        .collect();
    assert!(!is_packed(&sealed(&noise, 0)));
    assert!(!is_packed(&sealed(b"", 0)));
    let text: Vec<_> = b"to be or not to be ".repeat(400);
    let packed = sealed(&text, 1_024);
    assert!(packed.len() < text.len() / 10, "{}", packed.len());
    assert_eq!(opened(&packed).unwrap(), text);
}

#[test]
fn default_packs_nothing() {
    let packing = codec::Codec::<String>::packing(&Json);
    assert_eq!(packing, Packing::NONE);
    assert_eq!(pack(&[0; 100_000], packing), None);
    let text: String = Lz4::new(Json).decode(b"\"ada\"").unwrap();
    assert_eq!(text, "ada");
}

#[test]
fn bomb_is_found_before_there_is_room_for_it() {
    let zeros = lz4_flex::block::compress(&vec![0; 100_000_000]);
    for (length, block, why) in [
        // True of it, and over the limit.
        (100_000_000, &zeros[..], Unread::Size),
        (u32::MAX, &zeros[..], Unread::Size),
        // It is more than it says.
        (10_000, &zeros[..], Unread::Damaged),
        // Less than a block of this length can be.
        (10_000, b"\x10a", Unread::Damaged),
        (1, b"", Unread::Damaged),
        // Five bytes and no more.
        (10, b"\x50hello", Unread::Damaged),
    ] {
        let bytes = claimed(length, block);
        let mut found = Ok(Bytes::new());
        // An envelope of that length is itself over the limit.
        let most = MOST.max(block.len() + 4);
        let why = if length as usize > most {
            Unread::Size
        } else {
            why
        };
        let counted = allocation_counter::measure(|| {
            found = open(&bytes, most);
        });
        assert_eq!(found, Err(why), "{length} of {}", block.len());
        assert!(counted.bytes_total <= most as u64 + HEADS, "{counted:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_packed_is_read_back(
        value in prop_oneof![vec(any::<u8>(), 0..4_000), vec(0_u8..3, 0..=MOST)],
        over in 0_usize..2_000,
    ) {
        let sealed = sealed(&value, over);
        prop_assert!(!is_packed(&sealed) || value.len() > over);
        prop_assert_eq!(opened(&sealed), Ok(Bytes::from(value)));
    }

    #[test]
    fn damage_to_what_is_packed_is_a_miss(
        value in repetitive(),
        at: prop::sample::Index,
        bit in 0_u8..8,
    ) {
        let sealed = sealed(&value, 0);
        prop_assert!(is_packed(&sealed));
        let at = at.index(sealed.len());
        let mut flipped = sealed.to_vec();
        flipped[at] ^= 1 << bit;
        prop_assert!(opened(&flipped.into()).is_err());
        prop_assert!(opened(&sealed.slice(..at)).is_err());
    }

    /// Whoever wrote these knows the checksum; nothing else in them is true.
    #[test]
    fn made_up_bytes_panic_nobody_and_take_no_room(
        length in prop_oneof![0_u32..20_000, any::<u32>()],
        block in vec(any::<u8>(), 0..2_000),
    ) {
        let bytes = claimed(length, &block);
        let mut found = Err(Unread::Form);
        let counted = allocation_counter::measure(|| found = opened(&bytes));
        prop_assert!(counted.bytes_total <= MOST as u64 + HEADS, "{:?}", counted);
        if let Ok(value) = found {
            prop_assert_eq!(value.len(), length as usize);
        }
    }

    /// Bytes of a true block in other places: they decode far into it.
    #[test]
    fn changed_blocks_never_decode_to_more_than_they_say(
        value in repetitive(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        more in -20_i32..20,
    ) {
        let packed = pack(&value, packing(0)).expect("it becomes shorter");
        let mut block = packed[4..].to_vec();
        for (at, byte) in changes {
            let at = at.index(block.len());
            block[at] = byte;
        }
        let length = u32::try_from(value.len()).unwrap().saturating_add_signed(more);
        match opened(&claimed(length, &block)) {
            Ok(value) => prop_assert_eq!(value.len(), length as usize),
            Err(why) => prop_assert_eq!(why, Unread::Damaged),
        }
    }
}
