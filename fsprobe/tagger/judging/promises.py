"""What a tag's threshold promises, judged on clips that it was not chosen on.

A threshold that was chosen for the best F1 looks best on the clips it was chosen on. So for each
fold the line and the threshold come from the other folds, and what they give in this one is
counted. Only the slope that tags of few clips share is of all folds.
"""

import math

import numpy as np

from fsprobe.tagger.judging import calibration, thresholds
from fsprobe.tagger.judging.calibration import Judged
from fsprobe.tagger.judging.thresholds import Promise, Rule, rates


def promise(
    judged: Judged, folds: np.ndarray, shared_slope: float, prevalence: float, rule: Rule
) -> Promise:
    """Precision, recall and F1 of a tag at the prevalence; the threshold is NaN, for each fold has
    its own. folds: int `[clip]`.
    """
    judging, given = (np.zeros(len(folds), bool) for _ in range(2))
    for here, others, line in calibration.by_fold(judged, folds, shared_slope):
        line = calibration.shift(line, others.base_rate, prevalence)
        p = calibration.probability(line, judged.logits)
        chosen = thresholds.choose(p[~here], others.positive, others.negative, prevalence, rule)
        judging |= here
        given |= here & (p >= chosen.threshold)
    hits, misses = judged.positive[given].sum(), judged.negative[given].sum()
    positives, negatives = judged.positive[judging].sum(), judged.negative[judging].sum()
    if not positives or not hits + misses:
        return Promise(math.nan, math.nan, 0.0, 0.0)
    recall, _, _, precision, f1 = rates(hits, misses, positives, negatives, prevalence)
    return Promise(math.nan, float(precision), float(recall), float(f1))
