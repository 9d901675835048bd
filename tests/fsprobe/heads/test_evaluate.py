"""`fsprobe.evaluate` and the thresholds against scikit-learn and plain loops."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

import fsprobe
from fsprobe import metrics
from fsprobe.heads.data import Data, Labelled
from fsprobe.heads.evaluate import TagMetrics, evaluate_task
from fsprobe.metrics import best_threshold
from fsprobe.study.records import f1_scores
from tests.support import probes

CLIPS = 60  # of every example, so that one program serves all


def weighted_scikit_learn(scores, positive, negative) -> tuple[float, float]:
    """Each clip twice, with the weights of both labels."""
    if not positive.any() or not negative.any():
        return np.nan, np.nan
    labels, twice = np.repeat([1, 0], len(scores)), np.concatenate([scores, scores])
    weights = np.concatenate([positive, negative])
    return (
        average_precision_score(labels, twice, sample_weight=weights),
        roc_auc_score(labels, twice, sample_weight=weights),
    )


def example(seed: int, ties: bool, soft: bool, unknown: float, tags: int = 4):
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((CLIPS, tags)).astype(np.float32)
    if ties:
        scores = np.round(scores)
    positive = (rng.random(scores.shape) < 0.3).astype(np.float32)
    if soft:
        positive = np.where(rng.random(scores.shape) < 0.5, rng.random(scores.shape), positive)
    known = rng.random(scores.shape) >= unknown
    return scores, (positive * known).astype(np.float32), ((1 - positive) * known).astype("f4")


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    ties=st.booleans(),
    soft=st.booleans(),
    unknown=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
)
def test_evaluate_is_scikit_learn_with_sample_weights(seed, ties, soft, unknown):
    scores, positive, negative = example(seed, ties, soft, unknown)
    found = fsprobe.evaluate(scores, positive, negative)
    expected = np.array(
        [
            weighted_scikit_learn(*columns)
            for columns in zip(scores.T, positive.T, negative.T, strict=True)
        ]
    )
    # sums of 60 float32 weights
    np.testing.assert_allclose(found["average_precision"], expected[:, 0], atol=2e-6)
    np.testing.assert_allclose(found["roc_auc_per_tag"], expected[:, 1], atol=2e-6)
    if np.isfinite(expected).any():
        np.testing.assert_allclose(
            [found["mAP"], found["roc_auc"]], np.nanmean(expected, axis=0), atol=2e-6
        )
    else:
        assert np.isnan(found["mAP"]) and np.isnan(found["roc_auc"])


def test_without_negative_whatever_is_not_positive_is_negative():
    scores, positive, negative = example(0, True, False, 0.0)
    one, other = (
        fsprobe.evaluate(scores, positive > 0, given) for given in (None, negative.astype(bool))
    )
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])
    np.testing.assert_allclose(
        one["average_precision"], metrics.average_precision(scores.T, positive.T), atol=1e-6
    )


def test_scores_of_float64_make_no_ties():
    scores = np.array([[1.0], [1.0 + 1e-12], [0.5], [0.2]])
    found = fsprobe.evaluate(scores, np.array([[0], [1], [0], [1]]))
    assert found["mAP"] == pytest.approx((1 + 0.5) / 2, abs=1e-6)


def test_a_score_of_nan_has_no_metric():
    scores, positive, negative = example(1, False, False, 0.0)
    scores[3, 1] = np.nan
    found = fsprobe.evaluate(scores, positive, negative)
    assert list(np.isnan(found["average_precision"])) == [False, True, False, False]


@pytest.mark.parametrize(
    ("scores", "positive", "negative"),
    [
        (np.zeros((3, 2)), np.zeros((3, 1)), None),
        (np.zeros(3), np.zeros(3), None),
        (np.zeros((3, 2)), np.zeros((3, 2)), np.zeros((2, 2))),
        (np.zeros((3, 2)), np.full((3, 2), -0.5), None),
        (np.zeros((3, 2)), np.full((3, 2), 2.0), None),
        (np.zeros((3, 2)), np.full((3, 2), np.inf), np.zeros((3, 2))),
    ],
)
def test_shapes_that_differ_and_weights_below_0_are_refused(scores, positive, negative):
    with pytest.raises(ValueError, match=r"\[clip, tag\]|below 0"):
        fsprobe.evaluate(scores, positive, negative)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**16), ties=st.booleans())
def test_weighted_metrics_of_whole_weights_are_those_of_repeated_clips(seed, ties):
    """A clip of weight 2 is two clips: against the metrics that know no weights."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal(CLIPS).astype(np.float32)
    scores = np.round(scores) if ties else scores
    positive, negative = rng.integers(0, 3, (2, CLIPS))
    positive[0] = negative[1] = 1
    repeated = np.concatenate([np.repeat(scores, positive), np.repeat(scores, negative)])
    labels = np.repeat([1, 0], [positive.sum(), negative.sum()])
    expected = (average_precision_score(labels, repeated), roc_auc_score(labels, repeated))
    np.testing.assert_allclose(metrics.weighted(scores, positive, negative), expected, atol=2e-6)


