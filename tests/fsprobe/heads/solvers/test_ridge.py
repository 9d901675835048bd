"""The solver ridge against scikit-learn's Ridge and RidgeCV.

Tolerance 1e-4 of targets of ±1: float32 eigenvectors at strengths down to 1e-4 of the spread.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeCV

import fsprobe
from fsprobe.heads.data import Data, Labelled
from fsprobe.heads.solvers import ridge
from fsprobe.heads.solvers.solver import Settings
from tests.support import real_features, tiny
from tests.support.baselines import clips, task_of

SETTINGS = Settings(None, "support")


def spread_of(x: np.ndarray) -> float:
    return float(np.sum(np.var(x.astype(np.float64), axis=0)))


@pytest.mark.parametrize(("n", "dim"), [(20, 50), (300, 60)])
def test_the_strength_is_that_of_ridgecv_and_so_are_the_scores(n, dim):
    x, labels = clips(n, dim, 5)
    alphas = [n * spread_of(x) * strength for strength in ridge.STRENGTHS]
    theirs = RidgeCV(alphas=alphas).fit(x.astype(np.float64), 2.0 * labels - 1)
    ours = fsprobe.score(fsprobe.fit(x, labels, solver="ridge"), x)
    np.testing.assert_allclose(ours, theirs.predict(x), atol=1e-4)


@pytest.mark.parametrize(("n", "dim"), [(20, 50), (300, 60)])
def test_a_fixed_strength_is_scikit_learns_alpha_over_clips(n, dim):
    x, labels = clips(n, dim, 3)
    head = fsprobe.fit(x, labels, solver="ridge", l2=0.02)
    theirs = Ridge(alpha=n * 0.02).fit(x.astype(np.float64), 2.0 * labels - 1)
    np.testing.assert_allclose(head.kernel, theirs.coef_, atol=1e-4)
    np.testing.assert_allclose(head.bias, theirs.intercept_, atol=1e-3)


@pytest.mark.parametrize(("n", "dim"), [(25, 40), (200, 30)])
def test_leave_one_out_errors_are_those_of_fits_without_each_clip(n, dim):
    x, labels = clips(n, dim, 2)
    known = np.random.default_rng(1).random((n, 2)) < 0.7
    support = Labelled(jnp.asarray(x), jnp.asarray(labels & known), jnp.asarray(~labels & known))
    settings = Settings(jnp.float32(0.03), "support")
    found = ridge.path(support, jnp.ones(n, bool), jnp.zeros(n, jnp.int32), support, settings)
    for tag in range(2):
        rows = np.flatnonzero(known[:, tag])
        errors = []
        for left_out in rows:
            kept = rows[rows != left_out]
            model = Ridge(alpha=len(rows) * 0.03).fit(x[kept], 2.0 * labels[kept, tag] - 1)
            error = model.predict(x[left_out : left_out + 1])[0] - (2.0 * labels[left_out, tag] - 1)
            errors.append(error**2)
        assert found.loss[0, tag] == pytest.approx(np.mean(errors), rel=1e-3)


def test_few_clips_that_are_fitted_closely_are_left_out_exactly():
    """At weak strengths both the residuals and 1 − leverage nearly vanish. 5-way 1-shot."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(5, 64)) * np.exp(-np.arange(64) / 20)).astype(np.float32)
    labels = np.eye(5, dtype=bool)
    support = Labelled(jnp.asarray(x), jnp.asarray(labels))
    found = ridge.path(support, jnp.ones(5, bool), jnp.zeros(5, jnp.int32), support, SETTINGS)
    for strength, losses in zip(ridge.STRENGTHS, found.loss, strict=True):
        errors = []
        for left_out in range(5):
            kept = np.arange(5) != left_out
            model = Ridge(alpha=5 * spread_of(x) * strength)
            model.fit(x[kept].astype(np.float64), 2.0 * labels[kept] - 1)
            errors.append(model.predict(x[~kept])[0] - (2.0 * labels[left_out] - 1))
        np.testing.assert_allclose(losses, np.mean(np.square(errors), axis=0), rtol=1e-4)


