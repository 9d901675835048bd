"""Frames of a clip → the two rows of a store. Sums run in float64 over blocks that start at the
clip's first frame, so a row does not depend on how frames were batched.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
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
    width]` where they are kept. reason: why the frames are of no use, or empty.
    """

    features: np.ndarray
    framenorm: np.ndarray
    frames: np.ndarray | None = None
    reason: str = ""


class Extracted(NamedTuple):
    """A clip on its way into the stores. rows: one per store; none, for `reason`, where its audio
    gave no frames. audio: what it was made from.
    """

    rows: tuple[StoreRow, ...]
    reason: str = ""
    audio: AudioRecord = AudioRecord()


@dataclass(frozen=True)
class Summariser:
    """Frames `[frame, width of all stores]` → a clip's rows. widths: of the stores, in order."""

    widths: tuple[int, ...]
    keep_frames: bool = False

    def __call__(self, result: Result) -> Extracted:
        if result.array is None:
            return Extracted((), result.reason, result.audio)
        ends = np.cumsum(self.widths).tolist()
        parts = [
            self._row(result.array[:, end - width : end])
            for width, end in zip(self.widths, ends, strict=True)
        ]
        return Extracted(tuple(parts), "", result.audio)

    def _row(self, frames: np.ndarray) -> StoreRow:
        nothing = np.zeros(0, np.float32)
        kept = None
        if self.keep_frames:
            with np.errstate(over="ignore"):
                kept = frames.astype(np.float16)
        if not np.isfinite(frames).all():
            return StoreRow(nothing, nothing, None, "the embedding is NaN or Inf")
        if kept is not None and not np.isfinite(kept).all():
            reason = "a frame is beyond float16; extract without --keep_frames"
            return StoreRow(nothing, nothing, None, reason)
        return StoreRow(*summarise(frames), kept)


def without_audio(record: AudioRecord) -> AudioRecord:
    """What is known of the file of a clip whose frames are of no use."""
    return replace(record, seconds=0.0, decoder="", audio_sha256=b"")
