"""`fsprobe.fit` against scikit-learn and SciPy: objectives agree to 1e-5, relative.

That is what the gap of 1e-6 of the objective and float32's resolution leave.
"""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

import fsprobe
from fsprobe.heads.cross_validation import FOLDS, assign_folds
from fsprobe.heads.fitting import STRENGTHS, fit_tags
from fsprobe.heads.head import HiddenHead, StandardizedHead
from fsprobe.heads.solvers.lc_protonets import CombinationHead
from fsprobe.heads.solvers.prototypes import PrototypeHead
from fsprobe.heads.solvers.registry import SOLVERS
from fsprobe.heads.words.conse import conse
from fsprobe.heads.words.triplet import TripletHead
from tests.support.probes import logistic_loss, objective, scikit_learn

CLIPS, DIM, TAGS = 40, 12, 3  # of every problem, so that few programs are compiled


def clips(
    seed: int, scale: float = 1.0, separable: bool = False, n: int = CLIPS, dim: int = DIM
) -> tuple[np.ndarray, np.ndarray]:
    """Features whose dimensions differ in scale, away from 0, and labels that they tell in part."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, dim)) * np.exp(rng.standard_normal(dim)) + rng.standard_normal(dim)
    z = (x - x.mean(axis=0)) @ rng.standard_normal((dim, TAGS))
    y = z + (0 if separable else 3) * rng.standard_normal(z.shape) > np.quantile(z, 0.6, axis=0)
    y[0], y[1] = True, False  # both classes, which a few clips may not have
    return (scale * x).astype(np.float32), y


def excess(
    head: fsprobe.Head, x: np.ndarray, yes: np.ndarray, no: np.ndarray, l2: float
) -> np.ndarray:
    """`[tag]`: by how much the objective is above scikit-learn's, as a share."""
    worse = []
    for tag in range(yes.shape[1]):
        pair = yes[:, tag].astype(np.float64), no[:, tag].astype(np.float64)
        kept = pair[0] + pair[1] > 0
        data = x[kept], pair[0][kept], pair[1][kept]
        theirs = objective(*data, l2, *scikit_learn(*data, l2))
        mine = objective(*data, l2, np.asarray(head.kernel)[tag], float(head.bias[tag]))
        worse.append(mine / theirs - 1)
    return np.array(worse)


