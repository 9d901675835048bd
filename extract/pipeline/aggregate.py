"""Frames of a clip → the two rows of a store. Sums run in float64 over blocks that start at the
clip's first frame, so a row does not depend on how frames were batched.
"""

from collections.abc import Callable

import numpy as np

_BLOCK = 4096  # frames


def standardise(rows: np.ndarray) -> np.ndarray:
    """float32 `[row, dim]` → float64, each row with mean 0 and population variance 1; a constant
    row → zeros.
    """
    centred = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)
    deviation = np.sqrt(np.mean(centred**2, axis=1, keepdims=True))
    return np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)


def mean_std(
    frames: np.ndarray, transform: Callable[[np.ndarray], np.ndarray] | None = None
) -> np.ndarray:
    """`[frame, dim]` → float32 `[2*dim]`: mean, then population standard deviation, of
    transform(frames).
    """
    transform = transform or (lambda block: block.astype(np.float64))

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