def test_few_positives_at_the_top_of_very_many_weighted_clips():
    """What lies above them weighs nearly nothing beside the sum of all."""
    rng = np.random.default_rng(0)
    scores = rng.standard_normal(300_007).astype(np.float32)
    negative, positive = rng.random((2, scores.size)).astype(np.float32)
    best = np.argsort(-scores)[[0, 1, 2, 5, 9]]
    positive[:], positive[best], negative[best] = 0, 1, 0
    found = metrics.weighted(scores, positive, negative)
    expected = weighted_scikit_learn(scores, positive, negative)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_weighted_metrics_of_any_leading_axes_and_of_nothing():
    scores, positive, negative = (part.T for part in example(2, True, True, 0.2))
    flat = metrics.weighted(scores, positive, negative)
    folded = metrics.weighted(*(part.reshape(2, 2, CLIPS) for part in (scores, positive, negative)))
    for mine, other in zip(folded, flat, strict=True):
        np.testing.assert_array_equal(mine.reshape(4), other)
    assert all(np.isnan(part).all() for part in metrics.weighted(*np.zeros((3, 2, 0))))
    with pytest.raises(ValueError, match="differ in shape"):
        metrics.weighted(scores, positive, negative[:, 1:])


def plain_threshold(scores, positive, known) -> tuple[float, float]:
    """(best F1, its threshold) by trying every one: of equally good ones the highest."""
    scores, positive = scores[known], positive[known]
    levels = np.unique(scores)[::-1]
    best, where = -1.0, np.inf
    for i, level in enumerate(levels):
        given = scores >= level
        f1 = 2 * (given & positive).sum() / (given.sum() + positive.sum())
        if f1 > best + 1e-12:
            best = f1
            where = (level + levels[i + 1]) / 2 if i + 1 < len(levels) else -np.inf
    return best, where


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**16), ties=st.booleans(), unknown=st.sampled_from([0.0, 0.5, 0.9]))
def test_the_threshold_of_best_f1_is_a_plain_loops(seed, ties, unknown):
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal(CLIPS).astype(np.float32)
    scores = np.round(scores) if ties else scores
    positive, known = rng.random(CLIPS) < 0.3, rng.random(CLIPS) >= unknown
    threshold = float(jax.jit(best_threshold)(scores, positive, known))
    if not (positive & known).any():
        assert threshold == np.inf
        return
    f1, where = plain_threshold(scores, positive, known)
    assert threshold == pytest.approx(where, abs=1e-6)
    given = scores[known] >= threshold
    assert f1_score(positive[known], given) == pytest.approx(f1, abs=1e-6)


@pytest.mark.parametrize(("tagged", "half"), itertools.product([False, True], repeat=2))
def test_a_probes_metrics_and_f1_are_plain_loops(tagged, half):
    """Thresholds from the support alone; test clips unknown for a tag are left out. More tags and
    support clips than are taken at a time, and padding of both."""
    rng, pool, n_way, count = np.random.default_rng(3), 40, 21, 150

    def part(n: int) -> Labelled:
        x = rng.standard_normal((n, 5)).astype(np.float32)
        yes = rng.random((n, pool)) < 0.3
        known = rng.random(yes.shape) < (0.6 if half else 1)
        no = jnp.array(~yes & known) if half else None
        return Labelled(jnp.array(x), jnp.array(yes & known), no)

    data = Data(part(200), part(3), part(CLIPS))
    tags, rows = rng.permutation(pool)[:n_way], rng.permutation(200)[:count]
    task = probes.task(rows, tags, 0)
    task = task._replace(
        support=jnp.pad(task.support, (0, 30)),
        folds=jnp.pad(task.folds, (0, 30)),
        tags=jnp.pad(task.tags, (0, 9)),
    )
    head = fsprobe.Head(
        jnp.array(rng.standard_normal((n_way + 9, 5)), jnp.float32),
        jnp.array(rng.random(n_way + 9), jnp.float32),
    )
    found = jax.jit(evaluate_task, static_argnums=3)(head, task, data, tagged)

    def plain(part: Labelled) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(scores, positive, known) `[clip, tag]` of the probe's tags."""
        yes = np.asarray(part.positive)[:, tags]
        known = np.ones(yes.shape, bool)
        if part.negative is not None:
            known = yes | np.asarray(part.negative)[:, tags]
        return np.asarray(head.score(part.features))[:, :n_way], yes, known

    own = tuple(array[rows] for array in plain(data.train))
    scores, yes, known = plain(data.test)
    if tagged:
        known = known & (yes & known).any(axis=1)[:, None]
    f1, counts = [], np.zeros(3)
    for tag in range(n_way):
        kept = known[:, tag]
        labels, mine = yes[kept, tag], scores[kept, tag]
        assert found.average_precision[tag] == pytest.approx(
            average_precision_score(labels, mine), abs=1e-6
        )
        assert found.roc_auc[tag] == pytest.approx(roc_auc_score(labels, mine), abs=1e-6)
        threshold = plain_threshold(*(array[:, tag] for array in own))[1]
        given = mine >= threshold
        f1.append(f1_score(labels, given))
        counts += [(given & labels).sum(), given.sum(), labels.sum()]
    macro, micro = f1_scores(TagMetrics(*(np.asarray(values)[:n_way] for values in found)))
    assert macro == pytest.approx(np.mean(f1), abs=1e-6)
    assert micro == pytest.approx(2 * counts[0] / (counts[1] + counts[2]), abs=1e-6)