@pytest.mark.parametrize("n", [CLIPS, 8])  # more clips than dimensions, and fewer
@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
def test_all_known_is_scikit_learn(n, l2):
    x, y = clips(0, n=n)
    head = fsprobe.fit(x, y, l2=l2)
    assert head.kernel.shape == (TAGS, DIM) and head.bias.shape == (TAGS,)
    assert (excess(head, x, y, ~y, l2) < 1e-5).all()
    same = fsprobe.fit(x, y, ~y, l2=l2)
    for mine, other in zip(head, same, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("l2", [1e-1, 1e-4])
def test_half_unknown_is_scikit_learn_on_the_known_clips_of_each_tag(l2):
    x, y = clips(1, n=80)
    known = np.random.default_rng(2).random(y.shape) < 0.5
    head = fsprobe.fit(x, y & known, ~y & known, l2=l2)
    assert (excess(head, x, y & known, ~y & known, l2) < 1e-5).all()
    for tag in range(TAGS):  # and the heads themselves
        kept = known[:, tag]
        w, b = scikit_learn(x[kept], y[kept, tag] * 1.0, ~y[kept, tag] * 1.0, l2)
        theirs = x @ w + b
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(fsprobe.score(head, x)[:, tag], theirs, atol=0.02 * scale)


def test_soft_labels_and_weights_are_scikit_learns_sample_weights():
    x, y = clips(3)
    rng = np.random.default_rng(4)
    chance = np.where(rng.random(y.shape) < 0.5, rng.random(y.shape), y)
    weight = rng.uniform(0, 4, y.shape) * (rng.random(y.shape) < 0.8)
    yes, no = (chance * weight).astype(np.float32), ((1 - chance) * weight).astype(np.float32)
    head = fsprobe.fit(x, yes, no, l2=1e-2)
    assert (excess(head, x, yes, no, 1e-2) < 1e-5).all()
    doubled = fsprobe.fit(x, 2 * yes, 2 * no, l2=1e-2)  # weights count relative to each other
    np.testing.assert_allclose(doubled.kernel, head.kernel, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("l2", [10.0, 0.1])
def test_a_prior_is_what_the_penalty_pulls_to(half, l2):
    """Against a minimisation by SciPy in float64."""
    x, y = clips(5)
    rng = np.random.default_rng(6)
    known = rng.random(y.shape) < 0.5 if half else np.ones(y.shape, bool)
    prior = fsprobe.Head(
        rng.standard_normal((TAGS, DIM)).astype(np.float32),
        rng.standard_normal(TAGS).astype(np.float32),
    )
    head = fsprobe.fit(x, y & known, ~y & known if half else None, l2=l2, prior=prior)
    for tag in range(TAGS):
        yes, no = (part[:, tag] * 1.0 for part in (y & known, ~y & known))

        def value(theta, yes=yes, no=no, tag=tag):
            return objective(x, yes, no, l2, theta[:-1], theta[-1], prior.kernel[tag])

        least = minimize(value, np.zeros(DIM + 1), options={"gtol": 1e-10, "maxiter": 10_000}).fun
        mine = value(np.append(head.kernel[tag], head.bias[tag]))
        assert mine <= least * (1 + 1e-5)


def test_a_strong_pull_to_the_prior_keeps_it():
    x, y = clips(5)
    prior = fsprobe.Head(np.ones((TAGS, DIM), np.float32), np.zeros(TAGS, np.float32))
    head = fsprobe.fit(x, y, l2=1e6, prior=prior)
    np.testing.assert_allclose(head.kernel, prior.kernel, atol=1e-4)


@pytest.mark.parametrize("separable", [False, True])
def test_a_deviation_of_60_with_a_weak_penalty_reaches_scikit_learn(separable):
    x, y = clips(7, separable=separable)
    x = x / x.std() * 60
    fits = fit_tags(x, y, l2=1e-4)
    assert (excess(fits.head, x, y, ~y, 1e-4) < 1e-5).all()
    assert (fits.gap < 1e-3).all()  # an estimate, which float32 makes no better
    np.testing.assert_allclose(fits.l2, 1e-4, rtol=1e-6)


@pytest.mark.parametrize(("n", "positives", "l2"), [(5000, 3, 1e-2), (20_000, 20, 1e-2)])
def test_a_rare_tag_reaches_scikit_learn(n, positives, l2):
    """Its bias bends the objective a thousandth as much as that of a common tag. Once it is
    settled, what is left is within the gap, but for the rounding of float32.
    """
    rng = np.random.default_rng(2 if positives == 3 else 1)
    x = rng.standard_normal((n, 16)).astype(np.float32)
    y = np.zeros((n, 1), bool)
    y[np.argsort(-(x[:, 0] + rng.standard_normal(n)))[:positives]] = True
    fits = fit_tags(x, y, l2=l2)
    assert fits.gap < 2e-6 and excess(fits.head, x, y, ~y, l2) < 1.1 * fits.gap


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    scale=st.floats(-3, 3),
    strength=st.floats(-4, 1),
    separable=st.booleans(),
    n=st.sampled_from([CLIPS, 8]),
)
@example(seed=0, scale=3, strength=-4, separable=True, n=CLIPS)
@example(seed=0, scale=-3, strength=-4, separable=True, n=8)
def test_convergence_does_not_depend_on_the_scale(seed, scale, strength, separable, n):
    """scale, strength: exponents of ten; strengths in units of the clips' mean square."""
    x, y = clips(seed, 10.0**scale, separable, n)
    l2 = 10.0**strength * float(np.mean(np.sum((x - x.mean(axis=0)) ** 2, axis=1)))
    fits = fit_tags(x, y, l2=l2)
    assert (excess(fits.head, x, y, ~y, l2) < 1e-5).all()


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    scale=st.floats(-4, 4),
    strength=st.floats(-7, 2),
    separable=st.booleans(),
    n=st.sampled_from([CLIPS, 8]),
    half=st.booleans(),
)
def test_convergence_at_any_scale_and_strength(seed, scale, strength, separable, n, half):
    """The weakest strengths of separable clips too: to 1e-4, for float32 tells no better there."""
    x, y = clips(seed, 10.0**scale, separable, n)
    known = np.ones(y.shape, bool)
    if half:
        known = np.random.default_rng(seed).random(y.shape) < 0.5
        known[:2] = True
    l2 = 10.0**strength * float(np.mean(np.sum((x - x.mean(axis=0)) ** 2, axis=1)))
    head = fsprobe.fit(x, y & known, ~y & known if half else None, l2=l2)
    assert (excess(head, x, y & known, ~y & known, l2) < 1e-4).all()


