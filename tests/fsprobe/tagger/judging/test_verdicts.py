import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fsprobe.tagger.judging.verdicts import Interval, auc_interval, roc_auc, verdict


def test_one_fold_is_scikit_learns():
    rng = np.random.default_rng(0)
    scores, y = rng.standard_normal(300).round(1), (rng.random(300) < 0.3).astype(float)
    ours = roc_auc(scores, y, 1 - y, np.zeros(300, int))
    np.testing.assert_allclose(ours, roc_auc_score(y, scores))


def test_pairs_count_within_their_fold_only():
    scores = np.array([1.0, 0.0, 11.0, 10.0, np.nan])
    y = np.array([1.0, 0.0, 0.0, 1.0, 1.0])
    folds = np.array([0, 0, 1, 1, 1])
    # fold 0: right; fold 1: wrong; the clip without a score does not count
    assert roc_auc(scores, y, 1 - y, folds) == 0.5
    assert math.isnan(roc_auc(scores, y, 0 * y, folds))


@pytest.mark.parametrize("true", [0.75, 0.9])
def test_the_interval_covers(true):
    """2,000 samples of 10 positives and 40 negatives from a binormal model."""
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    gap = math.sqrt(2) * norm.ppf(true)
    inside = 0
    for _ in range(2000):
        yes, no = rng.standard_normal(10) + gap, rng.standard_normal(40)
        low, high = auc_interval(float((yes[:, None] > no).mean()), 10, 40)
        inside += low <= true <= high
    assert 0.93 < inside / 2000 < 0.99


def test_the_interval_keeps_a_width_at_the_ends():
    low, high = auc_interval(1.0, 5, 20)
    assert 0.5 < low < 0.9 and high == 1
    low, high = auc_interval(0.0, 5, 20)
    assert low == 0 and 0.1 < high < 0.5
    assert auc_interval(math.nan, 0, 20) == (0, 1)


def test_verdicts_in_words():
    assert verdict(math.nan, Interval(0, 1), 1, 30, 1).startswith("cannot be judged: 1 yes")
    assert verdict(math.nan, Interval(0, 1), 8, 30, 1).startswith(
        "cannot be judged: 8 yes of one track"
    )
    words = verdict(0.5, Interval(0.1, 0.8), 3, 30, 3)
    assert words == "needs more examples: 3 yes, interval 0.1 to 0.8"
    assert verdict(0.52, Interval(0.45, 0.6), 300, 900, 200).startswith("no better than chance")
    assert verdict(0.95, Interval(0.92, 0.97), 300, 900, 200).startswith("good")
    assert verdict(0.80, Interval(0.77, 0.83), 300, 900, 200).startswith("usable")
    assert verdict(0.65, Interval(0.6, 0.7), 300, 900, 200).startswith("weak")
