import numpy as np
import pytest

from fsprobe.tagger.judging.calibration import Judged
from fsprobe.tagger.judging.promises import promise
from fsprobe.tagger.judging.thresholds import Rule, choose
from fsprobe.tagger.labelled import Labelled
from tests.benchmarks import tagger_promises


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


def test_the_benchmark_states_prevalences_that_its_held_back_clips_say_nothing_of():
    positive = (np.arange(30)[:, None] % (2, 3) == 0).astype(np.float32)
    ids = tuple(f"c{row}" for row in range(30))
    everything = Labelled(("a", "b"), ids, positive, positive, 1 - positive, np.arange(30))
    back = np.arange(0, 12)
    shares = tagger_promises.shares_of(everything, back)
    assert shares == pytest.approx({"a": 9 / 18, "b": 6 / 18})
    positive[back] = 1 - positive[back]
    assert tagger_promises.shares_of(everything, back) == shares
    positive[12:, 1] = 0
    assert tagger_promises.shares_of(everything, back)["b"] > 0
