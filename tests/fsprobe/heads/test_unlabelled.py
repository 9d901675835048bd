"""Unlabelled clips: weights by hand, a probe beside a plain fit, and the sweep's flags."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsprobe
from fsprobe.config import SolverConfig
from fsprobe.heads.data import Data, Labelled, Task
from fsprobe.heads.solvers.registry import SOLVERS, solver_of
from fsprobe.heads.solvers.solver import Settings
from fsprobe.heads.unlabelled import self_training, unlabelled_cell, weak_negatives

CELL = SOLVERS["lbfgs"].unlabelled_cell
REST = jnp.array([False, False, True, True, True])


def labels(dim=2):
    positive = jnp.array([[1, 0], [0, 1], [0, 0], [0, 0], [0, 0]], jnp.float32)
    negative = jnp.array([[0, 1], [1, 0], [0, 0], [0, 0], [0, 0]], jnp.float32)
    return Labelled(jnp.zeros((5, dim)), positive, negative)


def test_weak_negatives_share_the_weight():
    found = weak_negatives(labels(), REST, jnp.float32(0.3))
    np.testing.assert_array_equal(found.positive, labels().positive)
    np.testing.assert_allclose(found.negative[2:], 0.3 * 2 / 3)  # 2 labelled clips, 3 not
    np.testing.assert_array_equal(found.negative[:2], labels().negative[:2])


def test_only_confident_answers_become_labels():
    logits = jnp.array([[9, 9], [9, 9], [3, 0], [0, -3], [-3, -9]], jnp.float32)
    found = self_training(labels(), REST, jnp.float32(0.5), logits)
    np.testing.assert_allclose(found.positive[2:], [[0.5, 0], [0, 0], [0, 0]])
    np.testing.assert_allclose(found.negative[2:], [[0, 0], [0, 0.5], [0.5, 0.5]])
    np.testing.assert_array_equal(found.positive[:2], labels().positive[:2])


def test_a_weight_of_zero_is_no_unlabelled_clip():
    for found in (
        weak_negatives(labels(), REST, jnp.float32(0)),
        self_training(labels(), REST, jnp.float32(0), jnp.full((5, 2), 9.0)),
    ):
        np.testing.assert_array_equal(found.positive, labels().positive)
        np.testing.assert_array_equal(found.negative, labels().negative)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 5)).astype(np.float32)
    y = x @ rng.standard_normal((5, 3)) > 0.5
    part = lambda rows: Labelled(jnp.array(x[rows]), jnp.array(y[rows]))  # noqa: E731
    return Data(part(slice(0, 40)), part(slice(40, 50)), part(slice(50, 60)))


TASK = Task(
    jnp.int32(0),
    jnp.array([3, 8, 11, 20, 33, 0, 0, 0]),  # three of them are padding
    jnp.int32(5),
    jnp.array([0, 1, 2, 3, 4, 0, 0, 0]),
    jnp.array([2, 0]),
    jnp.int32(2),
)


@pytest.mark.parametrize("way", ["weak_negatives", "self_training"])
def test_a_probe_is_the_fit_with_those_weights(data, way):
    settings = Settings(
        jnp.float32(0.05), "none", unlabelled=way, unlabelled_weight=jnp.float32(0.4)
    )
    found = jax.jit(CELL)(TASK, None, data, settings).head
    rows, tags = np.array([3, 8, 11, 20, 33]), np.array([2, 0])
    x, y = np.array(data.train.features), np.array(data.train.positive)[:, tags]
    positive, negative = np.zeros((2, 40, 2), np.float32)
    positive[rows], negative[rows] = y[rows], ~y[rows]
    rest = np.setdiff1d(np.arange(40), rows)
    if way == "weak_negatives":
        negative[rest] = 0.4 * 5 / 35
    else:
        teacher = fsprobe.fit(x[rows], y[rows], l2=0.05, validation="none")
        p = np.asarray(jax.nn.sigmoid(fsprobe.score(teacher, x)))
        for tag in range(2):
            sure = [i for i in rest if not 0.1 < p[i, tag] < 0.9]
            for i in sure:
                (positive if p[i, tag] > 0.5 else negative)[i, tag] = 0.4 * 5 / len(sure)
    expected = fsprobe.fit(x, positive, negative, l2=0.05, validation="none")
    # both lie within 1e-6 of the minimum, whose curvature is 0.05: √(2e-6 / 0.05) = 6e-3 apart
    np.testing.assert_allclose(found.kernel, expected.kernel, atol=1e-2)
    np.testing.assert_allclose(found.bias, expected.bias, atol=1e-2)


def test_clips_that_are_never_held_out_have_no_part_in_the_loss(data):
    """Of five clips, each in a fold of its own: by five fits."""
    settings = Settings(
        jnp.float32(0.05),
        "support",
        unlabelled="weak_negatives",
        unlabelled_weight=jnp.float32(3.0),
    )
    found = jax.jit(CELL)(TASK, None, data, settings)
    rows, x = np.array([3, 8, 11, 20, 33]), np.array(data.train.features)
    y = np.array(data.train.positive)[:, [2, 0]]
    rest, losses = np.setdiff1d(np.arange(40), rows), []
    for out in rows:
        seen = rows[rows != out]
        positive, negative = np.zeros((2, 40, 2), np.float32)
        positive[seen], negative[seen], negative[rest] = y[seen], ~y[seen], 3.0 * 5 / 35
        head = fsprobe.fit(x, positive, negative, l2=0.05, validation="none")
        z = np.asarray(fsprobe.score(head, x[[out]]))[0]
        losses.append(np.logaddexp(0, np.where(y[out], -z, z)))
    assert float(found.val_loss) == pytest.approx(np.mean(losses), rel=2e-3)


def test_weights_are_an_array_to_map_over(data):
    def at(weight):
        settings = Settings(
            jnp.float32(0.05), "none", unlabelled="weak_negatives", unlabelled_weight=weight
        )
        return CELL(TASK, None, data, settings).head.bias

    mapped = jax.jit(jax.vmap(at))(jnp.array([0.0, 0.1, 1.0]))
    assert np.all(np.diff(mapped, axis=0) < 0)  # more negatives, lower bias
    plain = jax.jit(SOLVERS["lbfgs"].path)(
        TASK.labelled_support(data.train),
        TASK.clip_mask,
        TASK.folds,
        data.valid,
        Settings(jnp.float32(0.05), "none"),
    )
    np.testing.assert_allclose(mapped[0], plain.bias[0], atol=1e-2)


def test_the_solver_of_a_configuration():
    assert solver_of(SolverConfig("lbfgs")) is SOLVERS["lbfgs"]
    chosen = solver_of(SolverConfig("lbfgs", unlabelled="self_training"))
    assert chosen.name == "lbfgs" and not chosen.needs_products and not chosen.takes_priors
    assert chosen.cell is SOLVERS["lbfgs"].unlabelled_cell


def test_a_solver_of_ones_own_learns_from_unlabelled_clips_by_its_own_path(data, monkeypatch):
    path = SOLVERS["ridge"].path
    settings = SOLVERS["ridge"].settings | {"unlabelled", "unlabelled_weight"}
    mine = replace(
        SOLVERS["ridge"],
        name="mine",
        settings=settings,
        unlabelled_cell=partial(unlabelled_cell, path),
    )
    monkeypatch.setitem(SOLVERS, "mine", mine)
    chosen = solver_of(SolverConfig("mine", unlabelled="weak_negatives"))
    assert chosen.name == "mine" and chosen.path is path
    weight = jnp.float32(0.0)
    how = Settings(jnp.float32(0.05), "none", unlabelled="weak_negatives", unlabelled_weight=weight)
    found = jax.jit(chosen.cell)(TASK, None, data, how).head
    plain = jax.jit(mine.cell)(TASK, None, data, Settings(jnp.float32(0.05), "none")).head
    np.testing.assert_allclose(found.kernel, plain.kernel, atol=1e-5)


def test_a_solver_says_how_it_learns_from_unlabelled_clips():
    with pytest.raises(ValueError, match="unlabelled"):
        replace(SOLVERS["ridge"], settings=SOLVERS["ridge"].settings | {"unlabelled"})
