"""Taggers and stores for tests, without training."""

from pathlib import Path

import numpy as np

from extract.store import open_store
from fsprobe.tagger.matching import Part, parts_of, source_of
from fsprobe.tagger.tagger import Tagger
from tests.support import tiny

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
    """A store whose framenorm array is the negated features."""
    array = features.astype(np.float32)
    ids = clip_ids or tuple(f"c{row:04}" for row in range(len(array)))
    tiny.write_store(path, ids, array, status, **meta)
    np.save(path / "features_framenorm.npy", -array)
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
