//! The chunks of a WAV, and whether their lengths are true.
//!
//! The decoder wants a plain file: it does not skip the padding behind an odd
//! chunk, and takes a header's lengths as they are. So the chunks are walked
//! here, against the size of the RIFF chunk and the end of the file, and the
//! decoder gets a [canonical](Header::canonical) header in front of the samples.

use std::io::{self, Read};

use super::{AudioError, SNIFF_BYTES, Source, sniff};

const PCM: u16 = 0x0001;
const FLOAT: u16 = 0x0003;
const EXTENSIBLE: u16 = 0xfffe;

const MAX_CHANNELS: u16 = 8;
const SAMPLE_RATES: std::ops::RangeInclusive<u32> = 8_000..=192_000;
/// The loudness meter keeps 8 bytes for each 100 ms; this bounds them to 7 MB.
const MAX_SECONDS: u64 = 24 * 60 * 60;

/// Everything in front of the samples, checked.
#[derive(Debug)]
pub(super) struct Header {
    format: Format,
    data_len: u32,
    data_end: u64,
    riff_end: u64,
}

/// The `fmt ` chunk.
#[derive(Clone, Debug)]
struct Format {
    /// As in the file, without what the format's tag makes meaningless.
    bytes: Vec<u8>,
    channels: u16,
    sample_rate: u32,
    block_align: u16,
}

struct Chunk {
    name: [u8; 4],
    len: u32,
    /// Where its content ends in the file.
    end: u64,
}

// === impl Header ===

impl Header {
    /// Reads up to the first sample.
    pub(super) fn read<R: Read>(source: &mut Source<R>) -> Result<Self, AudioError> {
        let mut magic = [0; SNIFF_BYTES];
        source
            .read_exact(&mut magic)
            .map_err(|error| match source.failure(error, 0) {
                AudioError::Truncated { .. } => AudioError::NotWav,
                other => other,
            })?;
        sniff(&magic)?;
        let riff_end = 8 + u64::from(u32_at(&magic, 4));

        let mut format = None;
        loop {
            let Some(chunk) = Chunk::read(source, riff_end)? else {
                return malformed("it has no data chunk");
            };
            match &chunk.name {
                b"fmt " if format.is_some() => return malformed("it has two fmt chunks"),
                b"fmt " => format = Some(Format::read(source, &chunk, riff_end)?),
                b"data" => {
                    let Some(format) = format else {
                        return malformed("its data chunk comes before its fmt chunk");
                    };
                    return Self::new(format, &chunk, riff_end);
                }
                _ => chunk.skip(source, riff_end)?,
            }
        }
    }

    fn new(format: Format, data: &Chunk, riff_end: u64) -> Result<Self, AudioError> {
        if data.len == 0 {
            return Err(AudioError::Empty);
        }
        if !data.len.is_multiple_of(format.block_align.into()) {
            return malformed("its data chunk ends within a frame");
        }
        let header = Self {
            format,
            data_len: data.len,
            data_end: data.end,
            riff_end,
        };
        let seconds = header.frames() / u64::from(header.sample_rate());
        if seconds > MAX_SECONDS {
            return unsupported("a length in seconds of", seconds);
        }
        Ok(header)
    }

    /// Reads from the last sample to the end of the file.
    pub(super) fn read_rest<R: Read>(&self, source: &mut Source<R>) -> Result<(), AudioError> {
        skip_padding(source, self.data_len, self.riff_end)?;
        while let Some(chunk) = Chunk::read(source, self.riff_end)? {
            if &chunk.name == b"data" {
                return malformed("it has two data chunks");
            }
            chunk.skip(source, self.riff_end)?;
        }
        // Some writers leave the last padding byte out of the RIFF chunk's size.
        if source.drain()? > self.riff_end + 1 {
            return malformed("it goes on after the end that it declares");
        }
        Ok(())
    }

    /// A header for the decoder: the format and the samples' length, nothing else.
    pub(super) fn canonical(&self) -> Vec<u8> {
        let format = &self.format.bytes;
        let format_len = u32::try_from(format.len()).expect("16 or 40 bytes");
        let mut header = Vec::with_capacity(28 + format.len());
        header.extend(b"RIFF");
        // The decoder does not look at it, and it need not fit.
        header.extend(u32::MAX.to_le_bytes());
        header.extend(b"WAVEfmt ");
        header.extend(format_len.to_le_bytes());
        header.extend(format);
        header.extend(b"data");
        header.extend(self.data_len.to_le_bytes());
        header
    }

    pub(super) fn frames(&self) -> u64 {
        u64::from(self.data_len / u32::from(self.format.block_align))
    }

