"""The solver lc_protonets against plain NumPy loops over every subset of every clip's labels, and
the closed sets that stand in for them. Tolerance 1e-5: sums of float32.
"""

import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsprobe
from fsprobe.heads.data import Data, Labelled
from fsprobe.heads.solvers.closed_sets import closed_sets
from fsprobe.heads.solvers.lc_protonets import SOLVER
from fsprobe.heads.solvers.solver import Settings
from tests.support import real_features
from tests.support.baselines import clips, task_of

SETS = jax.jit(closed_sets, static_argnums=2)
SETTINGS = Settings(None, "none")


def looped(x: np.ndarray, labels: np.ndarray, query: np.ndarray) -> np.ndarray:
    """`[clip, tag]`: the best cosine with a prototype of a combination that holds the tag."""
    combinations = {
        subset
        for clip in labels
        for size in range(1, clip.sum() + 1)
        for subset in itertools.combinations(np.flatnonzero(clip).tolist(), size)
    }
    scores = np.full((len(query), labels.shape[1]), -1.0)
    for combination in combinations:
        prototype = x[labels[:, combination].all(axis=1)].astype(np.float64).mean(axis=0)
        for i, clip in enumerate(query.astype(np.float64)):
            cosine = clip @ prototype / np.linalg.norm(clip) / np.linalg.norm(prototype)
            for tag in combination:
                scores[i, tag] = max(scores[i, tag], cosine)
    return scores


@pytest.mark.parametrize(("n", "n_tags"), [(1, 1), (12, 3), (40, 8), (25, 10)])
def test_scores_are_those_of_a_loop_over_all_subsets(n, n_tags):
    x, labels = clips(n + 20, 6, n_tags)
    x -= 3  # cosines of every sign
    head = fsprobe.fit(x[:n], labels[:n], solver="lc_protonets")
    np.testing.assert_allclose(fsprobe.score(head, x), looped(x[:n], labels[:n], x), atol=1e-5)


def test_nothing_is_left_out_of_a_clip_of_many_labels():
    rng = np.random.default_rng(0)
    labels = rng.random((12, 40)) < 0.1
    labels[0, :30] = True  # 2^30 subsets
    x = rng.standard_normal((12, 6)).astype(np.float32)
    found, count, capped = SETS(jnp.asarray(labels), jnp.ones(12, bool), 8192)
    intersections = {
        tuple(np.logical_and.reduce(labels[list(some)]).tolist())
        for size in range(1, 13)
        for some in itertools.combinations(range(12), size)
    } - {(False,) * 40}
    assert {tuple(row) for row in np.asarray(found[: int(count)]).tolist()} == intersections
    assert int(count) == len(intersections) and not capped, "each once"
    head = fsprobe.fit(x, labels, solver="lc_protonets")
    scores = np.asarray(fsprobe.score(head, x))
    expected = np.full(scores.shape, -1.0)
    for closed in map(np.array, intersections):
        prototype = x[labels[:, closed].all(axis=1)].mean(axis=0)
        cosines = x @ prototype / np.linalg.norm(x, axis=1) / np.linalg.norm(prototype)
        expected = np.maximum(expected, np.where(closed, cosines[:, None], -1))
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_beyond_the_cap_it_is_single_tags_and_their_pairs():
    rng = np.random.default_rng(1)
    labels = rng.random((60, 8)) < 0.5
    found, count, capped = SETS(jnp.asarray(labels), jnp.ones(60, bool), 36)
    assert capped
    expected = {
        tuple(labels[labels[:, pair].all(axis=1)].all(axis=0).tolist())
        for pair in ([a, b] for a in range(8) for b in range(a, 8))
        if labels[:, pair].all(axis=1).any()
    }
    assert {tuple(row) for row in np.asarray(found[: int(count)]).tolist()} == expected
    found, count, _ = SETS(jnp.asarray(labels), jnp.ones(60, bool), 8)
    assert int(count) == 8 and np.asarray(found).any(axis=0).all(), "every tag stays"


def test_a_soft_label_counts_as_its_likelier_side_and_an_unknown_one_is_not_carried():
    x, labels = clips(40, 6, 4)
    rng = np.random.default_rng(2)
    unknown = rng.random(labels.shape) < 0.3
    share = np.where(labels, 0.6, 0.4)
    head = fsprobe.fit(
        x, np.where(unknown, 0, share), np.where(unknown, 0, 1 - share), solver="lc_protonets"
    )
    expected = looped(x, labels & ~unknown, x)
    np.testing.assert_allclose(fsprobe.score(head, x), expected, atol=1e-5)


def test_padding_is_inert_and_vmapped_is_looped():
    x, labels = clips(90, 12, 8)
    labels[:, 0] = True  # of every clip: padding must not hide it
    data = Data(*[Labelled(jnp.asarray(x), jnp.asarray(labels))] * 3)

    def one(task, data):
        return SOLVER.cell(task, None, data, SETTINGS).head.score(data.test.features)

    def scores(n: int, real: int, n_tags: int) -> np.ndarray:
        return np.asarray(jax.jit(one)(task_of(n, real, n_tags, 4), data))[:, :4]

    plain = scores(40, 40, 4)
    np.testing.assert_allclose(scores(64, 40, 8), plain, atol=1e-5)
    np.testing.assert_allclose(plain, looped(x[:40], labels[:40, :4], x), atol=1e-5)
    tasks = [task_of(64, real, 8, 4) for real in (0, 10, 64)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *tasks)
    mapped = jax.jit(jax.vmap(one, (0, None)))(stacked, data)
    assert (np.asarray(mapped[0]) == -1).all(), "no clip, no combination"
    for mine, real in zip(mapped[1:], (10, 64), strict=True):
        np.testing.assert_allclose(mine[:, :4], scores(64, real, 8), atol=1e-5)


def test_real_posteriors(real_data: Path):
    x, y = real_features.posteriors(real_data, "jamendo_musicnn", 12, 150)
    head = fsprobe.fit(x[:100], y[:100], solver="lc_protonets")
    np.testing.assert_allclose(fsprobe.score(head, x), looped(x[:100], y[:100], x), atol=1e-5)


def test_real_log_mel_statistics(real_data: Path):
    x, y = real_features.catalogue(real_data)
    head = fsprobe.fit(x[::2], y[::2], solver="lc_protonets")
    np.testing.assert_allclose(fsprobe.score(head, x), looped(x[::2], y[::2], x), atol=1e-5)
