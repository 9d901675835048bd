"""Embeddings for clusters, importable on their nodes, and a run on one as a process that a test may
kill.

python -m tests.support.ray_run ADDRESS AUDIO_ROOT STORE KIND SECONDS [to sleep per clip]
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from extract.embeddings import Embedding
from extract.manifest import Manifest
from extract.pipeline import batches
from extract.pipeline.extract_clips import RunConfig, extract_clips
from tests.support import fake_embedding

GROUP = 8


def means(samples: np.ndarray) -> np.ndarray:
    parts = np.array_split(samples, max(1, len(samples) // 1000))
    return np.stack([np.resize(part[:3], 3) for part in parts])


def by_clips() -> Embedding:
    return Embedding(name="toy", sample_rate=8000, dim=3, window=0.1, hop=0.1, clip_frames=means)


KINDS: dict[str, Callable[[], Embedding]] = {
    "by windows": fake_embedding.build,
    "by clips": by_clips,
}


@contextmanager
def small_groups() -> Iterator[None]:
    """So that a small corpus has many."""
    before, batches.GROUP = batches.GROUP, GROUP
    try:
        yield
    finally:
        batches.GROUP = before


def long_clips(root: Path, count: int, seconds: float) -> Manifest:
    """Clips of noise."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = tuple(f"l{i:02}" for i in range(count))
    for name in names:
        noise = 0.3 * rng.standard_normal(round(seconds * 8000)).astype(np.float32)
        soundfile.write(root / f"{name}.wav", noise, 8000)
    paths = tuple(f"{name}.wav" for name in names)
    return Manifest(names, paths, ("train",) * count, ((),) * count)


def slow_windows(audio: np.ndarray, pause: float) -> np.ndarray:
    time.sleep(pause)
    return fake_embedding.windows(audio)


def main() -> None:
    from extract.manifest import read_manifest
    from extract.storage import writer as store_writer

    address, root, store, kind, pause = sys.argv[1:]
    store_writer.COMMIT_SECONDS = 0.02
    embedding = KINDS[kind]()
    if embedding.windows is not None:
        embedding = replace(embedding, windows=partial(slow_windows, pause=float(pause)))
    with small_groups():
        extract_clips(
            read_manifest(Path(root) / "manifest.csv"),
            root,
            embedding,
            store,
            RunConfig(engine="ray", ray_address=address),
        )


if __name__ == "__main__":
    main()