def test_unknown_and_soft_labels_are_weights_of_each_tag():
    x, labels = clips(80, 20, 3)
    rng = np.random.default_rng(2)
    positive = np.where(rng.random(labels.shape) < 0.5, labels, rng.random(labels.shape))
    weight = rng.random(labels.shape) * (rng.random(labels.shape) < 0.6)
    ours = fsprobe.fit(x, positive * weight, (1 - positive) * weight, solver="ridge", l2=0.05)
    for tag in range(3):
        model = Ridge(alpha=0.05 * weight[:, tag].sum())
        model.fit(x.astype(np.float64), 2 * positive[:, tag] - 1, sample_weight=weight[:, tag])
        np.testing.assert_allclose(ours.kernel[tag], model.coef_, atol=1e-4)
        assert float(ours.bias[tag]) == pytest.approx(model.intercept_, abs=1e-3)


def test_validation_clips_choose_by_squared_error_and_none_takes_a_fixed_strength():
    x, labels = clips(200, 20, 4)
    train, valid = slice(0, 60), slice(60, None)
    spread = spread_of(x[train])
    losses = []
    for strength in ridge.STRENGTHS:
        model = Ridge(alpha=60 * spread * strength).fit(x[train], 2.0 * labels[train] - 1)
        losses.append(np.mean((model.predict(x[valid]) - (2.0 * labels[valid] - 1)) ** 2))
    best = ridge.STRENGTHS[int(np.argmin(losses))]
    assert 1e-6 < best < 10, "a choice, not an end of the path"
    held_out = (x[valid], labels[valid], None)
    for validation, strength in ((held_out, best), ("none", 0.1)):
        chosen = fsprobe.fit(x[train], labels[train], solver="ridge", validation=validation)
        fixed = fsprobe.fit(x[train], labels[train], solver="ridge", l2=strength * spread)
        np.testing.assert_allclose(chosen.kernel, fixed.kernel, atol=1e-5)


@pytest.mark.parametrize(("unknown", "dim"), [(False, 12), (False, 100), (True, 12)])
def test_padding_is_inert_and_vmapped_is_looped(unknown, dim):
    x, labels = clips(90, dim, 6)
    negative = ~labels & (np.random.default_rng(3).random(labels.shape) < 0.7) if unknown else None
    train = Labelled(x, labels, negative)
    data = Data(train, train, train)
    fit = jax.jit(lambda task, data: ridge.SOLVER.cell(task, None, data, SETTINGS))

    def cell(n: int, real: int, n_tags: int):
        return fit(task_of(n, real, n_tags, 4), data)

    plain, padded = cell(40, 40, 4), cell(64, 40, 6)
    np.testing.assert_allclose(padded.head.kernel[:4], plain.head.kernel, atol=2e-5)
    np.testing.assert_allclose(padded.head.bias[:4], plain.head.bias, atol=1e-4)
    assert float(padded.val_loss) == pytest.approx(float(plain.val_loss), rel=1e-4)
    assert float(padded.l2) == pytest.approx(float(plain.l2), rel=1e-5)

    tasks = [task_of(64, real, 6, 4) for real in (10, 40, 64)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *tasks)
    together = jax.jit(jax.vmap(fit, (0, None)))(stacked, data)
    for i, real in enumerate((10, 40, 64)):
        np.testing.assert_allclose(
            together.head.kernel[i], cell(64, real, 6).head.kernel, atol=2e-5
        )


def test_real_posteriors(real_data: Path):
    x, y = real_features.posteriors(real_data, "msd_musicnn", 20, 1500)
    assert_as_ridgecv(x, y, x)


@pytest.mark.parametrize("clips", [slice(0, 60, 2), slice(None)])
def test_real_log_mel_statistics(real_data: Path, clips: slice):
    """Of a real catalogue, with fewer clips than dimensions."""
    x, y = real_features.catalogue(real_data)
    assert_as_ridgecv(x[clips], y[clips], x)


def assert_as_ridgecv(x: np.ndarray, y: np.ndarray, query: np.ndarray) -> None:
    alphas = [len(x) * spread_of(x) * strength for strength in ridge.STRENGTHS]
    theirs = RidgeCV(alphas=alphas).fit(x.astype(np.float64), 2.0 * y - 1)
    ours = fsprobe.score(fsprobe.fit(x, y, solver="ridge"), query)
    np.testing.assert_allclose(ours, theirs.predict(query.astype(np.float64)), atol=1e-3)


def test_a_tag_without_positives_scores_every_clip_alike():
    clips_ = tiny.manifest()
    x = tiny.features(clips_)
    labels = np.zeros((len(x), 2), bool)
    labels[:30, 1] = True
    head = fsprobe.fit(x, labels, solver="ridge")
    np.testing.assert_allclose(head.kernel[0], 0, atol=1e-6)
    assert float(head.bias[0]) == pytest.approx(-1, abs=1e-5) and np.isfinite(head.kernel).all()
