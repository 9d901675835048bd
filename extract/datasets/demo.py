"""The demo corpus: synthesised music whose tags are true by construction, so that a real pipeline
runs anywhere.

Labels first: every factor (an instrument, the tempo, the loudness, …) is dealt in exact proportion
within each split and shuffled by the seed, so that each tag has the same number of positives
whatever the seed. Then a clip is composed for its labels (key, chords, melody, levels at random)
and played by `extract.datasets.synth`. Beyond its own labels a clip's sound depends on nothing but
(seed, index).
"""

import io
import math
import os
import wave
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from extract.datasets.synth import INSTRUMENTS, SAMPLE_RATE, TAU, Note, Part, seconds
from extract.errors import InputError
from extract.files import made_whole, make_directory
from extract.manifest import Manifest

VERSION = 1  # of the sound: part of the folder's name, so that old audio is never taken for new
LENGTH = 4 * SAMPLE_RATE  # samples
DEMO_ROOT = "demo"  # where the audio goes if nothing else is said

# Share of the clips that carry a tag; the tags of one factor exclude each other.
FACTORS: tuple[Mapping[str, float], ...] = (
    {"synth": 0.42},
    {"drums": 0.40},
    {"guitar": 0.28},
    {"bass": 0.26},
    {"piano": 0.22},
    {"strings": 0.18},
    {"female voice": 0.14},
    {"male voice": 0.12},
    {"choir": 0.08},
    {"organ": 0.12},
    {"flute": 0.10},
    {"bells": 0.10},
    {"slow": 0.30, "fast": 0.22},
    {"loud": 0.18, "quiet": 0.16},
    {"minor": 0.24},
    {"arpeggio": 0.14, "drone": 0.08},
    {"echo": 0.12},
    {"noise": 0.10},
    {"distortion": 0.09},
)
VOICES = ("female voice", "male voice", "choir")  # a clip with one of them carries `voice` too
# Lowest MIDI pitch of each instrument's octave.
REGISTER = {
    "bass": 28,
    "guitar": 45,
    "piano": 52,
    "strings": 52,
    "organ": 48,
    "flute": 72,
    "bells": 66,
    "male voice": 43,
    "female voice": 57,
    "choir": 50,
    "synth": 48,
    "": 60,
}
CHORDAL = ("synth", "guitar", "piano", "strings", "organ")
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
PROGRESSION = (0, 3, 4, 5)  # the degrees whose triads a clip may visit


@dataclass(frozen=True)
class DemoConfig:
    """seed: of labels and sound. num_clips: 7 in 10 train, 1 in 10 valid, the rest test."""

    seed: int = 0
    num_clips: int = 640

    def __post_init__(self) -> None:
        if self.num_clips < 20:
            raise InputError(
                f"--num_clips={self.num_clips}: the demo corpus needs at least 20 clips"
            )
        if self.seed < 0:
            raise InputError(f"--seed={self.seed}: a seed is not negative")


