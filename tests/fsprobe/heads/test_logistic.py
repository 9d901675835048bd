"""Converged probes against scikit-learn's LogisticRegression, alone and in the grid.

Objectives agree to 1e-5 relative and mAP to 1e-3: float32 resolves an objective to 1e-7 and a
ranking to few swaps.
"""

import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from fsprobe.batch import dispatch as training
from fsprobe.batch.lanes import Outcome, ProbeSpec, device_mesh
from fsprobe.config import SolverConfig
from fsprobe.heads import dual as gram
from fsprobe.heads import logistic as lbfgs
from fsprobe.heads import primal
from fsprobe.heads.head import Data
from fsprobe.heads.strengths import DUAL_PATH, PRIMAL_PATH, Settings


def clips(
    seed: int, n: int, dim: int, n_tags: int, spread: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Features whose dimensions differ in scale by e^spread, and labels that they tell in part."""
    mix = np.random.default_rng(0).standard_normal((n_tags, dim)) / np.sqrt(dim) * 4
    rng = np.random.default_rng(seed)
    labels = rng.random((n, n_tags)) < np.linspace(0.08, 0.4, n_tags)
    labels[0], labels[1] = True, False  # every tag has both classes
    scale = np.exp(spread * np.random.default_rng(1).standard_normal(dim))
    return ((rng.standard_normal((n, dim)) + labels @ mix) * scale).astype(np.float32), labels


def objective(x: np.ndarray, y: np.ndarray, l2: float, w: np.ndarray, b: float) -> float:
    z = x.astype(np.float64) @ w + b
    return float(np.mean(np.logaddexp(0, np.where(y, -z, z))) + l2 / 2 * w @ w)


def reference(x: np.ndarray, y: np.ndarray, l2: float) -> tuple[np.ndarray, float]:
    if (
        y.all() or not y.any()
    ):  # scikit-learn refuses: no minimum. Ours ranks nothing and keeps the clipped prevalence
        return np.zeros(x.shape[1]), float(np.log(1.9999 / 0.0001)) * (1 if y.all() else -1)
    model = LogisticRegression(C=1 / (len(x) * l2), tol=1e-9, max_iter=20000).fit(
        x.astype(np.float64), y
    )
    return model.coef_[0], float(model.intercept_[0])


def problem(x: np.ndarray, labels: np.ndarray, dual: bool, padding: int = 0) -> lbfgs.Problem:
    n = len(x)
    x, labels = np.pad(x, ((0, padding), (0, 0))), np.pad(labels, ((0, padding), (0, 0)))
    features = x @ x.T if dual else x
    return lbfgs.Problem(
        jnp.asarray(features),
        jnp.asarray((features if dual else x.T @ x) / n),
        jnp.where(jnp.asarray(labels), 1.0, -1.0),
        jnp.where(jnp.arange(n + padding) < n, 1 / n, 0.0),
        dual,
    )


@pytest.mark.parametrize("spread", [0.0, 1.5])
@pytest.mark.parametrize(
    ("n", "dim", "dual"),
    [(10, 64, True), (60, 200, True), (10, 64, False), (60, 200, False), (200, 20, False)],
)  # with more clips than dimensions, never the dual
def test_the_optimum_is_scikit_learns(n, dim, dual, spread):
    x, labels = clips(2, n, dim, 3, spread)
    x -= x.mean(axis=0)
    scale = float(np.mean(np.sum(x**2, axis=1)))
    path = np.array([1e1, 1e-1, 1e-2, 1e-3, lbfgs.WEAKEST_DUAL]) * scale
    fits = lbfgs.path(problem(x, labels, dual), jnp.asarray(path, jnp.float32))
    for i, l2 in enumerate(path):
        for tag in range(3):
            w, b = reference(x, labels[:, tag], l2)
            theta = np.asarray(fits.theta[i, :, tag], np.float64)
            mine = x.T @ theta[:-1] if dual else theta[:-1]
            least = objective(x, labels[:, tag], l2, w, b)
            assert objective(x, labels[:, tag], l2, mine, theta[-1]) <= least * (1 + 1e-5)
            assert float(fits.value[i, tag]) == pytest.approx(least, rel=1e-5)


def test_the_gradient_norm_is_the_gradients():
    x, labels = clips(3, 30, 100, 2)
    x -= x.mean(axis=0)
    l2 = 0.01 * float(np.mean(np.sum(x**2, axis=1)))
    for dual in (True, False):
        task = problem(x, labels, dual)
        fit = lbfgs.minimise(task, jnp.float32(l2), lbfgs.origin(task))
        w = np.asarray(fit.theta[:-1], np.float64)
        w = x.T @ w if dual else w
        error = (1 / (1 + np.exp(-(x @ w + np.asarray(fit.theta[-1])))) - labels) / len(x)
        norm = np.linalg.norm(np.vstack([x.T @ error + l2 * w, error.sum(axis=0)]), axis=0)
        start = np.linalg.norm(x.T @ (labels.mean(axis=0) - labels) / len(x), axis=0)
        assert (norm < 1e-3 * start).all()
        np.testing.assert_allclose(
            fit.gradient_norm, norm, atol=1e-5 * start.max()
        )  # both are all but zero


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_sums_over_clips(count):
    left, right = np.random.default_rng(8).standard_normal((2, count, 5)).astype(np.float32)
    expected = left.T.astype(np.float64) @ right
    np.testing.assert_allclose(
        lbfgs.over_clips(left, right), expected, atol=1e-6 * count
    )  # a rounding for each clip


def test_padding_is_inert_and_a_class_that_is_absent_stays_put():
    x, labels = clips(4, 24, 60, 3)
    labels[:, 2] = True
    l2 = jnp.float32(1.0)
    tight, loose = (
        lbfgs.minimise(task, l2, lbfgs.origin(task))
        for task in (problem(x, labels, True), problem(x, labels, True, padding=9))
    )
    np.testing.assert_allclose(tight.theta[:24], loose.theta[:24], atol=1e-5)
    np.testing.assert_array_equal(loose.theta[24:-1], 0)
    assert not np.asarray(tight.theta[:-1, 2]).any() and np.isnan(tight.gradient_norm[2])


@pytest.fixture(scope="module")
def data() -> Data:
    parts = [
        array
        for seed, n in ((5, 1300), (6, 80), (7, 300))
        for array in clips(seed, n, 300, 50, 0.5)
    ]
    mean = parts[0].mean(axis=0)
    return Data(*(jnp.asarray(part - mean if part.dtype == np.float32 else part) for part in parts))


def spec(data: Data, n_way: int, k_shot: int | None, seed: int) -> ProbeSpec:
    """k_shot clips of each tag, or (None) every training clip."""
    rng = np.random.default_rng([seed, n_way])
    tags = rng.permutation(50)[:n_way]
    labels, taken = np.asarray(data.train_labels), []
    for tag in tags if k_shot else ():
        free = np.setdiff1d(np.flatnonzero(labels[:, tag]), taken)
        taken += rng.permutation(free)[:k_shot].tolist()
    return ProbeSpec(
        (n_way, k_shot, seed),
        seed,
        np.array(taken) if k_shot else np.arange(len(labels)),
        tags,
        full=k_shot is None,
    )


def train(
    specs: list[ProbeSpec], data: Data, mesh: Mesh, **solver: object
) -> dict[object, Outcome]:
    config = SolverConfig(name="lbfgs", **solver)  # type: ignore[arg-type]
    return {
        outcome.spec.key: outcome
        for outcomes in training.train(specs, data, config, mesh)
        for outcome in outcomes
    }


def scikit_learn(spec: ProbeSpec, data: Data, l2: float) -> tuple[float, float]:
    """(mAP, validation loss) of the same episode."""
    x, valid, test = (np.asarray(part) for part in (data.train, data.valid, data.test))
    precision, losses = [], []
    for tag in spec.tags:
        labels = [
            np.asarray(part)[:, tag]
            for part in (data.train_labels, data.valid_labels, data.test_labels)
        ]
        w, b = reference(x[spec.support], labels[0][spec.support], l2)
        precision.append(average_precision_score(labels[2], test @ w + b))
        losses.append(objective(valid, labels[1], 0, w, b))
    return float(np.mean(precision)), float(np.mean(losses))


def test_in_the_grid_as_scikit_learn_on_the_same_episodes(data):
    specs = [
        spec(data, n_way, k_shot, seed=n_way + 1)
        for n_way in (2, 10, 50)
        for k_shot in (1, 5, 20, None)
    ]
    outcomes = train(specs, data, device_mesh(), l2=3.0)
    assert set(outcomes) == {one.key for one in specs}
    for one in specs:
        precision, loss = scikit_learn(one, data, 3.0)
        assert outcomes[one.key].l2 == 3.0
        assert np.mean(outcomes[one.key].average_precision) == pytest.approx(precision, abs=1e-3)
        assert outcomes[one.key].val_loss == pytest.approx(loss, rel=1e-3)


def test_a_strength_beyond_a_gram_matrix(data):
    one, l2 = spec(data, 10, 5, 0), 1e-3  # clips have a mean square of 400
    outcome = train([one], data, device_mesh(), l2=l2)[one.key]
    precision, loss = scikit_learn(one, data, l2)
    assert np.mean(outcome.average_precision) == pytest.approx(precision, abs=1e-3)
    assert outcome.val_loss == pytest.approx(
        loss, rel=5e-3
    )  # logits of 10 and more, where the support has no say


def test_together_as_alone_on_any_devices(data):
    specs = [
        spec(data, n_way, k_shot, seed)
        for seed in range(3)
        for n_way, k_shot in ((2, 1), (10, 5), (5, None))
    ]
    meshes = [Mesh(np.array(jax.devices()[:count]), ("probe",)) for count in (1, 2)]
    together = [train(specs, data, mesh) for mesh in meshes]
    for one in specs[1:3]:
        alone = train([one], data, meshes[0])[one.key]
        for outcomes in together:
            np.testing.assert_allclose(
                outcomes[one.key].average_precision, alone.average_precision, atol=1e-3
            )
            assert outcomes[one.key].l2 == pytest.approx(alone.l2, rel=1e-5)
            assert outcomes[one.key].val_loss == pytest.approx(alone.val_loss, rel=1e-3)
    for one in specs:
        first, second = (outcomes[one.key] for outcomes in together)
        assert first.val_loss == (
            second.val_loss if one.full else pytest.approx(second.val_loss, rel=1e-3)
        )


def test_no_device_waits_for_another_to_end_its_fits(data):
    """XLA ends the program where one waits for 60 s within a collective operation."""
    count, mesh = data.train.shape[0], Mesh(np.array(jax.devices()[:2]), ("probe",))
    support, tags = (np.arange(size, dtype=np.int32) for size in (count, 50))
    program = jax.make_jaxpr(primal._solve, static_argnums=(5, 6))(
        support, np.int32(count), tags, data, Settings(None, False, False), mesh, True
    )
    looped = set(operations(program.jaxpr, False))
    assert ("dot_general", True) in looped and ("all_gather", False) in looped
    together = re.compile("all_|p(sum|max|min|permute|gather)|reduce_scatter")
    assert not [name for name, within in looped if within and together.match(name)]


def operations(program: Any, looped: bool) -> Iterator[tuple[str, bool]]:
    """(name, is it within a loop) of everything a jaxpr does."""
    for operation in program.eqns:
        name = operation.primitive.name
        yield name, looped
        for part in jax.tree.leaves(operation.params, is_leaf=lambda part: hasattr(part, "eqns")):
            part = getattr(part, "jaxpr", part)
            if hasattr(part, "eqns"):
                yield from operations(part, looped or name in ("while", "scan"))


def test_seeds_side_by_side_as_one_by_one(data):
    """As an accelerator runs them."""
    specs, mesh = (
        [spec(data, 5, 4, seed) for seed in range(3)],
        Mesh(np.array(jax.devices()[:1]), ("probe",)),
    )
    settings = Settings(np.float32(3.0), tagged=False, norms=False)
    one, four = (
        [outcome for part in gram.by_seed(specs, data, settings, mesh, lanes) for outcome in part]
        for lanes in (1, 4)
    )
    for mine, theirs in zip(four, one, strict=True):
        assert mine.spec is theirs.spec and mine.val_loss == pytest.approx(
            theirs.val_loss, abs=1e-5
        )
        np.testing.assert_allclose(mine.average_precision, theirs.average_precision, atol=1e-5)


@pytest.mark.parametrize("k_shot", [4, None])
def test_auto_is_the_strength_of_least_validation_loss(data, k_shot):
    one, path = spec(data, 5, k_shot, 0), PRIMAL_PATH if k_shot is None else DUAL_PATH
    chosen = train([one], data, device_mesh())[one.key]
    support = np.asarray(data.train)[one.support]
    scale = np.mean(np.sum((support - support.mean(axis=0)) ** 2, axis=1))
    losses = [
        train([one], data, device_mesh(), l2=float(ratio * scale))[one.key].val_loss
        for ratio in path[:12]
    ]
    best = int(np.argmin(losses))
    assert 0 < best < len(losses) - 1, "the least must be among the strengths compared"
    assert chosen.val_loss == pytest.approx(losses[best], rel=1e-3)
    assert chosen.l2 == pytest.approx(path[best] * scale, rel=1e-3)


def test_one_way_one_shot_has_a_single_class(data):
    one = ProbeSpec("x", 0, np.flatnonzero(np.asarray(data.train_labels)[:, 3])[:1], np.array([3]))
    outcome = train([one], data, device_mesh())["x"]
    assert outcome.roc_auc[0] == 0.5 and outcome.epochs == 0
