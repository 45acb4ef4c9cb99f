//! Adds samples up to what is known of the whole.

use ebur128::{EbuR128, Mode};

use super::container::Header;
use super::waveform::Outline;
use super::{Analysis, AudioError};

/// Frames handed to the loudness meter at once.
const BLOCK_FRAMES: usize = 4096;

pub(super) struct Meter {
    channels: u16,
    sample_rate: u32,
    /// Frames that are complete.
    frames: u64,
    /// Samples of the frame under way.
    within: u16,
    peak: f64,
    outline: Outline,
    loudness: EbuR128,
    block: Vec<f64>,
    block_len: usize,
}

// === impl Meter ===

impl Meter {
    pub(super) fn new(header: &Header) -> Self {
        let (channels, sample_rate) = (header.channels(), header.sample_rate());
        let block_len = BLOCK_FRAMES * usize::from(channels);
        Self {
            channels,
            sample_rate,
            frames: 0,
            within: 0,
            peak: 0.0,
            outline: Outline::new(header.frames()),
            loudness: EbuR128::new(channels.into(), sample_rate, Mode::I)
                .expect("the header allows fewer channels and rates than the meter takes"),
            block: Vec::with_capacity(block_len),
            block_len,
        }
    }

    /// Adds the next sample, channel by channel.
    pub(super) fn add(&mut self, sample: f64) -> Result<(), AudioError> {
        if !sample.is_finite() {
            return Err(AudioError::NotFinite { frame: self.frames });
        }
        self.peak = self.peak.max(sample.abs());
        self.outline.add(self.frames, sample);
        self.block.push(sample);
        if self.block.len() == self.block_len {
            self.measure_block();
        }
        self.within += 1;
        if self.within == self.channels {
            self.within = 0;
            self.frames += 1;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Analysis {
        self.measure_block();
        let loudness = self.loudness.loudness_global();
        Analysis {
            frames: self.frames,
            sample_rate: self.sample_rate,
            channels: self.channels,
            peak: self.peak,
            // Minus infinity where the gate let nothing through.
            loudness_lufs: loudness.ok().filter(|lufs| lufs.is_finite()),
            waveform: self.outline.finish(),
        }
    }

    fn measure_block(&mut self) {
        self.loudness
            .add_frames_f64(&self.block)
            .expect("a block holds whole frames");
        self.block.clear();
    }
}
