"""A tiny data set for tests: a manifest and stores with separable features, made in a moment."""

import json
from pathlib import Path

import numpy as np

from extract.manifest import Manifest, write_manifest


def manifest(num_clips: int = 120, num_tags: int = 6, seed: int = 0) -> Manifest:
    """Clips c000… with tags t0 (commonest) to t5, every third one valid or test."""
    rng = np.random.default_rng(seed)
    chance = np.linspace(0.5, 0.2, num_tags)
    tags = [
        tuple(f"t{i}" for i in range(num_tags) if rng.random() < chance[i])
        for _ in range(num_clips)
    ]
    splits = [("train", "train", "train", "valid", "test", "test")[i % 6] for i in range(num_clips)]
    return Manifest(
        tuple(f"c{i:03}" for i in range(num_clips)), ("",) * num_clips, tuple(splits), tuple(tags)
    )


def features(clips: Manifest, dim: int = 12, noise: float = 0.5, seed: int = 0) -> np.ndarray:
    """float32 `[clip, dim]`: a random direction per tag, summed over a clip's tags, plus noise."""
    rng = np.random.default_rng(seed)
    names = sorted({tag for tags in clips.tags for tag in tags})
    direction = dict(zip(names, rng.standard_normal((len(names), dim)), strict=True))
    clean = np.array([sum((direction[tag] for tag in tags), np.zeros(dim)) for tags in clips.tags])
    return (clean + noise * rng.standard_normal(clean.shape)).astype(np.float32)


def write_store(
    path: Path,
    clip_ids: tuple[str, ...],
    array: np.ndarray,
    status: np.ndarray | None = None,
    **more: object,
) -> Path:
    """A store as extract.import_arrays makes one, written by hand: its format is a contract. more:
    of store.json.
    """
    path.mkdir(parents=True)
    np.save(path / "features.npy", array)
    with np.errstate(invalid="ignore"):  # some tests plant an infinity
        centred = array - array.mean(axis=1, keepdims=True)
        np.save(
            path / "features_framenorm.npy",
            (centred / array.std(axis=1, keepdims=True)).astype(np.float32),
        )
    np.save(path / "status.npy", np.ones(len(array), np.uint8) if status is None else status)
    (path / "clip_ids.txt").write_text("".join(f"{clip}\n" for clip in clip_ids), "utf-8")
    (path / "failures.csv").write_text("clip_id,reason\n")
    meta = {
        "format_version": 1,
        "embedding": path.name,
        "dim": array.shape[1],
        "aggregation": "none",
        "provenance": {},
        "created": "2024-01-01T00:00:00Z",
        "checksums": {},
    }
    (path / "store.json").write_text(json.dumps(meta | more))
    return path


def write_data(root: Path, clips: Manifest | None = None) -> Manifest:
    """manifest.csv and the stores `good` (12 dimensions) and `poor` (5, noisier) below root."""
    clips = clips or manifest()
    write_manifest(root / "manifest.csv", clips)
    write_store(root / "good", clips.clip_ids, features(clips))
    write_store(root / "poor", clips.clip_ids, features(clips, dim=5, noise=2.0, seed=1))
    return clips
