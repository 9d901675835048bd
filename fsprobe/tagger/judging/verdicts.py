"""How far a tag can be trusted: its ROC-AUC out of fold, an interval, and a sentence.

A score may only be compared with scores of the same head, so pairs of a positive and a negative
count within their fold (A. Airola et al., "An experimental comparison of cross-validation
techniques for estimating the area under the ROC curve", 2011: pooling folds is biased).

The interval is R. Newcombe's method 5 ("Confidence intervals for an effect size measure based on
the Mann–Whitney statistic, part 2", 2006): all θ whose distance to the estimate is at most 1.96 of
their own standard errors,

    var(θ) = θ(1−θ) [1 + n*(1−θ)/(2−θ) + n*θ/(1+θ)] / (m n),    n* = (m + n)/2 − 1,

which keeps a width where the estimate is 1. m and n count tracks, not clips: excerpts of one track
are near copies, and no further evidence.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq

_Z = 1.959964  # of a 95% interval
WIDEST = 0.3  # a wider interval needs more examples


class Interval(NamedTuple):
    low: float
    high: float


def roc_auc(
    scores: np.ndarray, positive: np.ndarray, negative: np.ndarray, folds: np.ndarray
) -> float:
    """ROC-AUC over pairs within a fold, all `[clip]` → a number; NaN where there is no pair.

    scores: NaN where a clip was not scored. positive, negative: weights. Ties count half.
    """
    won = pairs = 0.0
    for fold in np.unique(folds):
        here = (folds == fold) & ~np.isnan(scores)
        s, yes, no = scores[here], positive[here], negative[here]
        values, place = np.unique(s, return_inverse=True)
        yes_at, no_at = (np.bincount(place, w, len(values)) for w in (yes, no))
        won += float((yes_at * (np.cumsum(no_at) - no_at / 2)).sum())
        pairs += float(yes.sum() * no.sum())
    return won / pairs if pairs else math.nan


def auc_interval(auc: float, positives: int, negatives: int) -> Interval:
    """95% interval of a ROC-AUC. positives, negatives: independent examples (tracks) of each."""
    if math.isnan(auc) or not (positives and negatives):
        return Interval(0.0, 1.0)
    spread = (positives + negatives) / 2 - 1

    def distance(theta: float) -> float:
        factor = 1 + spread * (1 - theta) / (2 - theta) + spread * theta / (1 + theta)
        variance = theta * (1 - theta) * factor / (positives * negatives)
        return (auc - theta) ** 2 - _Z**2 * variance

    inside = min(max(auc, 1e-9), 1 - 1e-9)  # at 0 and 1 the distance has a root of its own
    low = float(brentq(distance, 0.0, inside)) if auc > 0 else 0.0
    high = float(brentq(distance, inside, 1.0)) if auc < 1 else 1.0
    return Interval(low, high)


def verdict(
    auc: float, interval: Interval, positives: int, negatives: int, tracks_positive: int
) -> str:
    """How far to trust a tag, in words. positives, negatives: clips; tracks_positive: tracks with
    a positive clip.
    """
    counts = f"{positives} yes" if negatives >= positives else f"{positives} yes, {negatives} no"
    if math.isnan(auc) or tracks_positive < 2:
        only = "of one track" if positives > 1 and tracks_positive < 2 else ""
        return f"cannot be judged: {counts} {only}".rstrip() + "; mark clips of other tracks"
    found = f"ROC-AUC {auc:.2f}, interval {interval.low:.1f} to {interval.high:.1f}"
    if interval.high - interval.low > WIDEST:
        return f"needs more examples: {counts}, interval {interval.low:.1f} to {interval.high:.1f}"
    if interval.low <= 0.5:
        return f"no better than chance: {counts}, {found}"
    word = "good" if auc >= 0.9 else "usable" if auc >= 0.75 else "weak"
    return f"{word}: {counts}, {found}"
