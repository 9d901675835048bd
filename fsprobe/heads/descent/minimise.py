"""L2-regularised logistic regression to convergence, for all tags of one support set, over a path
of strengths.

L-BFGS first. The Hessian is at most XᵀX/4n + l2 (Böhning 1992), whose Cholesky factor is its first
guess of the inverse: how badly the features are scaled then matters little. Tags that it leaves
above their minimum are finished by Newton's method.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.lax import linalg

from fsprobe.heads.descent import lbfgs, newton
from fsprobe.heads.descent.objective import Problem, place, total

WEAKEST_DUAL = 1e-4  # in units of the clips' mean squared distance from their mean
_GAP = 1e-6  # stop once f is known to be within this share of its minimum
_TAGS = 16  # fitted at a time
_CLOSE = 1e-5  # within that share f is left to what float32 can do


class Fit(NamedTuple):
    """A minimum. theta: `[coef + 1, tag]`; value, gradient_norm: `[tag]`; gap: `[tag]`, an
    estimate of how far f lies above its minimum, as a share of f (see
    `fsprobe.heads.descent.objective.Place`); iterations: int32 `[]`. NaN for a tag without
    a minimum.
    """

    theta: Array
    value: Array
    gradient_norm: Array
    gap: Array
    iterations: Array


def minima(problem: Problem, l2s: Array, n_tags: Array | None = None) -> Fit:
    """A minimum for each of l2s `[strength]`, strongest first, each starting at the one before.

    n_tags: how many tags are not padding. Given, a few tags are fitted at a time, as many as that:
    padding costs little, and no tag waits for all others. Without, all are fitted together, which
    is faster where reading the features takes the time.
    """

    def one(theta: Array, l2: Array) -> tuple[Array, Fit]:
        if n_tags is None:
            fit = minimise(problem, l2, theta)
        else:
            fit = _minimise_blocks(problem, l2, theta, n_tags)
        return fit.theta, fit

    return lax.scan(one, origin(problem), l2s)[1]


def _minimise_blocks(problem: Problem, l2: Array, theta: Array, n_tags: Array) -> Fit:
    """`minimise`, `_TAGS` tags at a time; padding stays where it is. iterations: of all blocks."""
    count = theta.shape[1]
    size = min(_TAGS, count)
    bound = _inverse_bound(problem, l2)

    def block(i: Array, fits: Fit) -> Fit:
        start = jnp.minimum(i * size, count - size)  # the last one may repeat some of the others
        mine = lax.dynamic_slice_in_dim(theta, start, size, 1)
        fit = minimise(problem.of_tags(start, size), l2, mine, bound)

        def put(old: Array, new: Array) -> Array:
            return lax.dynamic_update_slice_in_dim(old, new, start, old.ndim - 1)

        return Fit(
            put(fits.theta, fit.theta),
            put(fits.value, fit.value),
            put(fits.gradient_norm, fit.gradient_norm),
            put(fits.gap, fit.gap),
            fits.iterations + fit.iterations,
        )

    nothing = jnp.zeros(count)
    begin = Fit(theta, nothing, nothing, nothing, jnp.int32(0))
    return lax.fori_loop(0, (n_tags + size - 1) // size, block, begin)


def origin(problem: Problem) -> Array:
    """Zero weights, and the bias that fits the prevalence (clipped where a class is absent) →
    `[coef + 1, tag]`. With an offset, which has a bias of its own, zero.
    """
    labels = problem.labels
    zeros = jnp.zeros((problem.features.shape[1], labels.sign.shape[1]))
    if problem.offset is not None:
        return jnp.append(zeros, jnp.zeros((1, zeros.shape[1])), axis=0)
    balance = labels.total(labels.sign)
    if labels.soft is not None:
        balance -= 2 * total(labels.soft * labels.sign)
    balance = jnp.clip(balance, 1e-4 - 1, 1 - 1e-4)
    return jnp.append(zeros, jnp.log((1 + balance) / (1 - balance))[None], axis=0)


def minimise(
    problem: Problem,
    l2: Array,
    theta: Array,
    bound: lbfgs.FirstGuess | None = None,
) -> Fit:
    """Minimise f from theta. A tag without a positive or a negative clip has no minimum and stays
    where it is. bound: the inverse of the Hessian's, if it is at hand.
    """
    bound = bound or _inverse_bound(problem, l2)
    absent = problem.hopeless()
    begin = place(problem, l2, theta, problem.logits(theta))
    calm = jnp.zeros(theta.shape[1], jnp.int32)
    end = lbfgs.descend(problem, l2, lbfgs.Descent(begin, calm, absent, jnp.int32(0)), bound, _GAP)
    close = absent | (end.at.gap <= _CLOSE * end.at.value)
    end = newton.finish(problem, l2, end._replace(stalled=calm, done=close), bound, _GAP)
    norm = jnp.sqrt(jnp.maximum(total(end.at.gradient * end.at.gradient_metric), 0.0))
    gap = end.at.gap / jnp.maximum(end.at.value, 1e-30)
    norm, gap = (jnp.where(absent, jnp.nan, part) for part in (norm, gap))
    return Fit(end.at.theta, end.at.value, norm, gap, end.iteration)


def _inverse_bound(problem: Problem, l2: Array) -> lbfgs.FirstGuess:
    """Coefficients `[coef + 1, tag]` by the inverse of curvature/4 + l2; the bias by that of
    1/4.
    """
    curvature = problem.curvature
    size = curvature.shape[0]
    # float32 factors no worse a matrix
    ridge = jnp.maximum(jnp.maximum(l2, 1e-5 * jnp.sum(jnp.diagonal(curvature)) / size), 1e-30)
    bound = curvature / 4 + ridge * jnp.eye(size)
    # the factor by columns, as LAPACK reads it: no copies
    upper = linalg.cholesky(bound, symmetrize_input=False).T

    def inverse(gradient: Array) -> tuple[Array, Array]:
        half = linalg.triangular_solve(upper.T, gradient[:-1].T, lower=True, transpose_a=True)
        weights = linalg.triangular_solve(upper.T, half, lower=True).T
        result = jnp.append(weights, 4 * gradient[-1:], axis=0)
        if not problem.dual:
            return result, result
        # G is clips·curvature, and (curvature/4 + ridge)·weights is the gradient
        metric = 4 * (gradient[:-1] - ridge * weights) / jnp.max(problem.centre)
        return result, jnp.append(metric, result[-1:], axis=0)

    return inverse
