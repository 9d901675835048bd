"""The embedding models, one module each, behind one small interface; `extract.run` picks one by
name.

A module defines `build(**options) -> Embedding`. Heavy imports stay inside the module, so that
asking for `logmel` never loads JAX and asking for `vggish` never loads librosa.

There are two ways to produce frames, and an Embedding offers exactly one of them:
- `clip_frames`: a plain function of one decoded clip, run in the decoding worker processes (logmel)
  or, where `in_workers` is False, in the main process (the reference packages);
- `windows` and `embed`: the clip is cut into windows of equal length on the host, and windows of
  many clips are embedded together in one jitted batch, one frame per window (the pretrained models
  in JAX).
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from extract.errors import InputError

NAMES = ("logmel", "vggish", "openl3", "passt")


@dataclass(frozen=True)
class Embedding:
    """How to turn audio into frames.

    sample_rate in Hz. dim: values per frame. window, hop in seconds, as recorded in store.json.
    windows: float32 `[sample]`, any length ≥ 1 → float32 `[window, sample]`, at least one window.
    embed: (params, `[batch, sample]`) → `[batch, dim]`, pure and jittable. clip_frames: float32
    `[sample]` → float32 `[frame, dim]`, at least one frame. provenance: package, version, weights
    file name and SHA-256, variant: whatever defines the numbers.
    """

    name: str
    sample_rate: int
    dim: int
    window: float
    hop: float
    clip_frames: Callable[[np.ndarray], np.ndarray] | None = None
    in_workers: bool = True
    windows: Callable[[np.ndarray], np.ndarray] | None = None
    embed: Callable[[Any, Any], Any] | None = None
    params: Any = None
    batch_size: int = 64
    provenance: Mapping[str, Any] = field(default_factory=dict)


def build(name: str, **options: Any) -> Embedding:
    """The embedding of that name. Raises InputError if there is none, or if a library that it needs
    is missing.
    """
    if name not in NAMES:
        raise InputError(f"unknown embedding {name!r}; there are {', '.join(NAMES)}")
    try:
        embedding: Embedding = importlib.import_module(f"extract.embeddings.{name}").build(
            **options
        )
    except ModuleNotFoundError as error:
        raise InputError(
            f"{error}; embedding {name} needs: pip install 'fsprobe[extract]'"
        ) from error
    return embedding