def demo_manifest(config: DemoConfig) -> Manifest:
    """Ids, paths, splits and tags of the corpus; pure, no audio is made."""
    sizes = {"train": config.num_clips * 7 // 10, "valid": config.num_clips // 10}
    sizes["test"] = config.num_clips - sum(sizes.values())
    splits = tuple(split for split, size in sizes.items() for _ in range(size))
    tags = tuple(
        row
        for k, size in enumerate(sizes.values())
        for row in _deal_tags(size, np.random.default_rng([config.seed, k]))
    )
    folder = f"demo_v{VERSION}_seed{config.seed}_{config.num_clips}"
    ids = tuple(f"demo-{index:05d}" for index in range(config.num_clips))
    return Manifest(ids, tuple(f"{folder}/{clip_id}.wav" for clip_id in ids), splits, tags)


def write_demo(config: DemoConfig, audio_root: str | Path) -> Manifest:
    """Synthesise what is missing of the corpus below `audio_root` (16-bit wav); return its
    manifest.
    """
    manifest = demo_manifest(config)
    files = [Path(audio_root) / path for path in manifest.paths]
    size = len(encode_wav(np.zeros(LENGTH)))
    missing = [
        i for i, file in enumerate(files) if not (file.is_file() and file.stat().st_size == size)
    ]
    make_directory(files[0].parent)

    def work(index: int) -> None:
        rng = np.random.default_rng([config.seed, index, VERSION])
        with made_whole(files[index]) as scratch:
            scratch.write_bytes(encode_wav(synthesise(manifest.tags[index], rng)))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(work, missing)
        list(tqdm(made, "synthesise", len(missing), unit="clip", disable=None))
    return manifest


def _deal_tags(count: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """The tags of `count` clips: each tag on round(share · count) of them, at least one."""
    rows: list[list[str]] = [[] for _ in range(count)]
    for factor in FACTORS:
        order = iter(rng.permutation(count))
        for tag, share in factor.items():
            for _ in range(max(1, round(share * count))):
                rows[next(order)].append(tag)
    for row in rows:
        players = [tag for tag in row if tag in INSTRUMENTS]
        row += ["voice"] * bool(set(players) & set(VOICES)) + ["solo"] * (len(players) == 1)
    return [tuple(row) for row in rows]


def synthesise(tags: tuple[str, ...], rng: np.random.Generator) -> np.ndarray:
    """`[LENGTH]` in (-1, 1): a clip for which exactly these tags hold."""
    bpm = rng.uniform(
        *((52, 80) if "slow" in tags else (138, 190) if "fast" in tags else (90, 125))
    )
    beat = 60 / bpm * SAMPLE_RATE
    key, scale = int(rng.integers(12)), SCALES["minor" if "minor" in tags else "major"]
    # a chord lasts two beats, the first is the tonic
    chords = [0, *rng.choice(PROGRESSION, 8).tolist()]
    players = [tag for tag in tags if tag in INSTRUMENTS] or [""]
    lead = [player for player in players if player not in ("bass", "drums")]
    mix = np.zeros(LENGTH)
    for player in players:
        manner = "chords" if player in CHORDAL and rng.random() < 0.6 else "melody"
        if lead and player == lead[0]:  # a texture is the first pitched instrument's
            manner = next((tag for tag in ("arpeggio", "drone") if tag in tags), manner)
        manner = player if player in ("bass", "drums") else manner
        low = REGISTER.get(player, 48)
        part = _compose(manner, beat, low + (key - low) % 12, scale, chords, rng)
        played = INSTRUMENTS[player](part, LENGTH, rng)
        mix += played / (_rms(played) + 1e-9) * 10 ** (rng.uniform(-8, 0) / 20)
    if not lead and {"arpeggio", "drone"} & set(tags):  # nobody to play it: the untagged tone does
        manner = "arpeggio" if "arpeggio" in tags else "drone"
        mix += INSTRUMENTS[""](_compose(manner, beat, 60 + key, scale, chords, rng), LENGTH, rng)
    return _produce(mix, tags, rng)


def _compose(
    manner: str,
    beat: float,
    root: int,
    scale: tuple[int, ...],
    chords: list[int],
    rng: np.random.Generator,
) -> Part:
    """The notes of one player over the clip; `root` is the tonic's MIDI pitch, `beat` counts
    samples.
    """

    def pitch(degree: int) -> int:
        return root + 12 * (degree // 7) + scale[degree % 7]

    def grid(step: float) -> list[tuple[int, int, int]]:
        """(start, length, degree of the chord's root) of notes of `step` beats that fill the
        clip.
        """
        count = math.ceil(LENGTH / (step * beat))
        return [
            (int(i * step * beat), int(step * beat), chords[int(i * step / 2) % len(chords)])
            for i in range(count)
        ]

    if manner == "drone":
        return [Note(0, LENGTH, pitch(degree) - 12) for degree in (0, 4)]
    if manner == "drums":
        return [Note(start, length, 0) for start, length, _ in grid(0.5)]
    if manner == "bass":
        return [Note(start, length, pitch(chord % 5)) for start, length, chord in grid(1.0)]
    if manner == "arpeggio":
        return [
            Note(start, length, pitch(chord + (0, 2, 4, 7)[i % 4]))
            for i, (start, length, chord) in enumerate(grid(0.25))
        ]
    if manner == "chords":
        return [
            Note(start, length, pitch(chord + third))
            for start, length, chord in grid(float(rng.choice((1.0, 2.0))))
            for third in (0, 2, 4)
        ]
    part, start, degree = [], 0, int(rng.integers(0, 5))
    while start < LENGTH:
        length = int(beat * rng.choice((0.5, 1.0, 1.0, 2.0)))
        part.append(Note(start, length, pitch(degree)))
        start += length
        degree = int(np.clip(degree + rng.integers(-2, 3), -1, 8))
    return part


def _produce(mix: np.ndarray, tags: tuple[str, ...], rng: np.random.Generator) -> np.ndarray:
    """Effects and loudness; the level is the clip's RMS in dB below full scale."""
    mix = mix / (_rms(mix) + 1e-9)
    if "distortion" in tags:
        mix = np.tanh(rng.uniform(4, 10) * mix)
    if "echo" in tags:
        delay, dry = int(rng.uniform(0.22, 0.4) * SAMPLE_RATE), mix
        for tap in (1, 2, 3):
            mix = mix + 0.6**tap * np.pad(dry, (tap * delay, 0))[:LENGTH]
    if "noise" in tags:
        hiss = rng.standard_normal(LENGTH) * (
            1 + 0.3 * np.sin(TAU * rng.uniform(0.2, 1) * seconds(LENGTH))
        )
        mix = mix / _rms(mix) + rng.uniform(0.08, 0.3) * hiss
    level = rng.uniform(
        *((-14, -10) if "loud" in tags else (-36, -28) if "quiet" in tags else (-25, -17))
    )
    return np.tanh(mix / (_rms(mix) + 1e-9) * 10 ** (level / 20))


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(samples**2)))


def encode_wav(samples: np.ndarray) -> bytes:
    """`[sample]` in [-1, 1] as a mono 16-bit wav file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return buffer.getvalue()
