"""Metrics against scikit-learn, by hand, and by their properties.

Tolerance 1e-6: sums of at most a few hundred float32 terms in [0, 1], each exact to 6e-8.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, roc_auc_score

from fsprobe.metrics import average_precision, both, roc_auc

TOLERANCE = 1e-6

KINDS = [  # sizes are few, so that compilations are
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.integers(-3, 3),
    st.just(0.25),
    st.sampled_from([0.0, -0.0, *(float(np.float32(x)) for x in (1e-45, -1e-45, 3e-45))]),
]  # subnormals
ARRAYS = st.one_of(
    [hnp.arrays(np.float32, size, elements=kind) for size in (1, 2, 7, 60) for kind in KINDS]
)


@st.composite
def scored_clips(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    scores = draw(ARRAYS)
    size = len(scores)
    labels = draw(
        st.one_of(
            hnp.arrays(bool, size), st.just(np.ones(size, bool)), st.just(np.zeros(size, bool))
        )
    )
    return scores, labels


@settings(max_examples=300, deadline=None)
@given(scored_clips())
def test_equal_to_scikit_learn(case):
    scores, labels = case
    precision, auc = float(average_precision(scores, labels)), float(roc_auc(scores, labels))
    if labels.all() or not labels.any():
        assert np.isnan(precision) and np.isnan(auc)
    else:
        assert precision == pytest.approx(average_precision_score(labels, scores), abs=TOLERANCE)
        assert auc == pytest.approx(roc_auc_score(labels, scores), abs=TOLERANCE)


def test_by_hand():
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    # positives at ranks 1 and 3: (1/1 + 2/3) / 2; of 4 pairs, 3 in order
    assert average_precision(scores, [1, 0, 1, 0]) == pytest.approx(5 / 6)
    assert roc_auc(scores, [1, 0, 1, 0]) == pytest.approx(3 / 4)
    # a tie of one positive and one negative at the top counts half a pair, and precision 1/2
    assert average_precision(np.array([1, 1, 0], np.float32), [1, 0, 0]) == pytest.approx(1 / 2)
    assert roc_auc(np.array([1, 1, 0], np.float32), [1, 0, 0]) == pytest.approx(3 / 4)


def test_perfect_reversed_and_constant_scores():
    labels = np.arange(100) % 4 == 0
    assert average_precision(labels.astype(np.float32), labels) == 1
    assert roc_auc(labels.astype(np.float32), labels) == 1
    assert roc_auc(-labels.astype(np.float32), labels) == 0
    assert average_precision(np.zeros(100, np.float32), labels) == pytest.approx(0.25)  # prevalence
    assert roc_auc(np.zeros(100, np.float32), labels) == 0.5


def test_many_rows_are_the_rows_one_by_one():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 50, (3, 4, 200)).astype(np.float32)
    labels = rng.random((3, 4, 200)) < 0.1
    labels[1, 2] = False
    for metric, reference in (
        (average_precision, average_precision_score),
        (roc_auc, roc_auc_score),
    ):
        got = np.asarray(metric(scores, labels))
        assert got.shape == (3, 4)
        for row in np.ndindex(3, 4):
            expected = reference(labels[row], scores[row]) if labels[row].any() else np.nan
            assert got[row] == pytest.approx(expected, abs=TOLERANCE, nan_ok=True)


def test_at_the_size_of_magnatagatune():
    rng = np.random.default_rng(1)
    prevalence = np.array([0.001, 0.01, 0.07, 0.5, 0.95])[:, None]
    scores, labels = (
        rng.standard_normal((5, 4332)).astype(np.float32),
        rng.random((5, 4332)) < prevalence,
    )
    scores[labels] += 0.7
    scores = np.round(scores, 2)  # ties
    expected = [average_precision_score(y, s) for y, s in zip(labels, scores, strict=True)]
    np.testing.assert_allclose(average_precision(scores, labels), expected, atol=TOLERANCE)
    expected = [roc_auc_score(y, s) for y, s in zip(labels, scores, strict=True)]
    np.testing.assert_allclose(roc_auc(scores, labels), expected, atol=TOLERANCE)


def test_double_precision_scores_make_no_new_ties():
    scores = 1.0 + np.arange(4) * 1e-12  # all equal as float32
    assert roc_auc(scores, [0, 0, 1, 1]) == 1
    assert average_precision(scores, [0, 1, 0, 1]) == pytest.approx(
        average_precision_score([0, 1, 0, 1], scores)
    )


@settings(max_examples=50, deadline=None)
@given(
    st.permutations(range(12)),
    hnp.arrays(bool, 12),
    hnp.arrays(np.float32, 12, elements=st.integers(0, 4)),
)
def test_order_of_clips_and_monotone_maps_change_nothing(order, labels, scores):
    for metric in (average_precision, roc_auc):
        expected = np.asarray(metric(scores, labels))
        np.testing.assert_array_equal(metric(scores[order], labels[order]), expected)
        np.testing.assert_array_equal(metric(np.exp(scores), labels), expected)


def test_diverged_scores_have_no_metric():
    scores = jnp.array([jnp.nan, 1.0, 2.0])
    assert all(np.isnan(value) for value in both(scores, jnp.array([True, False, True])))


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(np.float32, 40, elements=st.integers(-3, 3)),
    hnp.arrays(bool, 40),
    hnp.arrays(bool, 40),
)
def test_only_counted_clips_take_part(scores, labels, counted):
    mine = [float(value) for value in jax.jit(both)(scores, labels, counted)]
    scores, labels = scores[counted], labels[counted]
    if not labels.any() or labels.all():
        assert np.isnan(mine).all()
    else:
        expected = [average_precision_score(labels, scores), roc_auc_score(labels, scores)]
        assert mine == pytest.approx(expected, abs=TOLERANCE)


def test_jit_and_shape_errors():
    scores, labels = (
        np.random.default_rng(0).random((2, 30), np.float32),
        np.arange(60).reshape(2, 30) % 3 == 0,
    )
    np.testing.assert_allclose(
        jax.jit(average_precision)(scores, labels), average_precision(scores, labels)
    )
    with pytest.raises(ValueError, match="differ in shape"):
        roc_auc(scores, labels[:1])


def test_other_labels_and_empty_rows():
    scores, labels = np.array([0.1, 0.9, 0.4]), np.array([0, 1, 1])
    for metric in (average_precision, roc_auc):
        assert float(metric(scores, 2 * labels - 1)) == float(metric(scores, labels)) == 1
        for bad in ([0, 2, 1], [0, np.nan, 1]):
            with pytest.raises(ValueError, match="labels must be"):
                metric(scores, bad)
        assert np.isnan(metric(np.zeros((2, 0)), np.zeros((2, 0)))).shape == (2,)
        with pytest.raises(ValueError, match="shape"):
            metric(0.5, 1)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nan_in_one_row_leaves_the_others_their_precision(dtype):
    rng = np.random.default_rng(0)
    labels = rng.random((3, 500)) < 0.2
    scores = (1 / (1 + np.exp(-rng.normal(20, 2, (3, 500))))).astype(dtype)  # confident: near 1
    scores[1, 7] = np.nan
    for metric, reference in (
        (average_precision, average_precision_score),
        (roc_auc, roc_auc_score),
    ):
        got = np.asarray(metric(scores, labels))
        assert np.isnan(got[1])
        for row in (0, 2):
            assert got[row] == pytest.approx(reference(labels[row], scores[row]), abs=TOLERANCE)


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "int16", "float64"])
@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_integers_that_float32_would_tie_keep_their_order(dtype, array):
    rng = np.random.default_rng(1)
    labels = rng.random(500) < 0.2
    base = 2**15 - 1000 if dtype == "int16" else 2**24
    scores = (rng.integers(0, 1000, 500) + base).astype(dtype)
    with jax.enable_x64(True):
        given_scores = array(scores)
        assert given_scores.dtype == dtype
        for metric, reference in (
            (average_precision, average_precision_score),
            (roc_auc, roc_auc_score),
        ):
            expected = reference(labels, scores)
            assert float(metric(given_scores, labels)) == pytest.approx(expected, abs=TOLERANCE)


def test_scores_that_float32_cannot_hold_are_refused_inside_jit():
    labels = np.array([True, False, True])
    for metric in (average_precision, roc_auc):
        with pytest.raises(ValueError, match="scores of int32 do not fit into float32"):
            jax.jit(metric)(jnp.arange(3), labels)
        small = jnp.arange(3, dtype=jnp.int16)
        assert float(jax.jit(metric)(small, labels)) == float(metric(small, labels))
