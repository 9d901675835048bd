"""Few-shot heads from a prior, against SciPy minimising the same objective in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from fsprobe.heads.cross_validation import FOLDS
from fsprobe.heads.data import Data, Labelled
from fsprobe.heads.head import Head
from fsprobe.heads.solvers import logistic
from fsprobe.heads.solvers.solver import Fitted, Products, Settings
from fsprobe.heads.strengths import DUAL_PATH
from fsprobe.heads.words.prior import over_scales, scaled, unit_prior
from tests.support.probes import logistic_loss, objective, task

CLIPS, TAGS = 24, 3
SCALES = (0.0, 0.5, 2.0)
FOLD = np.arange(CLIPS) % FOLDS


def data_of(dim: int) -> Data:
    """Labels that the prior half explains; two priors, of which the second is the right one."""
    rng = np.random.default_rng(dim)
    kernel = rng.standard_normal((TAGS, dim)).astype(np.float32) / np.sqrt(dim)

    def part(clips: int) -> Labelled:
        x = rng.standard_normal((clips, dim)).astype(np.float32)
        y = x @ kernel.T + 0.7 * rng.standard_normal((clips, TAGS)) > 0.3
        return Labelled(jnp.asarray(x), jnp.asarray(y))

    train, valid, test = part(CLIPS), part(30), part(5)
    right = unit_prior(Head(jnp.asarray(kernel), jnp.ones(TAGS)), train.features)
    priors = jax.tree.map(lambda leaf: jnp.stack([-leaf, leaf]), right)
    return Data(train, valid, test, priors)


def fitted(data: Data, settings: Settings, prior: int = 1) -> Fitted:
    """All tags of all clips, as one probe."""
    rows = np.arange(CLIPS)
    mine = task(rows, np.arange(TAGS), 0, FOLD)._replace(prior=jnp.int32(prior))
    x = data.train.features
    products = Products(x @ x.T, data.valid.features @ x.T, jnp.asarray(rows))
    return jax.jit(logistic.cell)(mine, products, data, settings)


def minimum(data: Data, tag: int, start: np.ndarray, l2: float, rows: np.ndarray) -> np.ndarray:
    """(w, b) of the least loss + l2/2 ‖w − start‖² on some of the clips."""
    x = np.asarray(data.train.features, np.float64)[rows]
    yes = np.asarray(data.train.positive)[rows, tag].astype(float)

    def value(theta: np.ndarray) -> tuple[float, np.ndarray]:
        slope = (1 / (1 + np.exp(-(x @ theta[:-1] + theta[-1]))) - yes) / len(x)
        away = theta[:-1] - start
        total = objective(x, yes, 1 - yes, l2, theta[:-1], theta[-1], start)
        return total, np.append(x.T @ slope + l2 * away, slope.sum())

    options = {"gtol": 1e-10, "ftol": 1e-15, "maxiter": 5000}
    found = minimize(value, np.append(start, 0.0), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x)


def plain_loop(data: Data, validation: str, l2s: np.ndarray) -> dict[tuple[float, int], tuple]:
    """(scale, strength) → (mean loss of what chooses, weights of each tag)."""
    start = np.asarray(data.priors.kernel[1], np.float64)  # type: ignore[union-attr]
    found = {}
    for scale in SCALES:
        for i, l2 in enumerate(l2s):
            losses, weights = [], []
            for tag in range(TAGS):
                of = lambda rows, t=tag, s=scale, l2=l2: minimum(data, t, s * start[t], l2, rows)  # noqa: E731
                weights.append(of(np.arange(CLIPS)))
                if validation == "valid":
                    held = [(data.valid.features, data.valid.positive, weights[-1])]
                else:
                    x, y = (np.asarray(part) for part in data.train[:2])
                    folds = [
                        (np.flatnonzero(f == FOLD), np.flatnonzero(f != FOLD)) for f in range(FOLDS)
                    ]
                    held = [(x[out], y[out], of(rows)) for out, rows in folds]
                total = sum(
                    len(x)
                    * logistic_loss(
                        np.asarray(x),
                        np.asarray(y)[:, tag].astype(float),
                        1.0 - np.asarray(y)[:, tag],
                        w[:-1],
                        w[-1],
                    )
                    for x, y, w in held
                )
                losses.append(total / sum(len(x) for x, *_ in held))
            found[scale, i] = (float(np.mean(losses)), np.array(weights))
    return found


# fewer dimensions than clips, and more
@pytest.mark.parametrize(("dim", "validation"), [(8, "valid"), (60, "support")])
def test_equals_a_plain_loop(dim, validation):
    """The choice of scale and strength, its loss to 1e-3, and the weights to 5e-3 of their length:
    the solver ends within 1e-6 of the objective, and ‖Δ‖² ≤ 2·gap / l2. A loss on other clips
    moves as the weights do.
    """
    data = data_of(dim)
    path = (1.0, 0.1, 0.01)
    found = fitted(data, Settings(None, validation, path, SCALES))
    x = np.asarray(data.train.features, np.float64)
    l2s = np.array(path) * np.sum(np.var(x, axis=0))
    table = plain_loop(data, validation, l2s)
    scale, strength = min(table, key=lambda pair: table[pair][0])
    loss, weights = table[scale, strength]
    assert float(found.scale) == scale and scale > 0
    assert float(found.l2) == pytest.approx(l2s[strength], rel=1e-4)
    assert float(found.val_loss) == pytest.approx(loss, rel=1e-3)
    actual = np.append(found.head.kernel, np.asarray(found.head.bias)[:, None], axis=1)
    assert np.linalg.norm(actual - weights) < 5e-3 * np.linalg.norm(weights)


def test_a_prior_that_misleads_is_left():
    """The wrong prior's probe is the one without a prior, scale 0."""
    data = data_of(8)
    settings = Settings(None, "valid", DUAL_PATH)
    wrong, none = fitted(data, settings, prior=0), fitted(data._replace(priors=None), settings)
    assert float(wrong.scale) == 0.0
    np.testing.assert_allclose(wrong.head.kernel, none.head.kernel, atol=2e-3)
    assert float(wrong.val_loss) == pytest.approx(float(none.val_loss), abs=1e-5)


