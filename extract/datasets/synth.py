"""The sounds of the demo corpus: one small synthesiser per instrument, in NumPy.

A part is a list of notes; an instrument turns it into `[sample]` at `SAMPLE_RATE`, peak about 1.
The methods differ as their tags do: additive (organ, piano), plucked string after Karplus and
Strong 1983 (guitar), frequency modulation after Chowning 1973 (bells), filtered pulses (synth,
bass, strings), breath noise (flute), source and formant filter (voices), noise bursts (drums).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

SAMPLE_RATE = 16_000  # Hz
TAU = 2 * np.pi


class Note(NamedTuple):
    """start, length in samples; pitch in MIDI semitones (69 = 440 Hz)."""

    start: int
    length: int
    pitch: float


Part = list[Note]
Instrument = Callable[[Part, int, np.random.Generator], np.ndarray]

# Formant centres in Hz after Peterson and Barney 1952: a, e, i, o, u of men's voices.
VOWELS = {
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (270, 2290, 3010),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
}


def hertz(pitch: float) -> float:
    """Frequency in Hz of a MIDI pitch."""
    return 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)


def seconds(count: int) -> np.ndarray:
    """float64 `[count]`: the time of each sample."""
    return np.arange(count) / SAMPLE_RATE


def ramps(count: int, attack: float, release: float) -> np.ndarray:
    """`[count]`: a rise over `attack` seconds and a fall over `release` seconds, 1 between them."""
    position = np.arange(count)
    rise, fall = (max(time * SAMPLE_RATE, 1.0) for time in (attack, release))
    return np.clip(np.minimum(position / rise, (count - position) / fall), 0, 1)


def shape(wave: np.ndarray, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`wave` filtered in the frequency domain by `gain(frequency in Hz)`."""
    size = 1 << (len(wave) - 1).bit_length()
    spectrum = np.fft.rfft(wave, size) * gain(np.fft.rfftfreq(size, 1 / SAMPLE_RATE))
    return np.fft.irfft(spectrum, size)[: len(wave)]


def lowpass(cutoff: float) -> Callable[[np.ndarray], np.ndarray]:
    """Butterworth magnitude of order 2, cutoff in Hz."""
    return lambda frequency: 1 / np.sqrt(1 + (frequency / cutoff) ** 4)


def pulses(frequency: np.ndarray) -> np.ndarray:
    """Band-limited pulse train: the closed form of Σ_{k=1..M} cos(kφ), with M below Nyquist, scaled
    to peak 1.
    """
    phase = TAU * np.cumsum(frequency) / SAMPLE_RATE
    count = int(0.45 * SAMPLE_RATE / frequency.max())
    half = np.sin(phase / 2)
    safe = np.where(np.abs(half) < 1e-6, 1.0, half)
    total = np.where(np.abs(half) < 1e-6, count, np.sin((count + 0.5) * phase) / (2 * safe) - 0.5)
    return total / count


def per_note(
    sound: Callable[[float, np.ndarray, np.random.Generator], np.ndarray],
    attack: float,
    release: float,
) -> Instrument:
    """An instrument from a function (Hz, time of each sample, generator) → `[sample]` of one note.
    attack, release: as of `ramps`.
    """

    def render(part: Part, count: int, rng: np.random.Generator) -> np.ndarray:
        out = np.zeros(count)
        for note in part:
            length = min(note.length, count - note.start)
            if length > 0:
                wave = sound(hertz(note.pitch), seconds(length), rng)
                out[note.start : note.start + length] += wave * ramps(length, attack, release)
        return out

    return render


