//! Files that are cut, wrong or hostile.

use proptest::collection::vec;
use proptest::prelude::*;

use super::files::{FLOAT, PCM, extensible, fmt, mono16, put_u32, riff, wav};
use crate::audio::*;

#[test]
fn sniff_refuses_a_text_file() {
    let text = b"RIFFs are what guitars are for";
    assert!(matches!(sniff(text), Err(AudioError::NotWav)));
}

#[test]
fn sniff_passes_the_first_bytes_of_a_wav() {
    let file = mono16(&[0]);
    assert!(sniff(&file[..SNIFF_BYTES]).is_ok());
    assert!(matches!(
        sniff(&file[..SNIFF_BYTES - 1]),
        Err(AudioError::NotWav)
    ));
}

/// The decoder alone takes the padding for the next chunk's name.
#[test]
fn chunks_of_odd_length_may_stand_before_and_behind_the_audio() {
    let format = fmt(PCM, 1, 8_000, 1, 8);
    let file = riff(&[
        (b"LIST", b"odd"),
        (b"fmt ", &format),
        (b"data", &[255]),
        (b"id3 ", b"odd"),
    ]);

    assert_eq!(analyse(&*file).unwrap().frames, 1);
}

#[test]
fn file_cut_at_any_byte_is_an_error() {
    let format = fmt(PCM, 1, 8_000, 1, 8);
    let file = riff(&[(b"fmt ", &format), (b"data", &[1, 2, 3]), (b"LIST", b"abc")]);

    assert!(analyse(&*file).is_ok());
    for len in 0..file.len() {
        let error = analyse(&file[..len]).unwrap_err();
        if len < SNIFF_BYTES {
            assert!(matches!(error, AudioError::NotWav), "{len}: {error:?}");
        } else {
            assert!(
                matches!(error, AudioError::Truncated { declared, actual }
                    if declared > actual && actual == len as u64),
                "{len}: {error:?}"
            );
        }
    }
}

#[test]
fn data_chunk_longer_than_the_file_is_truncated() {
    let mut file = mono16(&[1; 100]);
    put_u32(&mut file, 40, 1_000_000);

    assert!(matches!(
        analyse(&*file),
        Err(AudioError::Truncated {
            declared: 1_000_044,
            actual: 244
        })
    ));
}

/// As programs write it that stream and never come back to fill in the length.
#[test]
fn unknown_length_is_truncated() {
    let mut file = mono16(&[1; 100]);
    put_u32(&mut file, 4, u32::MAX);
    put_u32(&mut file, 40, u32::MAX);

    assert!(matches!(
        analyse(&*file),
        Err(AudioError::Truncated { actual: 244, .. })
    ));
}

#[test]
fn riff_size_other_than_the_file_is_an_error() {
    let file = mono16(&[1; 100]);
    for size in [0, 3, 4, 10, 36, 100, 235, 237, 238, 1_000, u32::MAX - 1] {
        let mut file = file.clone();
        put_u32(&mut file, 4, size);
        assert!(
            matches!(
                analyse(&*file),
                Err(AudioError::Truncated { .. } | AudioError::Malformed { .. })
            ),
            "{size}"
        );
    }
}

/// A header for one second in front of a minute measures neither.
#[test]
fn data_chunk_shorter_than_the_file_is_malformed() {
    let mut zeros = mono16(&[0; 100]);
    put_u32(&mut zeros, 40, 20);
    assert!(matches!(
        analyse(&*zeros),
        Err(AudioError::Malformed { .. })
    ));

    let mut longer = mono16(&[0; 100]);
    longer.extend([0; 2]);
    assert!(matches!(
        analyse(&*longer),
        Err(AudioError::Malformed { .. })
    ));
}

#[test]
fn bytes_too_few_for_a_chunk_are_malformed() {
    let mut file = mono16(&[0; 100]);
    file.extend(b"abc");
    put_u32(&mut file, 4, 239);

    assert!(matches!(analyse(&*file), Err(AudioError::Malformed { .. })));
}

