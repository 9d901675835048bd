"""`fsprobe.fit` as training asks for it: one strength per tag."""

import numpy as np

import fsprobe


def fit_heads(
    features: np.ndarray, positive: np.ndarray, negative: np.ndarray, strengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(kernel `[tag, dim]`, bias `[tag]`), converged, tags of one strength together.

    features float32 `[clip, dim]`; positive, negative `[clip, tag]` weights; strengths `[tag]`.
    """
    kernel = np.empty((positive.shape[1], features.shape[1]), np.float32)
    bias = np.empty(positive.shape[1], np.float32)
    for strength in np.unique(strengths):
        tags = np.flatnonzero(strengths == strength)
        head = fsprobe.fit(
            features, positive[:, tags], negative[:, tags], l2=float(strength), validation="none"
        )
        kernel[tags], bias[tags] = np.asarray(head.kernel), np.asarray(head.bias)
    return kernel, bias