def _organ(f0: float, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    phase = TAU * f0 * time
    drawbars = {0.5: 0.6, 1: 1.0, 1.5: 0.4, 2: 0.7, 3: 0.4, 4: 0.4, 6: 0.2, 8: 0.2}
    wave = sum(
        level * np.sin(ratio * phase) for ratio, level in drawbars.items() if ratio * f0 < 7500
    )
    return np.asarray(wave) / 3


def _piano(f0: float, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    wave = np.zeros_like(time)
    for k in range(1, 9):
        frequency = k * f0 * np.sqrt(1 + 4e-4 * k * k)  # stiff strings are sharp
        if frequency < 7500:
            wave += np.sin(TAU * frequency * time) * np.exp(-time * (1.2 + 0.9 * k)) / k**1.2
    return wave / 1.6


def _guitar(f0: float, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    period = max(2, round(SAMPLE_RATE / f0 - 0.5))
    rows = np.empty((-(-len(time) // period), period))
    rows[0] = rng.uniform(-1, 1, period)
    for row in range(1, len(rows)):
        rows[row] = 0.498 * (rows[row - 1] + np.roll(rows[row - 1], 1))
    return rows.ravel()[: len(time)]


def _bells(f0: float, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    index = 4 * np.exp(-3 * time)
    carrier = np.sin(TAU * f0 * time + index * np.sin(TAU * 1.4 * f0 * time))
    return carrier * np.exp(-2.5 * time)


def _flute(f0: float, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    phase = TAU * f0 * time + 0.6 * np.sin(TAU * 5 * time)
    breath = shape(rng.standard_normal(len(time)), lambda f: np.exp(-(((f - 2 * f0) / f0) ** 2)))
    return (np.sin(phase) + 0.15 * np.sin(2 * phase) + 0.25 * breath) / 1.3


def _synth(f0: float, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    detuned = pulses(f0 * 1.004 * np.ones_like(time)) + pulses(f0 * 0.996 * np.ones_like(time))
    dark, bright = (shape(detuned, lowpass(cutoff)) for cutoff in (500.0, 3000.0))
    return dark + np.exp(-4 * time) * bright


def _strings(f0: float, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    wave = np.zeros_like(time)
    for detune in (0.997, 1.0, 1.003):
        vibrato = 1 + 0.006 * np.sin(TAU * rng.uniform(4.5, 6) * time + rng.uniform(0, TAU))
        wave += pulses(f0 * detune * vibrato)
    return shape(wave, lambda f: f0 / np.maximum(f, f0)) * 1.5  # a saw


def _bass(f0: float, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    plucked = shape(pulses(f0 * np.ones_like(time)), lowpass(300.0))
    return 2.5 * plucked * np.exp(-2 * time)


def _tone(f0: float, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.sin(TAU * f0 * time)


def voice(formant_scale: float, singers: int) -> Instrument:
    """Glottal pulses through two vowels that fade into each other; female formants lie about 1.17
    times higher.
    """

    def sound(f0: float, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        source = np.zeros_like(time)
        for _ in range(singers):
            detune = 1 + 0.01 * rng.standard_normal() * (singers > 1)
            vibrato = 1 + 0.012 * np.sin(TAU * rng.uniform(4.8, 6.2) * time + rng.uniform(0, TAU))
            source += pulses(f0 * detune * vibrato)
        source /= np.sqrt(singers)

        def formants(name: str) -> Callable[[np.ndarray], np.ndarray]:
            centres = formant_scale * np.array(VOWELS[name])
            return lambda f: sum(
                level / np.sqrt(1 + ((f - centre) / 70) ** 2)
                for centre, level in zip(centres, (1.0, 0.5, 0.25), strict=True)
            )

        fade = np.linspace(0, 1, len(time))
        before, after = (shape(source, formants(name)) for name in rng.choice(list(VOWELS), 2))
        return 4 * ((1 - fade) * before + fade * after)

    return per_note(sound, 0.05, 0.08)


def drums(part: Part, count: int, rng: np.random.Generator) -> np.ndarray:
    """Kick, hat, snare, hat, … on the notes' starts; pitches are ignored."""
    out = np.zeros(count)
    for beat, note in enumerate(part):
        time = seconds(min(int(0.2 * SAMPLE_RATE), count - note.start))
        noise = rng.standard_normal(len(time))
        if beat % 4 == 0:
            hit = np.sin(TAU * (50 * time - 6 * np.exp(-30 * time))) * np.exp(-14 * time)
        elif beat % 4 == 2:
            hit = (0.35 * noise + 0.5 * np.sin(TAU * 190 * time)) * np.exp(-22 * time)
        else:
            hit = 0.3 * np.diff(noise, prepend=0) * np.exp(-60 * time)
        out[note.start : note.start + len(time)] += hit
    return out


INSTRUMENTS: dict[str, Instrument] = {
    "synth": per_note(_synth, 0.01, 0.05),
    "guitar": per_note(_guitar, 0.001, 0.03),
    "piano": per_note(_piano, 0.003, 0.05),
    "strings": per_note(_strings, 0.15, 0.12),
    "organ": per_note(_organ, 0.01, 0.03),
    "flute": per_note(_flute, 0.06, 0.06),
    "bells": per_note(_bells, 0.002, 0.05),
    "bass": per_note(_bass, 0.005, 0.04),
    "drums": drums,
    "male voice": voice(1.0, 1),
    "female voice": voice(1.17, 1),
    "choir": voice(1.08, 4),
    "": per_note(_tone, 0.02, 0.05),
}