def test_the_scale_of_the_features_changes_no_score():
    """Strengths are chosen in units of the clips' mean square."""
    x, y = clips(8)
    plain, large = (fsprobe.fit(factor * x, y) for factor in (1, 1000))
    np.testing.assert_allclose(
        fsprobe.score(plain, x), fsprobe.score(large, 1000 * x), rtol=1e-2, atol=1e-2
    )


def held_out(x: np.ndarray, y: np.ndarray, folds: np.ndarray, l2: float) -> np.ndarray:
    """`[tag]`: the loss of each clip under scikit-learn's fit without its fold."""
    losses = np.empty(y.shape)
    for tag in range(y.shape[1]):
        for fold in range(FOLDS):
            out = folds == fold
            w, b = scikit_learn(x[~out], y[~out, tag] * 1.0, ~y[~out, tag] * 1.0, l2)
            z = x[out] @ w + b
            losses[out, tag] = np.logaddexp(0, np.where(y[out, tag], -z, z))
    return losses.mean(axis=0)


def test_strengths_are_chosen_by_cross_validation_inside_the_clips():
    """A tag of three positives has its own strength, the others share one by their pooled loss."""
    x, y = clips(9)
    y[:, 2] = False
    y[[3, 17], 2] = True  # two positives
    fits = fit_tags(x, y)
    folds = assign_folds(y)
    scale = float(np.mean((x - x.mean(axis=0)) ** 2))
    path = np.array(STRENGTHS) * DIM * scale
    losses = np.array([held_out(x, y, folds, l2) for l2 in path])
    best = losses.argmin(axis=0)
    best[2] = losses.sum(axis=1).argmin()
    for tag in range(TAGS):
        chosen = int(np.argmin(np.abs(np.log(fits.l2[tag] / path))))
        assert fits.l2[tag] == pytest.approx(path[chosen], rel=1e-3)
        loss = losses[:, tag] if tag < 2 else losses.sum(axis=1)
        # the same one, or one as good
        assert chosen == best[tag] or loss[chosen] <= loss.min() * (1 + 1e-3)


def test_strengths_are_chosen_by_given_clips():
    x, y = clips(10)
    other, labels = clips(10, n=400)
    other, labels = other[CLIPS:], labels[CLIPS:]
    fits = fit_tags(x, y, validation=(other, labels, None))
    scale = float(np.mean((x - x.mean(axis=0)) ** 2))
    for tag in range(TAGS):
        losses = []
        for l2 in np.array(STRENGTHS) * DIM * scale:
            w, b = scikit_learn(x, y[:, tag] * 1.0, ~y[:, tag] * 1.0, l2)
            losses.append(logistic_loss(other, labels[:, tag] * 1.0, ~labels[:, tag] * 1.0, w, b))
        w, b = fits.head.kernel[tag], float(fits.head.bias[tag])
        mine = logistic_loss(other, labels[:, tag] * 1.0, ~labels[:, tag] * 1.0, w, b)
        assert mine == pytest.approx(min(losses), rel=1e-3)