    pub(super) fn channels(&self) -> u16 {
        self.format.channels
    }

    pub(super) fn sample_rate(&self) -> u32 {
        self.format.sample_rate
    }

    pub(super) fn data_len(&self) -> u32 {
        self.data_len
    }

    pub(super) fn data_end(&self) -> u64 {
        self.data_end
    }
}

// === impl Format ===

impl Format {
    fn read<R: Read>(
        source: &mut Source<R>,
        chunk: &Chunk,
        riff_end: u64,
    ) -> Result<Self, AudioError> {
        let mut bytes = Vec::with_capacity(40);
        source
            .by_ref()
            .take(chunk.len.min(40).into())
            .read_to_end(&mut bytes)
            .map_err(|source| AudioError::Read { source })?;
        chunk.skip(source, riff_end)?;
        if bytes.len() < 16 {
            return malformed("its fmt chunk is too short");
        }

        match u16_at(&bytes, 0) {
            // Extension fields that these formats say to ignore.
            PCM | FLOAT => bytes.truncate(16),
            EXTENSIBLE if bytes.len() < 40 => return malformed("its fmt chunk is too short"),
            EXTENSIBLE => {}
            tag => return unsupported("a format tag of", tag.into()),
        }
        let format = Self {
            channels: u16_at(&bytes, 2),
            sample_rate: u32_at(&bytes, 4),
            block_align: u16_at(&bytes, 12),
            bytes,
        };
        format.check()?;
        Ok(format)
    }

    fn check(&self) -> Result<(), AudioError> {
        let bits = u16_at(&self.bytes, 14);
        if !(1..=MAX_CHANNELS).contains(&self.channels) {
            return unsupported("a channel count of", self.channels.into());
        }
        if !SAMPLE_RATES.contains(&self.sample_rate) {
            return unsupported("a sample rate of", self.sample_rate.into());
        }
        if !matches!(bits, 8 | 16 | 24 | 32) {
            return unsupported("a sample size in bits of", bits.into());
        }
        // 24 bits may stand in 3 bytes or in 4; the decoder divides and ignores the rest.
        let sample_bytes = self.block_align / self.channels;
        if !self.block_align.is_multiple_of(self.channels)
            || !(bits / 8..=4).contains(&sample_bytes)
        {
            return malformed("its block align does not fit its channels and sample size");
        }
        Ok(())
    }
}

// === impl Chunk ===

impl Chunk {
    /// Reads the next chunk's header; `None` at the end of the RIFF chunk.
    fn read<R: Read>(source: &mut Source<R>, riff_end: u64) -> Result<Option<Self>, AudioError> {
        match riff_end.checked_sub(source.position) {
            Some(0) => return Ok(None),
            Some(8..) => {}
            _ => return malformed("the end that it declares lies within a header"),
        }
        let mut header = [0; 8];
        source
            .read_exact(&mut header)
            .map_err(|error| source.failure(error, riff_end))?;
        let [name @ .., _, _, _, _] = header;
        let len = u32_at(&header, 4);
        let end = source.position + u64::from(len);
        if end > riff_end {
            // Which of the two lengths is the lie? The file's end tells.
            let actual = source.drain()?;
            if actual < end {
                let declared = end;
                return Err(AudioError::Truncated { declared, actual });
            }
            return malformed("a chunk reaches past the end that the file declares");
        }
        if !name.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            return malformed("there are bytes between its chunks");
        }
        Ok(Some(Self { name, len, end }))
    }

    /// Reads what is left of the content, and the padding.
    fn skip<R: Read>(&self, source: &mut Source<R>, riff_end: u64) -> Result<(), AudioError> {
        let left = self.end - source.position;
        io::copy(&mut source.by_ref().take(left), &mut io::sink())
            .map_err(|source| AudioError::Read { source })?;
        if source.position < self.end {
            return Err(AudioError::Truncated {
                declared: riff_end,
                actual: source.position,
            });
        }
        skip_padding(source, self.len, riff_end)
    }
}

/// Steps over the byte that makes an odd chunk even. The last chunk may lack it.
fn skip_padding<R: Read>(
    source: &mut Source<R>,
    len: u32,
    riff_end: u64,
) -> Result<(), AudioError> {
    if len % 2 == 1 && source.position < riff_end {
        source
            .read_exact(&mut [0])
            .map_err(|error| source.failure(error, riff_end))?;
    }
    Ok(())
}

fn malformed<T>(reason: &'static str) -> Result<T, AudioError> {
    Err(AudioError::Malformed { reason })
}

fn unsupported<T>(field: &'static str, value: u64) -> Result<T, AudioError> {
    Err(AudioError::Unsupported { field, value })
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}
