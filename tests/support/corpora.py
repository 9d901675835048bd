"""Small folders of audio, and what a store of one holds."""

import csv
from pathlib import Path

import numpy as np
import soundfile

from extract.manifest import Manifest, write_manifest
from extract.store import AUDIO_ARRAYS

ARRAYS = (
    *("features.npy", "features_framenorm.npy", "status.npy", "frames.npy", "frame_offsets.npy"),
    *(f"{name}.npy" for name in AUDIO_ARRAYS if name != "source"),  # which has the file's time
)


def make_corpus(root: Path, clips: int, rate: int = 8000) -> Manifest:
    """Clips of noise, 0.02 s to 1 s, every ninth a broken file; manifest.csv beside them."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True, exist_ok=True)
    names = [f"c{i:03}" for i in range(clips)]
    for i, name in enumerate(names):
        samples = 0.3 * rng.standard_normal(rng.integers(rate // 50, rate))
        soundfile.write(root / f"{name}.wav", samples, rate)
        if i % 9 == 4:
            (root / f"{name}.wav").write_bytes(b"" if i % 2 else b"broken" * 50)
    manifest = Manifest(
        tuple(names), tuple(f"{name}.wav" for name in names), ("train",) * clips, ((),) * clips
    )
    write_manifest(root / "manifest.csv", manifest)
    return manifest


def contents(path: Path) -> dict[str, bytes]:
    return {
        name: (path / name).read_bytes()
        for name in (*ARRAYS, "failures.csv", "notes.csv", "paths.txt")
        if (path / name).exists()
    }


def failures(path: Path) -> dict[str, str]:
    with (path / "failures.csv").open() as file:
        return {row["clip_id"]: row["reason"] for row in csv.DictReader(file)}