#[test]
fn hostile_formats_are_refused() {
    let data = [0; 240];
    for (why, format) in [
        ("no channels", fmt(PCM, 0, 48_000, 2, 16)),
        ("65535 channels", fmt(PCM, u16::MAX, 48_000, u16::MAX, 8)),
        ("9 channels", fmt(PCM, 9, 48_000, 18, 16)),
        ("0 Hz", fmt(PCM, 1, 0, 2, 16)),
        ("4 GHz", fmt(PCM, 1, u32::MAX, 2, 16)),
        ("ADPCM", fmt(2, 1, 48_000, 2, 16)),
        ("0 bits", fmt(PCM, 1, 48_000, 2, 0)),
        ("12 bits", fmt(PCM, 1, 48_000, 2, 12)),
        ("64 bits", fmt(FLOAT, 1, 48_000, 8, 64)),
        ("valid bits", extensible(40)),
        ("20 valid bits", extensible(20)),
    ] {
        let error = analyse(&*wav(&format, &data)).unwrap_err();
        assert!(
            matches!(error, AudioError::Unsupported { .. }),
            "{why}: {error:?}"
        );
    }
    for (why, format) in [
        ("short", vec![1; 15]),
        ("block align 0", fmt(PCM, 1, 48_000, 0, 16)),
        ("block align 1", fmt(PCM, 1, 48_000, 1, 16)),
        ("block align 5", fmt(PCM, 2, 48_000, 5, 16)),
        ("block align 65535", fmt(PCM, 1, 48_000, u16::MAX, 16)),
        ("ends within a frame", fmt(PCM, 7, 48_000, 14, 16)),
    ] {
        let error = analyse(&*wav(&format, &data)).unwrap_err();
        assert!(
            matches!(error, AudioError::Malformed { .. }),
            "{why}: {error:?}"
        );
    }
    for (why, format) in [
        ("16-bit float", fmt(FLOAT, 1, 48_000, 2, 16)),
        ("16 bits in 4 bytes", fmt(PCM, 1, 48_000, 4, 16)),
    ] {
        let error = analyse(&*wav(&format, &data)).unwrap_err();
        assert!(
            matches!(error, AudioError::Decode { .. }),
            "{why}: {error:?}"
        );
    }
}

#[test]
fn order_and_number_of_chunks_are_checked() {
    let format = fmt(PCM, 1, 8_000, 1, 8);
    for chunks in [
        &[][..],
        &[(b"fmt ", &*format)],
        &[(b"data", &[1, 2])],
        &[(b"data", &[1, 2]), (b"fmt ", &format)],
        &[(b"fmt ", &format), (b"fmt ", &format), (b"data", &[1, 2])],
        &[(b"fmt ", &format), (b"data", &[1, 2]), (b"data", &[1, 2])],
        &[(b"\0\0\0\0", &[]), (b"fmt ", &format), (b"data", &[1, 2])],
    ] {
        let found = analyse(&*riff(chunks));
        assert!(
            matches!(found, Err(AudioError::Malformed { .. })),
            "{found:?}"
        );
    }
}

#[test]
fn wav_without_a_sample_is_empty() {
    assert!(matches!(analyse(&*mono16(&[])), Err(AudioError::Empty)));
}

#[test]
fn more_than_a_day_is_not_measured() {
    // 800 MB of which only the header is ever made.
    let len = 8_000 * 60 * 60 * 25;
    let mut header = wav(&fmt(PCM, 1, 8_000, 1, 8), &[]);
    put_u32(&mut header, 4, len + 36);
    put_u32(&mut header, 40, len);

    assert!(matches!(
        analyse(&*header),
        Err(AudioError::Unsupported { value: 90_000, .. })
    ));
}

#[test]
fn float_that_is_no_number_is_named_by_its_frame() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let data: Vec<u8> = [0.0, 0.0, 0.0, bad]
            .iter()
            .flat_map(|s| s.to_le_bytes())
            .collect();
        let found = analyse(&*wav(&fmt(FLOAT, 2, 48_000, 8, 32), &data));
        assert!(
            matches!(found, Err(AudioError::NotFinite { frame: 1 })),
            "{found:?}"
        );
    }
}

#[test]
fn failing_disk_is_no_fault_of_the_file() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("disk on fire"))
        }
    }

    let file = mono16(&[0; 100]);
    for len in [0, 11, 20, 44, 100, file.len()] {
        let error = analyse(file[..len].chain(Broken)).unwrap_err();
        assert!(matches!(error, AudioError::Read { .. }), "{len}: {error:?}");
        assert!(!error.is_permanent());
    }
    assert!(AudioError::NotWav.is_permanent());
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..400), wave in any::<bool>()) {
        let mut file = bytes;
        if wave && file.len() >= SNIFF_BYTES {
            file[..4].copy_from_slice(b"RIFF");
            file[8..12].copy_from_slice(b"WAVE");
        }
        prop_assert!(analyse(&*file).is_err());
    }

    #[test]
    fn flipped_bits_never_panic_nor_change_the_length_unseen(
        kind in 0..4_usize,
        flips in vec((any::<prop::sample::Index>(), 0..8_u8), 1..6),
        in_header in any::<bool>(),
    ) {
        let data: Vec<u8> = (0..96).collect();
        let format = [
            fmt(PCM, 2, 44_100, 4, 16),
            fmt(PCM, 1, 48_000, 3, 24),
            fmt(FLOAT, 1, 48_000, 4, 32),
            extensible(32),
        ];
        let mut file = wav(&format[kind], &data);
        let reach = if in_header { 20 + format[kind].len() + 8 } else { file.len() };
        for (index, bit) in flips {
            file[index.index(reach)] ^= 1 << bit;
        }
        if let Ok(found) = analyse(&*file) {
            prop_assert!(found.frames > 0 && found.peak.is_finite());
            prop_assert!(found.loudness_lufs.is_none_or(f64::is_finite));
            prop_assert_eq!(data.len() as u64 % found.frames, 0);
        }
    }
}
