//! The outline of a piece, small enough to send and to draw.

use std::fmt;

/// The lowest and the highest sample in each of [`Waveform::BUCKETS`] equal
/// stretches of time, over all channels.
///
/// Each stretch is two bytes, lowest first, each an `i8` in two's complement
/// from -127 (negative full scale) to 127. Samples beyond full scale are cut.
#[derive(Clone, PartialEq, Eq)]
pub struct Waveform(Vec<u8>);

/// A [`Waveform`] under way.
pub(super) struct Outline {
    frames: u64,
    /// Lowest and highest; the wrong way round where no sample came yet.
    buckets: Vec<(f64, f64)>,
}

// === impl Waveform ===

impl Waveform {
    /// How many stretches there are.
    pub const BUCKETS: usize = 400;

    /// Two bytes per stretch, as they are stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The lowest and the highest sample of each stretch.
    pub fn pairs(&self) -> impl Iterator<Item = (i8, i8)> {
        self.0
            .chunks_exact(2)
            .map(|pair| (pair[0].cast_signed(), pair[1].cast_signed()))
    }
}

impl fmt::Debug for Waveform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waveform({} stretches)", Self::BUCKETS)
    }
}

// === impl Outline ===

impl Outline {
    /// For a piece of `frames` frames, at least one.
    pub(super) fn new(frames: u64) -> Self {
        Self {
            frames,
            buckets: vec![(f64::INFINITY, f64::NEG_INFINITY); Waveform::BUCKETS],
        }
    }

    /// Adds a sample of frame `frame`, which lies within the piece.
    pub(super) fn add(&mut self, frame: u64, sample: f64) {
        let bucket = frame * Waveform::BUCKETS as u64 / self.frames;
        let bucket = usize::try_from(bucket).expect("less than BUCKETS");
        let (lowest, highest) = &mut self.buckets[bucket];
        *lowest = lowest.min(sample);
        *highest = highest.max(sample);
    }

    pub(super) fn finish(self) -> Waveform {
        let mut bytes = Vec::with_capacity(2 * Waveform::BUCKETS);
        let mut last = (0.0, 0.0);
        for (lowest, highest) in self.buckets {
            // A piece of fewer frames than stretches holds each frame until the next.
            if lowest <= highest {
                last = (lowest, highest);
            }
            bytes.extend([to_byte(last.0), to_byte(last.1)]);
        }
        Waveform(bytes)
    }
}

fn to_byte(sample: f64) -> u8 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "between -127 and 127 by the clamp"
    )]
    let level = (sample.clamp(-1.0, 1.0) * 127.0).round() as i8;
    level.cast_unsigned()
}
