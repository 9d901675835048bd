"""A tiny corpus whose features say what its tags' words say, with vectors of the words."""

import json
from pathlib import Path

import numpy as np

from extract.manifest import Manifest, write_manifest
from fsprobe.config import GridConfig, SolverConfig, SweepConfig
from fsprobe.words.config import WordsConfig
from tests.support.tiny import write_store
from tests.support.word_data import word_data

NAMES = [
    "alpha",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliett",
    "kilo",
    "lima",
    "mike",
    "november",
    "oscar",
    "papa",
    "quebec",
    "romeo",
    "sierra",
    "alphas",
]
TAGS = len(NAMES)


def write_words(path: Path, tags: list[str], vectors: np.ndarray) -> Path:
    """A directory as extract.words writes it."""
    path.mkdir(parents=True)
    np.save(path / "vectors.npy", vectors.astype(np.float32))
    (path / "tags.txt").write_text("".join(f"{tag}\n" for tag in tags))
    (path / "words.json").write_text(json.dumps({"source": "made up"}))
    return path


def write_corpus(
    root: Path, clips: int = 240, first: int = 0, last: int = TAGS, noise: float = 0.5
) -> Path:
    """manifest.csv, store and words below root; half of the clips train. Tags of NAMES from `first`
    to `last` alone are listed; words are of all.
    """
    data = word_data(clips, tags=TAGS, noise=noise, seed=0)
    listed = [
        tuple(NAMES[tag] for tag in np.flatnonzero(row) if first <= tag < last)
        for row in data.labels
    ]
    splits = [("train", "train", "valid", "test")[i % 4] for i in range(clips)]
    ids = tuple(f"{first}-{i:03}" for i in range(clips))
    manifest = Manifest(ids, ("",) * clips, tuple(splits), tuple(listed))
    root.mkdir(parents=True, exist_ok=True)
    write_manifest(root / "manifest.csv", manifest)
    write_store(root / "store", ids, data.features)
    write_words(root / "words", NAMES, data.words)
    return root


def config(
    root: Path,
    out: str,
    k_shot: tuple[int | str, ...] = (0,),
    grid: dict[str, object] | None = None,
    solver: dict[str, object] | None = None,
    save_heads: bool = False,
    **words: object,
) -> SweepConfig:
    """A sweep of three seeds of 3 tags, with words."""
    sweeping = {"n_way": (3,), "num_seeds": 3, "tags": "all", "on_scarce": "fewer"} | (grid or {})
    return SweepConfig(
        manifest=str(root / "manifest.csv"),
        stores=(("store", str(root / "store")),),
        out=str(root / out),
        save_heads=save_heads,
        grid=GridConfig(k_shot=k_shot, **sweeping),  # type: ignore[arg-type]
        solver=SolverConfig(**({"name": "lbfgs"} | (solver or {}))),  # type: ignore[arg-type]
        words=WordsConfig(**({"directory": str(root / "words")} | words)),  # type: ignore[arg-type]
    )
