"""Heads that are judged only on clips they were not trained on.

One assignment to folds serves all tags; it keeps tracks and groups whole and spreads each tag's
positives. For each fold the heads are fitted to the other folds, their strengths chosen by
cross-validation inside those; then they score the fold. So neither a head nor its strength has seen
a clip that it is judged on, or a clip of the same track.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from fsprobe.heads.cross_validation import FOLDS, assign_folds


class Fitted(NamedTuple):
    """kernel float32 `[tag, dim]`, bias float32 `[tag]`, strengths float64 `[tag]`; scales `[tag]`,
    of what the weights were pulled to, or None.
    """

    kernel: np.ndarray
    bias: np.ndarray
    strengths: np.ndarray
    scales: np.ndarray | None = None


class OutOfFold(NamedTuple):
    """logits float32 `[clip, tag]`: NaN where the clip's label is unknown, or where the other folds
    have no positive or no negative. folds int `[clip]`.
    """

    logits: np.ndarray
    folds: np.ndarray


# (positive, negative [clip, tag]) → heads
Fit = Callable[[np.ndarray, np.ndarray], Fitted]


def out_of_fold(
    fit: Fit,
    features: np.ndarray,
    positive: np.ndarray,
    negative: np.ndarray,
    units: np.ndarray,
    num_folds: int = FOLDS,
) -> OutOfFold:
    """Scores of every known clip by heads that saw neither it nor its track.

    features float32 `[clip, dim]`; positive, negative `[clip, tag]`; units int `[clip]`, of
    `labelled.units_of`. fit: heads for weights of the labels, all zero for a tag that cannot be
    learnt.
    """
    folds = assign_folds(positive, units, num_folds=num_folds)
    logits = np.full(positive.shape, np.nan, np.float32)
    for fold in tqdm(range(num_folds), desc="out of fold", dynamic_ncols=True, delay=2):
        held = folds == fold
        yes, no = (np.where(held[:, None], 0, weights) for weights in (positive, negative))
        can = (yes.sum(axis=0) > 0) & (no.sum(axis=0) > 0)
        if held.any() and can.any():
            fitted = fit(yes * can, no * can)
            scores = features[held] @ fitted.kernel.T + fitted.bias
            logits[held] = np.where(can, scores, np.nan)
    return OutOfFold(np.where(positive + negative > 0, logits, np.nan), folds)
