"""A small catalogue to label: clips with features, files and tags that the features tell."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from extract.manifest import Manifest, write_manifest
from extract.store import open_store
from fsprobe.listening.judgements import Judgements
from fsprobe.listening.pool import pool_of
from fsprobe.review_page.desk import Desk
from fsprobe.tagger.matching import parts_of
from tests.support.fake_tagger import write_store


class Catalogue(NamedTuple):
    """truth: bool `[clip, tag]`, which nobody has told."""

    root: Path
    manifest: Manifest
    tags: tuple[str, ...]
    truth: np.ndarray


def make_catalogue(
    root: Path, clips: int = 60, tags: tuple[str, ...] = ("bright", "calm")
) -> Catalogue:
    """Below root: manifest.csv without a label, the store `mine`, and audio/ with a file of bytes
    per clip.
    """
    rng = np.random.default_rng(3)
    truth = rng.random((clips, len(tags))) < 0.4
    directions = 3 * rng.standard_normal((len(tags), 8))
    features = truth @ directions + rng.standard_normal((clips, 8))
    ids = tuple(f"c{row:03}" for row in range(clips))
    manifest = Manifest(
        ids, tuple(f"{clip}.wav" for clip in ids), ("train",) * clips, ((),) * clips
    )
    write_store(root / "mine", features, ids)
    write_manifest(root / "manifest.csv", manifest)
    (root / "audio").mkdir()
    for clip in ids:
        (root / "audio" / f"{clip}.wav").write_bytes(bytes(range(256)) * 8)
    return Catalogue(root, manifest, tags, truth)


def make_desk(catalogue: Catalogue, **more: Any) -> Desk:
    parts = parts_of({"mine": open_store(catalogue.root / "mine")}, "mine")
    labels = Judgements(catalogue.root / "labels.sqlite")
    pool = pool_of(catalogue.manifest, parts)
    return Desk(catalogue.manifest, pool, labels, list(catalogue.tags), "me", **more)
