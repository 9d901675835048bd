"""What a model gives the pipeline: an Embedding.

There are two ways to produce frames, and an Embedding offers exactly one of them:
- `clip_frames`: a plain function of one decoded clip, run in the decoding worker processes (logmel)
  or, where `in_workers` is False, in the main process (the reference packages);
- `windows` and `embed`: the clip is cut into windows of equal length on the host, and windows of
  many clips are embedded together in one jitted batch, one frame per window (the pretrained models
  in JAX).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class Layer(NamedTuple):
    """A part of every frame that goes into a store of its own. provenance: what that store records
    beside the embedding's.
    """

    name: str
    width: int
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class Embedding:
    """How to turn audio into frames.

    sample_rate in Hz. dim: values per frame. window, hop in seconds, as recorded in store.json.
    windows: float32 `[sample]`, any length ≥ 1 → float32 `[window, sample]`, at least one window;
    raises InputError, which fails the clip, where they would take too much memory.
    embed: (params, `[batch, sample]`) → `[batch, dim]`, pure and jittable. clip_frames: float32
    `[sample]` → float32 `[frame, dim]`, at least one frame. provenance: package, version, weights
    file name and SHA-256, variant: whatever defines the numbers.

    layers: the parts of a frame, side by side, where they go into stores of their own; empty where
    a frame goes into one store. trained_on, trained_tags: the data set whose tags the weights have
    seen, which makes a few-shot result on it worthless, and those tags. refused_on: platform, as
    JAX names it → why the options that were given are refused there.
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
    layers: tuple[Layer, ...] = ()
    trained_on: str = ""
    trained_tags: tuple[str, ...] = ()
    refused_on: Mapping[str, str] = field(default_factory=dict)
