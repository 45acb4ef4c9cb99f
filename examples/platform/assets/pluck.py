#!/usr/bin/env python3
"""Writes pluck.wav: 3.2 s of plucked chords, 44.1 kHz, 16 bit, stereo.

    python3 pluck.py pluck.wav

Karplus-Strong strings: a burst of noise runs around a delay line that averages
its neighbours, so high partials die first, as on a guitar. The noise comes from
a linear congruential generator with a fixed seed and the samples from sums and
products alone, so every run on every machine writes the same bytes.

Python's standard library only. CC0-1.0, see README.md.
"""

import struct
import sys
import wave

RATE = 44_100
FRAMES = RATE * 16 // 5  # 3.2 s

# (start in ms, MIDI note, loudness 0..1, place 0 = left .. 1 = right)
NOTES = [
    # A minor, broken from the bass up, so soft that EBU R 128 gates it out.
    (0, 45, 0.060, 0.50), (70, 52, 0.050, 0.35), (140, 57, 0.050, 0.65),
    (210, 60, 0.056, 0.25), (280, 64, 0.060, 0.75),
    # F major, a little louder.
    (800, 41, 0.45, 0.50), (850, 53, 0.38, 0.30), (900, 57, 0.38, 0.70),
    (950, 60, 0.40, 0.20), (1000, 65, 0.42, 0.80),
    # C major, struck at once: the loudest moment.
    (1550, 48, 0.85, 0.45), (1556, 55, 0.80, 0.25), (1562, 60, 0.80, 0.75),
    (1568, 64, 0.85, 0.15), (1574, 67, 0.90, 0.85),
    # G, falling away on the left, with one late high note on the right.
    (2250, 43, 0.40, 0.40), (2320, 55, 0.22, 0.20), (2390, 59, 0.16, 0.15),
    (2460, 62, 0.12, 0.10), (2700, 79, 0.20, 0.95),
]


def noise(seed):
    """White noise in -1..1 from a linear congruential generator."""
    state = seed
    while True:
        state = (state * 1_103_515_245 + 12_345) & 0x7FFF_FFFF
        yield (state >> 8) / float(1 << 22) - 1.0


def string(note, frames, seed):
    """One plucked string as a list of samples."""
    length = round(RATE / (440.0 * 2.0 ** ((note - 69) / 12.0)))
    source = noise(seed)
    line = [next(source) for _ in range(length)]
    # A soft pick: the burst is smoothed once before it starts to run.
    line = [(line[i] + line[i - 1]) * 0.5 for i in range(length)]
    # The loop would keep the burst's mean far longer than its tone.
    mean = sum(line) / length
    line = [sample - mean for sample in line]
    out = []
    for i in range(frames):
        at = i % length
        sample = line[at]
        line[at] = (sample + line[(at + 1) % length]) * 0.4985
        out.append(sample)
    return out


def mix():
    """All notes, as two lists of samples."""
    left, right = [0.0] * FRAMES, [0.0] * FRAMES
    for index, (start_ms, note, loudness, place) in enumerate(NOTES):
        start = start_ms * RATE // 1000
        for i, sample in enumerate(string(note, FRAMES - start, 7_919 * (index + 1))):
            left[start + i] += sample * loudness * (1.0 - place)
            right[start + i] += sample * loudness * place
    fade = RATE // 5
    for i in range(fade):
        left[FRAMES - 1 - i] *= i / fade
        right[FRAMES - 1 - i] *= i / fade
    return left, right


def main(path):
    left, right = mix()
    with wave.open(path, "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(RATE)
        pcm = bytearray()
        for pair in zip(left, right):
            for sample in pair:
                value = int(sample * GAIN * 32_767.0)
                if not -32_768 <= value <= 32_767:
                    sys.exit("the mix clips: lower GAIN")
                pcm += struct.pack("<h", value)
        out.writeframes(bytes(pcm))


GAIN = 0.6

if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) == 2 else sys.exit(__doc__))
