"""Taggers and stores for tests, without training."""

import json
from pathlib import Path

import numpy as np

from extract.store import open_store
from fsprobe.tagger.matching import Part, parts_of, source_of
from fsprobe.tagger.tagger import Tagger

HOSTILE = (
    'say "hi"',
    "two\nlines",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "a,b;c\td",
    "C:\\con",
    "CON",
    "rock & röck | roll",
    "=1+1",
    "  spaced  ",
)


def write_store(
    path: Path,
    features: np.ndarray,
    clip_ids: tuple[str, ...] = (),
    status: np.ndarray | None = None,
    **meta: object,
) -> Path:
    """A store written by hand, as its contract says."""
    path.mkdir(parents=True)
    count = len(features)
    np.save(path / "features.npy", features.astype(np.float32))
    np.save(path / "features_framenorm.npy", -features.astype(np.float32))
    np.save(path / "status.npy", np.ones(count, np.uint8) if status is None else status)
    ids = clip_ids or tuple(f"c{row:04}" for row in range(count))
    (path / "clip_ids.txt").write_text("".join(f"{clip}\n" for clip in ids), "utf-8")
    (path / "failures.csv").write_text("clip_id,reason\n")
    known = {
        "format_version": 1,
        "embedding": path.name,
        "dim": features.shape[1],
        "aggregation": "none",
        "provenance": {},
        "created": "2026-01-01T00:00:00Z",
        "checksums": {},
    }
    (path / "store.json").write_text(json.dumps(known | meta))
    return path


def make(path: Path, tags: tuple[str, ...] = ("a", "b", "c"), clips: int = 50, dim: int = 7):
    """(tagger, parts) with random rows over a store of random features at `path`."""
    rng = np.random.default_rng(5)
    store = open_store(write_store(path, rng.standard_normal((clips, dim))))
    parts = parts_of({path.name: store}, path.name)
    return random_tagger(tags, parts), parts


def random_tagger(tags: tuple[str, ...], parts: list[Part], **fields: object) -> Tagger:
    rng = np.random.default_rng(6)
    count, dim = len(tags), sum(part.width for part in parts)
    known = {
        "tags": tags,
        "kernel": rng.standard_normal((count, dim)).astype(np.float32),
        "bias": rng.standard_normal(count).astype(np.float32),
        "calibration": np.stack(
            [rng.uniform(0.5, 2, count), rng.standard_normal(count)], axis=1
        ).astype(np.float32),
        "threshold": rng.uniform(0.3, 0.7, count).astype(np.float32),
        "embedding": "+".join(part.name for part in parts),
        "sources": tuple(source_of(part) for part in parts),
        "training": {tag: {"positives": 3} for tag in tags},
    }
    return Tagger(**(known | fields))
