//! Measures a WAV: its length, its peak, its loudness, and a drawing of it.
//!
//! [`analyse`] reads once from front to back, in memory that does not grow with
//! the file, and blocks: call it where blocking is allowed. It answers for the
//! whole file or not at all: a file that lies about its length, or holds a
//! sample that is no number, is an [`AudioError`] that says why.
//!
//! It knows nothing of uploads, jobs or rows. [`sniff`] is for the door: it
//! tells from the first bytes what is certainly no WAV.
//!
//! ```text
//!  bytes ─ container: chunks, lengths ─ hound: samples ─ meter: peak, EBU R 128, waveform
//! ```

mod container;
mod error;
mod meter;
mod waveform;

use std::io::{self, BufReader, Read};

use hound::{Sample, SampleFormat, WavReader};

use container::Header;
use meter::Meter;

pub use error::AudioError;
pub use waveform::Waveform;

/// How many bytes [`sniff`] needs.
pub const SNIFF_BYTES: usize = 12;

/// What [`analyse`] found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Analysis {
    /// How many samples each channel has.
    pub frames: u64,
    /// Frames per second.
    pub sample_rate: u32,
    /// How many channels there are.
    pub channels: u16,
    /// The largest absolute sample, where 1 is full scale. A float file may exceed it.
    pub peak: f64,
    /// Integrated loudness after EBU R 128. `None` for what its gate leaves
    /// nothing of: silence, and anything shorter than 400 ms.
    pub loudness_lufs: Option<f64>,
    /// The outline, to be drawn.
    pub waveform: Waveform,
}

/// Tells from a file's first [`SNIFF_BYTES`] that it may be a WAV.
///
/// # Errors
///
/// [`AudioError::NotWav`] if it is certainly none, or if there are fewer bytes.
pub fn sniff(first_bytes: &[u8]) -> Result<(), AudioError> {
    match first_bytes.get(..SNIFF_BYTES) {
        Some([b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E']) => Ok(()),
        _ => Err(AudioError::NotWav),
    }
}

/// Measures the WAV that `reader` gives, up to its end.
///
/// Takes PCM of 8, 16, 24 or 32 bits and 32-bit floats, 1 to 8 channels, 8 to
/// 192 kHz, at most 24 hours.
///
/// # Errors
///
/// [`AudioError::Read`] if `reader` fails, which another attempt may heal; any
/// other [`AudioError`] is the file's fault and stays.
pub fn analyse<R: Read>(reader: R) -> Result<Analysis, AudioError> {
    let mut source = Source::new(reader);
    let header = Header::read(&mut source)?;
    let mut meter = Meter::new(&header);
    decode(&mut source, &header, &mut meter).map_err(|error| match error {
        // The decoder sees an end where it wanted more; only the source knows which.
        AudioError::Decode {
            source: hound::Error::IoError(error),
        } => source.failure(error, header.data_end()),
        other => other,
    })?;
    header.read_rest(&mut source)?;
    Ok(meter.finish())
}

fn decode<R: Read>(
    source: &mut Source<R>,
    header: &Header,
    meter: &mut Meter,
) -> Result<(), AudioError> {
    let data = source.by_ref().take(header.data_len().into());
    let canonical = header.canonical();
    let mut wav = WavReader::new(canonical.as_slice().chain(data))?;
    let spec = wav.spec();
    match spec.sample_format {
        SampleFormat::Float => measure(&mut wav, meter, |sample: f32| f64::from(sample)),
        // The extended format has a second sample size, which the decoder believes.
        SampleFormat::Int if !matches!(spec.bits_per_sample, 8 | 16 | 24 | 32) => {
            Err(AudioError::Unsupported {
                field: "a sample size in bits of",
                value: spec.bits_per_sample.into(),
            })
        }
        SampleFormat::Int => {
            let full_scale = f64::from(1_u32 << (spec.bits_per_sample - 1));
            measure(&mut wav, meter, |sample: i32| {
                f64::from(sample) / full_scale
            })
        }
    }
}

fn measure<R: Read, S: Sample>(
    wav: &mut WavReader<R>,
    meter: &mut Meter,
    scaled: impl Fn(S) -> f64,
) -> Result<(), AudioError> {
    for sample in wav.samples() {
        meter.add(scaled(sample?))?;
    }
    Ok(())
}

/// A buffered reader that knows how far it is, and whether that was the end.
struct Source<R> {
    inner: BufReader<R>,
    position: u64,
    ended: bool,
}

// === impl Analysis ===

impl Analysis {
    /// How long it plays, in seconds.
    pub fn duration_seconds(&self) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a day of audio has far fewer than 2^53 frames"
        )]
        let frames = self.frames as f64;
        frames / f64::from(self.sample_rate)
    }

    /// The peak in dB relative to full scale. `None` for digital silence.
    pub fn peak_dbfs(&self) -> Option<f64> {
        (self.peak > 0.0).then(|| 20.0 * self.peak.log10())
    }
}

// === impl Source ===

impl<R: Read> Source<R> {
    fn new(reader: R) -> Self {
        Self {
            inner: BufReader::with_capacity(64 * 1024, reader),
            position: 0,
            ended: false,
        }
    }

    /// What a failed read means, in a file that declares at least `declared` bytes.
    fn failure(&self, error: io::Error, declared: u64) -> AudioError {
        if self.ended {
            AudioError::Truncated {
                declared,
                actual: self.position,
            }
        } else {
            AudioError::Read { source: error }
        }
    }

    /// Reads on to the end of the file and returns its size.
    fn drain(&mut self) -> Result<u64, AudioError> {
        io::copy(self, &mut io::sink()).map_err(|source| AudioError::Read { source })?;
        Ok(self.position)
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // The decoder takes `Interrupted` for a failure.
        let count = loop {
            match self.inner.read(buf) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.ended |= count == 0 && !buf.is_empty();
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
