import numpy as np
import pytest

from fsprobe.tagger.judging.calibration import Judged
from fsprobe.tagger.judging.promises import promise
from fsprobe.tagger.judging.thresholds import Rule, choose


def scores(clips, gap, share, rng):
    y = (rng.random(clips) < share).astype(float)
    return rng.standard_normal(clips) + gap * y, y


@pytest.mark.parametrize("gap", [0.5, 1.5])
def test_a_promise_of_few_clips_is_kept_on_average(gap):
    """300 samples of 60 clips: the precision promised against that on new clips. What the threshold
    gives on the clips it was chosen on is more than it keeps.
    """
    rng = np.random.default_rng(0)
    new, truth = scores(20_000, gap, 0.25, rng)
    promised, chosen_on, kept = [], [], []
    for _ in range(300):
        z, y = scores(60, gap, 0.25, rng)
        data = Judged(z, y, 1 - y)
        found = promise(data, np.arange(60) % 5, 1.0, 0.25, Rule("f1"))
        by_all = choose(1 / (1 + np.exp(-z)), y, 1 - y, 0.25, Rule("f1"))
        given = 1 / (1 + np.exp(-new)) >= by_all.threshold
        if np.isnan(found.precision) or not given.any():
            continue
        promised.append(found.precision)
        chosen_on.append(by_all.precision)
        kept.append(truth[given].mean())
    # standard errors of the means are below 0.01
    assert abs(np.mean(promised) - np.mean(kept)) < 0.06
    assert np.mean(chosen_on) - np.mean(kept) > 2 * abs(np.mean(promised) - np.mean(kept))


def test_what_is_never_given_promises_nothing():
    y = np.r_[np.ones(5), np.zeros(30)]
    found = promise(Judged(np.zeros(35), y, 1 - y), np.arange(35) % 5, 1.0, 0.1, Rule("f1"))
    assert np.isnan(found.precision) and found.recall == 0
