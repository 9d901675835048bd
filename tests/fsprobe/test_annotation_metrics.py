"""Rankings of tags and clips against scikit-learn, and by trying every order of ties."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from fsprobe.annotation_metrics import annotation, clip_kinds, evaluate_zero_shot, retrieval

TOLERANCE = 1e-6  # means of float32 shares


def every_order(scores, labels, k) -> tuple[float, float]:
    """(precision at k, hit at k) averaged over all orders of equal scores."""
    places = [
        order
        for order in itertools.permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    hits = [sum(labels[i] for i in order[:k]) for order in places]
    return float(np.mean(hits)) / k, float(np.mean([hit > 0 for hit in hits]))


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_the_first_k_with_ties_in_every_order(k):
    rng = np.random.default_rng(k)
    scores = rng.integers(0, 3, (40, 6)).astype(np.float32)
    labels = rng.random((40, 6)) < 0.4
    labels[:, 0], labels[:, 1] = True, False
    ranked = annotation(scores, labels, np.ones(6, bool), k)
    expected = [every_order(s, y, k) for s, y in zip(scores, labels, strict=True)]
    np.testing.assert_allclose(ranked.precision_at_k, [e[0] for e in expected], atol=TOLERANCE)
    np.testing.assert_allclose(ranked.hit_at_k, [e[1] for e in expected], atol=TOLERANCE)


def test_per_tag_and_per_clip_by_scikit_learn():
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((50, 12)).astype(np.float32)
    labels = rng.random((50, 12)) < 0.3
    labels[0], labels[1], labels[:, 0] = False, True, False
    clips, tags = rng.random(50) < 0.7, rng.random(12) < 0.6
    by_tag, by_clip = retrieval(scores, labels, clips), annotation(scores, labels, tags)
    for t in range(12):
        check(by_tag, t, scores[clips, t], labels[clips, t])
    for c in range(50):
        check(by_clip, c, scores[c, tags], labels[c, tags])


def check(ranking, row, scores, labels) -> None:
    found = [float(values[row]) for values in ranking]
    if labels.all() or not labels.any():
        assert all(map(math.isnan, found))
        return
    first = labels[np.argsort(-scores)[:10]]
    expected = [
        roc_auc_score(labels, scores),
        average_precision_score(labels, scores),
        first.sum() / 10,
        float(first.any()),
    ]
    assert found == pytest.approx(expected, abs=TOLERANCE)


def test_kinds_of_clips():
    labels = np.array([[1, 0, 0], [0, 0, 1], [0, 1, 1], [0, 0, 0]], bool)
    kinds = clip_kinds(labels, [True, True, False])
    assert [np.flatnonzero(mask).tolist() for mask in kinds] == [[0], [1], [2]]


def test_all_of_it_by_hand():
    """Two seen tags, two unseen, three clips: unseen tags alone are ranked right, but a seen tag
    always comes before them.
    """
    labels = np.array([[1, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 0]], bool)
    scores = np.array([[9, 8, 3, 1], [5, 9, 1, 2], [1, 9, 0, 0]], np.float32)
    found = evaluate_zero_shot(scores, labels, [True, True, False, False], k=1)
    expected = {
        "retrieval/unseen/all/roc_auc": 1.0,
        "retrieval/unseen/all/mAP": 1.0,
        "retrieval/seen/all/roc_auc": (1.0 + 0.75) / 2,
        "annotation/unseen/all/hit_at_1": 1.0,
        "annotation/unseen/all/roc_auc": 1.0,
        "annotation/generalised/all/hit_at_1": 2 / 3,
        "annotation/generalised/all/precision_at_1": 2 / 3,
        "annotation/generalised/unseen/hit_at_1": 0.0,
        "annotation/generalised/unseen/roc_auc": 1 / 3,
        "annotation/generalised/seen/roc_auc": 1.0,
        "annotation/generalised/both/roc_auc": 3 / 4,
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=TOLERANCE)
    assert len(found) == 4 * (3 + 3 + 4)


def test_chance_is_chance():
    """Constant scores: ROC-AUC 0.5, precision at k the share of positives."""
    labels = np.random.default_rng(0).random((30, 20)) < 0.25
    labels[:, 0], labels[:, 1] = True, False
    ranked = annotation(np.zeros((30, 20), np.float32), labels, np.ones(20, bool))
    np.testing.assert_allclose(ranked.roc_auc, 0.5)
    np.testing.assert_allclose(ranked.precision_at_k, labels.mean(axis=1), atol=TOLERANCE)


def test_shapes_that_differ():
    with pytest.raises(ValueError, match=r"must be \[clip, tag\]"):
        retrieval(jnp.zeros((2, 3)), jnp.zeros((3, 2)), jnp.ones(2))
