"""Features with labels of the real data, for the tests of the baselines."""

import csv
from functools import cache
from pathlib import Path

import numpy as np

from extract.audio import decode
from extract.embeddings.registry import build


def posteriors(real_data: Path, name: str, n_tags: int, count: int) -> tuple[np.ndarray, ...]:
    """(float32 `[clip, 50]` of one tagger, bool `[clip, tag]` by another one), random clips."""
    folder = real_data / "mtat_posteriors"
    features = np.load(folder / f"{name}.npy", allow_pickle=False)
    labels = np.load(folder / "mtat_musicnn.npy", allow_pickle=False)[:, :n_tags] > 0.3
    rows = np.random.default_rng(0).permutation(len(features))[:count]
    return features[rows], labels[rows]


@cache
def catalogue(real_data: Path) -> tuple[np.ndarray, np.ndarray]:
    """(float32 `[clip, 256]`, mean and deviation of log-mel frames; bool `[clip, 10]`), of every
    seventh excerpt of the catalogue.
    """
    with (real_data / "catalogue" / "tags.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = sorted({tag for row in rows for tag in row["tags"].split("|")})
    logmel, features = build("logmel"), []
    assert logmel.clip_frames is not None
    for row in rows[::7]:
        audio = decode(real_data / "catalogue" / "audio" / row["clip"], logmel.sample_rate)
        frames = logmel.clip_frames(audio)
        features.append(np.concatenate([frames.mean(axis=0), frames.std(axis=0)]))
    labels = [[tag in row["tags"].split("|") for tag in names] for row in rows[::7]]
    return np.array(features, np.float32), np.array(labels)