def test_near_copies_are_in_one_fold():
    """With its copies elsewhere, a clip held out is known by heart: the weakest penalty wins."""
    rng = np.random.default_rng(11)
    x = np.repeat(rng.standard_normal((10, DIM)), 4, axis=0)
    x = (x + 1e-3 * rng.standard_normal(x.shape)).astype(np.float32)
    y = np.repeat(rng.random((10, TAGS)) < 0.5, 4, axis=0)  # nothing that features could tell
    groups = np.repeat(np.arange(10), 4)
    apart, together = fit_tags(x, y), fit_tags(x, y, groups=groups)
    assert (together.l2 > 10 * apart.l2).all()


def test_standardised_inside_and_a_head_on_the_features_as_given():
    x, y = clips(12)
    x[:, 4] = 2.5  # a constant dimension says nothing
    mean, deviation = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    inside = (x - mean) / np.where(deviation > 1e-6, deviation, np.inf)
    head = fsprobe.fit(x, y, l2=0.1, standardize="train")
    assert (np.asarray(head.kernel)[:, 4] == 0).all()
    for tag in range(TAGS):
        w, b = scikit_learn(inside, y[:, tag] * 1.0, ~y[:, tag] * 1.0, 0.1)
        np.testing.assert_allclose(
            fsprobe.score(head, x)[:, tag], inside @ w + b, atol=5e-3, err_msg=str(tag)
        )


@pytest.mark.parametrize("solver", SOLVERS)
def test_what_was_constant_in_the_clips_says_nothing_of_others(solver):
    x, y = clips(12)
    x[:, 4] = 2.5
    other = x[:5].copy()
    other[:, 4] = 50
    head = fsprobe.fit(x, y, solver=solver, standardize="train", validation="none")
    np.testing.assert_array_equal(fsprobe.score(head, other), fsprobe.score(head, x[:5]))


def test_many_tags_are_fitted_in_portions_that_change_nothing():
    x, y = clips(13)
    order = np.arange(256) % TAGS
    head, few = fsprobe.fit(x, y[:, order], l2=0.1), fsprobe.fit(x, y, l2=0.1)
    np.testing.assert_allclose(head.kernel, few.kernel[order], atol=1e-4)


def test_a_tag_without_a_positive_or_a_negative_clip_has_no_minimum():
    x, y = clips(14)
    y[:, 0], y[:, 1] = True, False
    fits = fit_tags(x, y)
    assert np.isnan(fits.gap[:2]).all() and np.isfinite(fits.gap[2])
    assert (np.asarray(fits.head.kernel)[:2] == 0).all()
    assert np.isfinite(fits.head.bias).all()
    assert fits.head.bias[0] > 0 > fits.head.bias[1]


def test_a_tag_that_no_clip_is_known_for():
    x, y = clips(15)
    known = np.ones(y.shape, bool)
    known[:, 1] = False
    head = fsprobe.fit(x, y & known, ~y & known)
    assert all(np.isfinite(part).all() for part in head)
    assert (np.asarray(head.kernel)[1] == 0).all()


