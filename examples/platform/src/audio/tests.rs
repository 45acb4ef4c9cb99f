use std::fs::File;
use std::path::Path;

use serde_json::Value;

use super::*;
use files::{FLOAT, PCM, fmt, mono16, tone, wav, written};

mod bad_input;
mod files;

#[test]
fn kept_music_measures_as_ffmpeg_measures_it() {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
    let reference: Value =
        serde_json::from_reader(File::open(assets.join("pluck.reference.json")).unwrap()).unwrap();
    let number = |pointer: &str| reference.pointer(pointer).unwrap().as_f64().unwrap();

    let found = analyse(File::open(assets.join("pluck.wav")).unwrap()).unwrap();

    let loudness = found.loudness_lufs.unwrap();
    let peak = found.peak_dbfs().unwrap();
    assert_near(loudness, number("/summary/integrated_lufs"), 0.1);
    assert_near(loudness, number("/last_block/integrated_lufs"), 0.01);
    assert_near(peak, number("/summary/sample_peak_dbfs"), 0.1);
    // ffmpeg's astats takes 32767 for full scale.
    assert_near(peak, number("/peak/peak_level_dbfs"), 0.001);
    assert_near(found.duration_seconds(), number("/duration/duration"), 1e-6);
    assert_eq!(found.frames, 141_120);
    assert_eq!((found.sample_rate, found.channels), (44_100, 2));
}

/// Case 1 of EBU Tech 3341.
#[test]
fn tone_at_minus_23_dbfs_is_minus_23_lufs() {
    let found = analyse(&*written(16, SampleFormat::Int, &tone(48_000 * 3, -23.0))).unwrap();

    assert_near(found.loudness_lufs.unwrap(), -23.0, 0.1);
    assert_near(found.peak_dbfs().unwrap(), -23.0, 0.01);
}

#[test]
fn every_sample_format_measures_alike() {
    let tone = tone(48_000, -6.0);
    for (bits, format) in [
        (8, SampleFormat::Int),
        (16, SampleFormat::Int),
        (24, SampleFormat::Int),
        (32, SampleFormat::Int),
        (32, SampleFormat::Float),
    ] {
        let found = analyse(&*written(bits, format, &tone)).unwrap();
        let lufs = found.loudness_lufs.unwrap();
        assert_near(lufs, -6.0, 0.15);
        assert_near(found.peak_dbfs().unwrap(), -6.0, 0.15);
        assert_eq!(found.frames, 48_000, "{bits} {format:?}");
    }
}

#[test]
fn three_byte_samples_may_stand_in_four_bytes() {
    let data = (1_i32 << 22).to_le_bytes();
    let found = analyse(&*wav(&fmt(PCM, 1, 48_000, 4, 24), &data)).unwrap();

    assert_near(found.peak, 0.5, 1e-9);
}

#[test]
fn silence_has_neither_loudness_nor_peak() {
    let found = analyse(&*mono16(&[0; 48_000])).unwrap();

    assert_eq!(found.loudness_lufs, None);
    assert_eq!(found.peak_dbfs(), None);
    assert!(found.waveform.pairs().all(|pair| pair == (0, 0)));
}

#[test]
fn audio_shorter_than_the_gate_has_a_peak_and_no_loudness() {
    let found = analyse(&*mono16(&[i16::MIN; 480])).unwrap();

    assert_eq!(found.loudness_lufs, None);
    assert_eq!(found.peak_dbfs(), Some(0.0));
}

#[test]
fn float_peak_may_exceed_full_scale_and_the_drawing_is_cut() {
    let data: Vec<u8> = [2.0_f32, -2.0]
        .iter()
        .flat_map(|s| s.to_le_bytes())
        .collect();
    let found = analyse(&*wav(&fmt(FLOAT, 2, 48_000, 8, 32), &data)).unwrap();

    assert_near(found.peak, 2.0, 1e-9);
    assert!(found.waveform.pairs().all(|pair| pair == (-127, 127)));
}

#[test]
fn waveform_holds_the_lowest_and_highest_of_each_stretch() {
    // Stretch n holds -n and n, in units of 64/32768, over its 10 frames.
    let samples: Vec<i16> = (0..4_000_i16)
        .map(|frame| frame / 10 * 64 * if frame % 2 == 0 { 1 } else { -1 })
        .collect();
    let found = analyse(&*mono16(&samples)).unwrap();

    let pairs: Vec<_> = found.waveform.pairs().collect();
    assert_eq!(pairs.len(), Waveform::BUCKETS);
    assert_eq!(found.waveform.as_bytes().len(), 2 * Waveform::BUCKETS);
    for (n, pair) in pairs.into_iter().enumerate() {
        #[expect(clippy::cast_possible_truncation, reason = "at most 99")]
        let level = (n as f64 * 64.0 / 32_768.0 * 127.0).round() as i8;
        assert_eq!(pair, (-level, level), "stretch {n}");
    }
}

#[test]
fn few_frames_fill_all_stretches() {
    let found = analyse(&*mono16(&[i16::MAX, 0])).unwrap();

    let pairs: Vec<_> = found.waveform.pairs().collect();
    assert_eq!(pairs[..200], [(127, 127); 200]);
    assert_eq!(pairs[200..], [(0, 0); 200]);
}

#[track_caller]
fn assert_near(found: f64, wanted: f64, within: f64) {
    assert!(
        (found - wanted).abs() <= within,
        "{found} is not {wanted} ± {within}"
    );
}
