//! WAVs made by hand, byte by byte, and by another writer.

use std::io::Cursor;

use hound::{SampleFormat, WavSpec, WavWriter};

pub(super) const PCM: u16 = 1;
pub(super) const FLOAT: u16 = 3;

pub(super) fn riff(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVE".to_vec();
    for (name, content) in chunks {
        file.extend(*name);
        file.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
        file.extend(*content);
        if content.len() % 2 == 1 {
            file.push(0);
        }
    }
    let size = u32::try_from(file.len() - 8).unwrap();
    put_u32(&mut file, 4, size);
    file
}

pub(super) fn fmt(tag: u16, channels: u16, rate: u32, block_align: u16, bits: u16) -> Vec<u8> {
    let mut chunk = tag.to_le_bytes().to_vec();
    chunk.extend(channels.to_le_bytes());
    chunk.extend(rate.to_le_bytes());
    chunk.extend(rate.wrapping_mul(block_align.into()).to_le_bytes());
    chunk.extend(block_align.to_le_bytes());
    chunk.extend(bits.to_le_bytes());
    chunk
}

/// 32-bit PCM, mono, with a second opinion on how many bits are valid.
pub(super) fn extensible(valid_bits: u16) -> Vec<u8> {
    let mut chunk = fmt(0xfffe, 1, 48_000, 4, 32);
    chunk.extend(22_u16.to_le_bytes());
    chunk.extend(valid_bits.to_le_bytes());
    chunk.extend(4_u32.to_le_bytes());
    chunk.extend(b"\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71");
    chunk
}

pub(super) fn wav(format: &[u8], data: &[u8]) -> Vec<u8> {
    riff(&[(b"fmt ", format), (b"data", data)])
}

pub(super) fn mono16(samples: &[i16]) -> Vec<u8> {
    let data: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
    wav(&fmt(PCM, 1, 48_000, 2, 16), &data)
}

pub(super) fn put_u32(file: &mut [u8], at: usize, value: u32) {
    file[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// A sine of 1 kHz at 48 kHz.
pub(super) fn tone(frames: u32, dbfs: f64) -> Vec<f64> {
    let amplitude = 10_f64.powf(dbfs / 20.0);
    (0..frames)
        .map(|n| amplitude * (f64::from(n) * std::f64::consts::TAU / 48.0).sin())
        .collect()
}

/// A stereo file with `samples` on both sides, as the hound crate writes it.
pub(super) fn written(bits: u16, format: SampleFormat, samples: &[f64]) -> Vec<u8> {
    let spec = WavSpec {
        channels: 2,
        sample_rate: 48_000,
        bits_per_sample: bits,
        sample_format: format,
    };
    let mut file = Cursor::new(Vec::new());
    let mut writer = WavWriter::new(&mut file, spec).unwrap();
    let full_scale = f64::from((1_u32 << (bits - 1)) - 1);
    for sample in samples.iter().flat_map(|&sample| [sample, sample]) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "scaled to the sample's size"
        )]
        match format {
            SampleFormat::Float => writer.write_sample(sample as f32).unwrap(),
            SampleFormat::Int => writer
                .write_sample((sample * full_scale).round() as i32)
                .unwrap(),
        }
    }
    writer.finalize().unwrap();
    file.into_inner()
}
