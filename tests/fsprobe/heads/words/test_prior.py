"""Few-shot heads from a prior, against SciPy minimising the same objective in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from fsprobe.heads.data import Labelled
from fsprobe.heads.head import Head
from fsprobe.heads.solver import Path, Settings
from fsprobe.heads.words.prior import choose, path_from_prior, scaled, unit_prior

CLIPS, DIM, TAGS = 30, 8, 3
SCALES = (0.0, 0.5, 2.0)


@pytest.fixture(scope="module")
def problem() -> tuple[np.ndarray, np.ndarray, Head]:
    """(features, labels, prior) with labels that the prior half explains."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((CLIPS, DIM)).astype(np.float32)
    kernel = rng.standard_normal((TAGS, DIM)).astype(np.float32)
    labels = features @ kernel.T + 2 * rng.standard_normal((CLIPS, TAGS)) > 0.5
    return features, labels, unit_prior(Head(kernel, jnp.ones(TAGS)), jnp.asarray(features))


def fits(problem, validation: str = "valid", l2: float | None = None) -> Path:
    features, labels, prior = problem
    support = Labelled(jnp.asarray(features), jnp.asarray(labels))
    return path_from_prior(
        support,
        jnp.ones(CLIPS, bool),
        jnp.arange(CLIPS) % 5,
        support,
        Settings(None if l2 is None else jnp.float32(l2), validation, (1.0, 0.1, 0.01)),
        prior,
        jnp.asarray(SCALES),
    )


def objective(problem, tag: int, scale: float, l2: float):
    """theta = (w, b) → (loss + l2/2 ‖w − scale · w₀‖², its gradient), in float64."""
    features, labels, prior = problem
    start = scale * np.asarray(prior.kernel[tag], np.float64)
    sign = np.where(labels[:, tag], 1.0, -1.0)

    def value(theta):
        margin = sign * (features @ theta[:-1] + theta[-1])
        slope = -sign / (1 + np.exp(margin)) / CLIPS
        away = theta[:-1] - start
        total = np.logaddexp(0, -margin).mean() + l2 / 2 * away @ away
        return total, np.append(features.T @ slope + l2 * away, slope.sum())

    return value, np.append(start, 0.0)


def test_equals_a_plain_loop(problem):
    """The objective lies at most 3e-6 of itself above the minimum that SciPy finds (the solver ends
    at 1e-6, the prior's logits are float32), and the weights are as near as strong convexity then
    says: ‖Δ‖² ≤ 2·gap / l2.
    """
    found = fits(problem)
    for i, scale in enumerate(SCALES):
        for j in range(3):
            for tag in range(TAGS):
                l2 = float(found.l2s[i, j])
                value, start = objective(problem, tag, scale, l2)
                options = {"gtol": 1e-10, "ftol": 1e-15}
                best = minimize(value, start, jac=True, method="L-BFGS-B", options=options)
                actual = np.append(found.kernel[i, j, tag], found.bias[i, j, tag])
                gap = value(actual.astype(np.float64))[0] - best.fun
                assert -1e-12 < gap < 3e-6 * best.fun
                weights = actual[:-1] - best.x[:-1]
                assert weights @ weights < 2 * 3e-6 * best.fun / l2


def test_a_strong_penalty_gives_the_prior(problem):
    features, _, prior = problem
    found = fits(problem, l2=1e4)
    for i, scale in enumerate(SCALES):
        np.testing.assert_allclose(found.kernel[i, 0], scaled(prior, scale).kernel, atol=1e-3)
    assert np.std(prior.score(features), axis=0) == pytest.approx(1, abs=1e-5)


def test_the_choice_is_of_the_least_loss_and_no_prior_comes_first(problem):
    found = fits(problem)
    mask = jnp.array([True, True, False])
    head, scale, strength = choose(found, mask)
    losses = np.asarray(found.loss)[..., :2].sum(axis=-1)
    assert losses[int(scale), int(strength)] == losses.min()
    np.testing.assert_array_equal(head.kernel, found.kernel[int(scale), int(strength)])
    equal = found._replace(loss=jnp.zeros_like(found.loss))
    assert [int(index) for index in choose(equal, mask)[1:]] == [0, 0]


def test_seeds_side_by_side_are_as_alone(problem):
    features, labels, prior = problem
    priors = jax.tree.map(lambda leaf: jnp.stack([leaf, -leaf]), prior)
    many = jax.vmap(lambda prior: fits((features, labels, prior)))(priors)
    for i in range(2):
        alone = fits((features, labels, jax.tree.map(lambda leaf, i=i: leaf[i], priors)))
        np.testing.assert_allclose(many.kernel[i], alone.kernel, atol=1e-3)


def test_a_head_of_zeros_is_no_prior(problem):
    features, labels, _ = problem
    nothing = unit_prior(Head(jnp.zeros((TAGS, DIM)), jnp.ones(TAGS)), jnp.asarray(features))
    assert not np.asarray(nothing.kernel).any()
    found = fits((features, labels, nothing))
    np.testing.assert_allclose(found.kernel[0], found.kernel[2], atol=1e-4)