def test_a_strong_penalty_gives_the_prior():
    data = data_of(8)
    found = fitted(data, Settings(jnp.float32(1e4), "none"))
    prior = jax.tree.map(lambda leaf: leaf[1], data.priors)
    np.testing.assert_allclose(found.head.kernel, prior.kernel, atol=1e-3)
    assert np.std(prior.score(data.train.features), axis=0) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("dim", [8, 60])  # fewer than clips, and more
@pytest.mark.parametrize("relative", [1e-6, 1e-8])
def test_a_weak_strength_that_is_given_reaches_the_minimum(dim, relative):
    """To 1e-4 of the objective in float64. Inner products resolve no such strength."""
    data = data_of(dim)
    x, y = (np.asarray(part, np.float64) for part in data.train[:2])
    l2 = relative * float(np.sum(np.var(x, axis=0)))
    found = fitted(data, Settings(jnp.float32(l2), "none"))
    start = np.asarray(data.priors.kernel[1], np.float64)  # type: ignore[union-attr]
    for tag in range(TAGS):
        best = minimum(data, tag, start[tag], l2, np.arange(CLIPS))
        weights = (found.head.kernel[tag], found.head.bias[tag]), (best[:-1], best[-1])
        mine, least = (
            objective(x, y[:, tag], 1 - y[:, tag], l2, *pair, start[tag]) for pair in weights
        )
        assert mine <= least * (1 + 1e-4)


@pytest.mark.parametrize("dim", [8, 60])
@pytest.mark.parametrize("l2", [None, jnp.float32(0.1)])
def test_padding_is_inert(l2, dim):
    """Two tags of a task of four, ten clips of a task of sixteen."""
    data, settings = data_of(dim), Settings(l2, "valid", (1.0, 0.1), SCALES)
    rows, tags, padded = np.arange(10), np.array([2, 0]), np.array([2, 0, 0, 0])
    x = data.train.features
    products = Products(x @ x.T, data.valid.features @ x.T, jnp.arange(CLIPS))
    cell = jax.jit(logistic.cell)
    alone = task(rows, tags, 0)._replace(prior=jnp.int32(1))
    wide = task(np.resize(rows, 16), padded, 0)._replace(
        num_support=jnp.int32(10), n_way=jnp.int32(2), prior=jnp.int32(1)
    )
    first, second = (cell(one, products, data, settings) for one in (alone, wide))
    np.testing.assert_allclose(second.head.kernel[:2], first.head.kernel, atol=2e-4)
    assert float(second.val_loss) == pytest.approx(float(first.val_loss), abs=1e-6)


def test_a_head_of_zeros_is_no_prior():
    data = data_of(8)
    nothing = unit_prior(Head(jnp.zeros((TAGS, 8)), jnp.ones(TAGS)), data.train.features)
    assert not np.asarray(nothing.kernel).any()
    found = over_scales(lambda prior: prior, nothing, jnp.asarray(SCALES))
    assert found.kernel.shape == (3, TAGS, 8) and not np.asarray(found.kernel).any()


def test_scales_multiply_the_weights():
    head = Head(jnp.ones((2, 3)), jnp.array([1.0, 2.0]))
    assert scaled(head, jnp.float32(0.5)).bias.tolist() == [0.5, 1.0]
