import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from extract.errors import InputError
from fsprobe.tagger.judging.thresholds import NEVER, Rule, average_precision, choose, parse_rule


def scored(clips=3000, share=0.3, seed=0):
    rng = np.random.default_rng(seed)
    y = (rng.random(clips) < share).astype(float)
    p = 1 / (1 + np.exp(-(2 * y - 1 + rng.standard_normal(clips)).round(1)))  # with ties
    return p, y


def test_f1_is_the_best_over_all_thresholds():
    p, y = scored()
    found = choose(p, y, 1 - y, y.mean(), Rule("f1"))
    by_hand = max(f1_score(y, p >= cut) for cut in np.unique(p))
    # half a negative in 2,100 is added to those above
    np.testing.assert_allclose(f1_score(y, p >= found.threshold), by_hand, atol=1e-6)
    np.testing.assert_allclose(found.f1, by_hand, atol=1e-3)
    assert found.threshold not in p


def test_precision_is_reached_with_the_most_recall():
    p, y = scored()
    found = choose(p, y, 1 - y, y.mean(), Rule("precision", 0.9))
    given = p >= found.threshold
    assert y[given].mean() >= 0.9
    lower = p >= np.sort(np.unique(p))[np.searchsorted(np.unique(p), found.threshold) - 1]
    assert y[lower].mean() < 0.9


def test_precision_out_of_reach_means_never():
    _, y = scored(40)
    found = choose(np.full(40, 0.4), y, 1 - y, 0.3, Rule("precision", 0.9))
    assert found.threshold == NEVER and found.recall == 0


@pytest.mark.parametrize("kind", ["f1", "rate"])
def test_scores_that_say_nothing_give_nothing(kind):
    rng = np.random.default_rng(0)
    y = (rng.random(500) < 0.3).astype(float)
    # at random no threshold but the very highest can have twice the share of positives above it
    found = choose(rng.random(500), y, 1 - y, 0.3, Rule(kind))
    assert found.threshold == NEVER or found.recall < 0.1


def test_rate_gives_as_many_as_the_prevalence_says():
    p, y = scored()
    found = choose(p, y, 1 - y, y.mean(), Rule("rate"))
    assert abs((p >= found.threshold).mean() - y.mean()) < 0.03  # ties come in steps of 2 to 3 %


def test_precision_is_stated_for_the_prevalence():
    p, y = scored(20_000)
    rare = choose(p, y, 1 - y, 0.1, Rule("precision", 0.9))
    common = choose(p, y, 1 - y, 0.5, Rule("precision", 0.9))
    assert rare.threshold > common.threshold and rare.recall < common.recall
    recall = p[y == 1] >= rare.threshold
    wrong = p[y == 0] >= rare.threshold
    by_hand = recall.mean() * 0.1 / (recall.mean() * 0.1 + wrong.mean() * 0.9)
    assert by_hand >= 0.9  # half a clip more is counted


def test_average_precision_is_scikit_learns_at_the_labels_prevalence():
    p, y = scored()
    np.testing.assert_allclose(
        average_precision(p, y, 1 - y, y.mean()), average_precision_score(y, p)
    )
    weights = np.where(y > 0, 0.1 / y.mean(), 0.9 / (1 - y.mean()))
    np.testing.assert_allclose(
        average_precision(p, y, 1 - y, 0.1), average_precision_score(y, p, sample_weight=weights)
    )
    assert np.isnan(average_precision(p, y * 0, 1 - y, 0.1))


def test_rules_are_read():
    assert parse_rule("f1") == Rule("f1") and str(parse_rule("precision:0.90")) == "precision:0.9"
    assert parse_rule("rate").kind == "rate"
    for text in (
        "",
        "F1",
        "precision",
        "precision:",
        "precision:1",
        "precision:nan",
        "rate:2",
        "p:0.5",
    ):
        with pytest.raises(InputError, match="use f1"):
            parse_rule(text)
