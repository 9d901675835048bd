"""The solver prototypes against plain NumPy loops. Tolerance 1e-5: sums of float32."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsprobe
from fsprobe.heads.data import Data, Labelled
from fsprobe.heads.solvers.prototypes import SOLVER
from fsprobe.heads.solvers.solver import Settings
from tests.support import real_features
from tests.support.baselines import clips, task_of

SETTINGS = Settings(None, "none")


def looped(
    x: np.ndarray, positive: np.ndarray, negative: np.ndarray, query: np.ndarray
) -> np.ndarray:
    """`[clip, tag]`: the scores of the query, clip by clip and tag by tag."""
    length = [clip / np.sqrt(sum(value**2 for value in clip)) for clip in x.astype(np.float64)]
    scores = np.zeros((len(query), positive.shape[1]))
    for tag in range(positive.shape[1]):
        difference = np.zeros(x.shape[1])
        for sign, weights in ((1, positive[:, tag]), (-1, negative[:, tag])):
            total = sum(weights)
            for clip, weight in zip(length, weights, strict=True):
                difference += sign * weight * clip / total
        for i, clip in enumerate(query.astype(np.float64)):
            scores[i, tag] = clip @ difference / np.sqrt(clip @ clip)
    return scores


def test_scores_are_those_of_a_loop():
    x, labels = clips(50, 12, 4)
    head = fsprobe.fit(x[:30], labels[:30], solver="prototypes")
    expected = looped(x[:30], labels[:30].astype(float), 1.0 - labels[:30], x)
    np.testing.assert_allclose(fsprobe.score(head, x), expected, atol=1e-5)
    np.testing.assert_allclose(fsprobe.score(head, 1000 * x), expected, atol=1e-5)


def test_unknown_and_soft_labels_are_weights():
    x, _ = clips(50, 12, 4)
    rng = np.random.default_rng(0)
    positive, negative = rng.random((2, 50, 4)) * (rng.random((2, 50, 4)) < 0.5)
    head = fsprobe.fit(x, positive, negative, solver="prototypes")
    np.testing.assert_allclose(fsprobe.score(head, x), looped(x, positive, negative, x), atol=1e-5)


def test_standardised_features_are_raw_ones_to_the_head():
    x, labels = clips(50, 12, 4)
    x[:, 3] = 7.0  # constant: 0 once standardised
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    inside = (x - mean) / np.where(deviation > 0, deviation, np.inf)
    head = fsprobe.fit(x, labels, solver="prototypes", standardize="train")
    expected = looped(inside, labels.astype(float), 1.0 - labels, inside)
    np.testing.assert_allclose(fsprobe.score(head, x), expected, atol=1e-4)


def test_padding_is_inert_and_vmapped_is_looped():
    x, labels = clips(90, 12, 6)
    data = Data(*[Labelled(x, labels, ~labels)] * 3)

    fit = jax.jit(lambda task, data: SOLVER.cell(task, None, data, SETTINGS).head.kernel)

    def cell(n: int, real: int, n_tags: int):
        return fit(task_of(n, real, n_tags, 4), data)

    np.testing.assert_allclose(cell(64, 40, 6)[:4], cell(40, 40, 4), atol=1e-6)
    tasks = [task_of(64, real, 6, 4) for real in (10, 64)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *tasks)
    together = jax.vmap(fit, (0, None))(stacked, data)
    for kernel, real in zip(together, (10, 64), strict=True):
        np.testing.assert_allclose(kernel, cell(64, real, 6), atol=1e-6)


def test_a_tag_without_positives_and_a_clip_of_zeros_are_finite():
    x, labels = clips(20, 5, 2)
    labels[:, 0], x[3] = False, 0
    scores = np.asarray(fsprobe.score(fsprobe.fit(x, labels, solver="prototypes"), x))
    assert np.isfinite(scores).all() and not scores[3].any()


@pytest.mark.parametrize("name", ["msd_musicnn", "jamendo_musicnn"])
def test_real_posteriors(real_data: Path, name):
    x, y = real_features.posteriors(real_data, name, 10, 300)
    head = fsprobe.fit(x[:100], y[:100], solver="prototypes")
    expected = looped(x[:100], y[:100].astype(float), 1.0 - y[:100], x)
    np.testing.assert_allclose(fsprobe.score(head, x), expected, atol=1e-5)


def test_real_log_mel_statistics(real_data: Path):
    x, y = real_features.catalogue(real_data)
    y = y[:, y[::2].any(axis=0)]  # the loop has no mean of no clips
    head = fsprobe.fit(x[::2], y[::2], solver="prototypes")
    expected = looped(x[::2], y[::2].astype(float), 1.0 - y[::2], x)
    np.testing.assert_allclose(fsprobe.score(head, x), expected, atol=1e-5)
