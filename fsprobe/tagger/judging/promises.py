"""What a tag's threshold promises, judged on clips that it was not chosen on.

A threshold that was chosen for the best F1 looks best on the clips it was chosen on. So for each
fold the line and the threshold come from the other folds, and what they give in this one is
counted. Only the slope that tags of few clips share is of all folds.
"""

import math

import numpy as np

from fsprobe.tagger.judging import calibration, thresholds
from fsprobe.tagger.judging.calibration import Judged
from fsprobe.tagger.judging.thresholds import Promise, Rule


def promise(
    judged: Judged, folds: np.ndarray, shared_slope: float, prevalence: float, rule: Rule
) -> Promise:
    """Precision, recall and F1 of a tag at the prevalence; the threshold is NaN, for each fold has
    its own. folds: int `[clip]`.
    """
    hits = misses = positives = negatives = 0.0
    for here, others, line in calibration.by_fold(judged, folds, shared_slope):
        mine = Judged(*(column[here] for column in judged))
        line = calibration.shift(line, others.base_rate, prevalence)
        known, new = (calibration.probability(line, part.logits) for part in (others, mine))
        chosen = thresholds.choose(known, others.positive, others.negative, prevalence, rule)
        given = new >= chosen.threshold
        hits += mine.positive[given].sum()
        misses += mine.negative[given].sum()
        positives += mine.positive.sum()
        negatives += mine.negative.sum()
    if not positives or not hits + misses:
        return Promise(math.nan, math.nan, 0.0, 0.0)
    recall = hits / positives
    wrong = (misses + 0.5) / (negatives + 1)
    rate = recall * prevalence + wrong * (1 - prevalence)
    precision = recall * prevalence / rate
    f1 = 2 * precision * recall / max(precision + recall, 1e-12)
    return Promise(math.nan, float(precision), float(recall), float(f1))
