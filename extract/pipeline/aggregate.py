"""Frames of a clip → the two rows of a store. Sums run in float64 over blocks that start at the
clip's first frame, so a row does not depend on how frames were batched.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from extract.pipeline.workers import Result
from extract.storage.files import AudioRecord

_BLOCK = 4096  # frames


def standardise(rows: np.ndarray) -> np.ndarray:
    """float32 `[row, dim]` → float64, each row with mean 0 and population variance 1; a constant
    row → zeros.
    """
    centred = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)
    deviation = np.sqrt(np.mean(centred**2, axis=1, keepdims=True))
    return np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)


def mean_std(
    frames: np.ndarray,
    transform: Callable[[np.ndarray], np.ndarray] = lambda block: block.astype(np.float64),
) -> np.ndarray:
    """`[frame, dim]` → float32 `[2*dim]`: mean, then population standard deviation, of
    transform(frames).
    """

    def total(function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        return sum(
            function(transform(frames[start : start + _BLOCK])).sum(axis=0)
            for start in range(0, len(frames), _BLOCK)
        ) / len(frames)

    mean = total(lambda block: block)
    variance = total(lambda block: (block - mean) ** 2)  # a second pass: E[x²] − E[x]² cancels
    return np.concatenate([mean, np.sqrt(variance)]).astype(np.float32)


def summarise(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A clip's rows of `features` and `features_framenorm` from its frames `[frame, dim]`."""
    return mean_std(frames), mean_std(frames, standardise)


class StoreRow(NamedTuple):
    """A clip's row of one store. features, framenorm: float32 `[2*width]`. frames: float16 `[frame,
    width]` where they are kept.
    """

    features: np.ndarray
    framenorm: np.ndarray
    frames: np.ndarray | None


class Extracted(NamedTuple):
    """A clip on its way into the stores. rows: one per store, or the reason why there is none.
    audio: what they were made from.
    """

    rows: tuple[StoreRow | str, ...]
    audio: AudioRecord


@dataclass(frozen=True)
class Summariser:
    """Frames `[frame, width of all stores]` → a clip's rows. widths: of the stores, in order."""

    widths: tuple[int, ...]
    keep_frames: bool = False

    def __call__(self, result: Result) -> Extracted:
        if result.array is None:
            return Extracted((result.reason,) * len(self.widths), result.audio)
        parts = np.split(result.array, np.cumsum(self.widths)[:-1], axis=1)
        return Extracted(tuple(self._row(part) for part in parts), result.audio)

    def _row(self, frames: np.ndarray) -> StoreRow | str:
        if not np.isfinite(frames).all():
            return "the embedding is NaN or Inf"
        kept = None
        if self.keep_frames:
            with np.errstate(over="ignore"):
                kept = frames.astype(np.float16)
            if not np.isfinite(kept).all():
                return "a frame is beyond float16; extract without --keep_frames"
        return StoreRow(*summarise(frames), kept)