def test_adam_by_the_same_function():
    x, y = clips(16)
    head = fsprobe.fit(x, y, solver="adam", validation="support")
    assert head.kernel.shape == (TAGS, DIM) and all(np.isfinite(part).all() for part in head)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.zeros(3)}, "must be"),
        ({"features": np.full((CLIPS, DIM), np.nan)}, "NaN or Inf"),
        ({"positive": np.zeros((CLIPS + 1, TAGS))}, "clips"),
        ({"positive": np.full((CLIPS, TAGS), -1.0)}, "below 0"),
        ({"positive": np.zeros(CLIPS)}, "must both be"),
        ({"negative": np.zeros((CLIPS, TAGS + 1))}, "must both be"),
        ({"solver": "sgd"}, "solver='sgd': use one of"),
        ({"standardize": "frame"}, "standardize='frame': use one of"),
        ({"validation": "test"}, "validation='test': use"),
        (
            {"validation": (np.zeros((4, DIM + 1)), np.zeros((4, TAGS)), None)},
            "validation features",
        ),
        (
            {"validation": (np.full((4, DIM), np.nan), np.zeros((4, TAGS)), None)},
            "validation features hold NaN or Inf",
        ),
        (
            {"validation": (np.zeros((4, DIM)), np.zeros((4, TAGS + 1)), None)},
            "validation labels",
        ),
        (
            {"validation": (np.zeros((0, DIM)), np.zeros((0, TAGS)), None)},
            "validation holds no clip with a label",
        ),
        (
            {"validation": (np.zeros((4, DIM)), *np.zeros((2, 4, TAGS))), "solver": "adam"},
            "validation holds no clip with a label",
        ),
        ({"positive": np.zeros((CLIPS, 0))}, "no tag"),
        ({"l2": 0.0}, "l2"),
        ({"l2": -1.0}, "l2"),
        ({"l2": float("nan")}, "l2"),
        ({"l2": "weak"}, "l2"),
        ({"l2": 100.0, "solver": "adam"}, "l2=100.0: the solver 'adam' has no strength; use"),
        ({"l2": 100.0, "solver": "prototypes"}, "l2=100.0: the solver 'prototypes' has no"),
        ({"prior": fsprobe.Head(np.zeros((1, DIM)), np.zeros(1))}, "prior"),
        ({"prior": fsprobe.Head(np.zeros((TAGS, DIM)), np.zeros(1))}, "prior: bias"),
        ({"prior": fsprobe.Head(np.full((TAGS, DIM), np.inf), np.zeros(TAGS))}, "prior holds NaN"),
        ({"prior": fsprobe.Head(np.zeros((TAGS, DIM)), np.full(TAGS, np.nan))}, "prior holds NaN"),
        ({"prior": fsprobe.Head(np.zeros((TAGS, DIM)), np.zeros(TAGS)), "solver": "adam"}, "prior"),
    ],
)
def test_what_does_not_fit_is_said(change, message):
    x, y = clips(17)
    arguments = {"features": x, "positive": y} | change
    with pytest.raises(ValueError, match=message):
        fsprobe.fit(arguments.pop("features"), arguments.pop("positive"), **arguments)


LINEAR = fsprobe.Head(jnp.zeros((TAGS, DIM)), jnp.zeros(TAGS))
HEADS = [
    LINEAR,
    HiddenHead(LINEAR, fsprobe.Head(jnp.zeros((2, TAGS)), jnp.zeros(2))),
    StandardizedHead(PrototypeHead(jnp.ones((TAGS, DIM))), jnp.zeros(DIM), jnp.ones(DIM)),
    PrototypeHead(jnp.ones((TAGS, DIM))),
    CombinationHead(jnp.ones((128, DIM)), jnp.ones((128, TAGS), bool), jnp.int32(1)),
    conse(LINEAR, jnp.eye(TAGS), jnp.ones(TAGS, bool), 1),
    TripletHead(jnp.ones((DIM, 4)), jnp.zeros(4), jnp.ones((TAGS, 4))),
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_scores_of_other_features_are_refused(head):
    for shape in ((2, 5), (2, 1), (DIM,), ()):
        with pytest.raises(
            ValueError, match=rf"{re.escape(str(shape))}: the head takes \[clip, 12"
        ):
            fsprobe.score(head, np.zeros(shape))
    assert fsprobe.score(head, np.ones((2, DIM))).shape[0] == 2
