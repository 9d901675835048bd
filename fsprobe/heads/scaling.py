"""Features centred and scaled inside a fit, so that their scale matters to no solver."""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from fsprobe.heads.head import Head

STANDARDIZE = ("none", "train")


class Scaling(NamedTuple):
    """Inside a fit x is (x − mean) / deviation. scale: that deviation, where it is one for all."""

    mean: np.ndarray
    deviation: np.ndarray
    scale: float

    def applied(self, clips: np.ndarray) -> np.ndarray:
        """float32 `[clip, dim]` inside the fit; 0 where the deviation is 0."""
        divisor = np.where(self.deviation > 0, self.deviation, np.inf)
        return ((clips - self.mean) / divisor).astype(np.float32)

    def inside(self, head: Head, n_tags: int) -> Head:
        """A head on the features as given, for those inside. Raises ValueError on its shape, and on
        values that are not finite.
        """
        kernel, bias = (np.asarray(part, np.float64) for part in (head.kernel, head.bias))
        if kernel.shape != (n_tags, self.mean.size):
            raise ValueError(f"prior {kernel.shape} must be [tag, dim], {(n_tags, self.mean.size)}")
        if bias.shape != (n_tags,):
            raise ValueError(f"prior: bias {bias.shape} must be [tag], {(n_tags,)}")
        if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
            raise ValueError("prior holds NaN or Inf")
        bias = bias + kernel @ self.mean
        return Head((kernel * self.deviation).astype(np.float32), bias.astype(np.float32))


def standardized(features: ArrayLike, standardize: str) -> tuple[np.ndarray, Scaling]:
    """(centred clips of mean squared value 1, or of deviation 1 in each dimension; how)."""
    clips = np.asarray(features, np.float32)
    if clips.ndim != 2 or not clips.size:
        raise ValueError(f"features {clips.shape} must be [clip, dim]")
    if not np.isfinite(clips).all():
        raise ValueError("features hold NaN or Inf")
    if standardize not in STANDARDIZE:
        raise ValueError(f"standardize={standardize!r}: use one of {', '.join(STANDARDIZE)}")
    mean = clips.mean(axis=0, dtype=np.float64)
    if standardize == "train":
        deviation = (clips - mean).std(axis=0)
        deviation = np.where(deviation > 1e-6 * np.abs(mean), deviation, 0)  # else it is rounding
        scaling = Scaling(mean, deviation, 1.0)
    else:
        scale = float(np.sqrt(np.mean((clips - mean) ** 2))) or 1.0
        scaling = Scaling(mean, np.full(mean.size, scale), scale)
    return scaling.applied(clips), scaling
