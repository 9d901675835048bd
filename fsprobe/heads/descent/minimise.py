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

from fsprobe.heads.data import over_blocks, tags_from, with_tags
from fsprobe.heads.descent import lbfgs, newton
from fsprobe.heads.descent.objective import Place, Problem, at_strength, place, total

WEAKEST_DUAL = 1e-4  # in units of the clips' mean squared distance from their mean
_GAP = 1e-6  # stop once f is known to be within this share of its minimum
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

    def one(state: tuple[Place, Array], l2: Array) -> tuple[tuple[Place, Array], Fit]:
        at, before = state
        if n_tags is None:  # logits anew: with a weak penalty a fit depends on their rounding
            begin = place(problem, l2, at.theta, problem.logits(at.theta))
            at, iterations = minimise(problem, l2, begin, _inverse_bound(problem, l2))
        else:
            begin = at_strength(problem, at, before, l2)
            at, iterations = _minimise_blocks(problem, l2, begin, n_tags)
        return (at, l2), _fit(problem, at, iterations)

    theta = origin(problem)
    begin = place(problem, l2s[0], theta, problem.logits(theta))
    return lax.scan(one, (begin, l2s[0]), l2s)[1]


def _minimise_blocks(
    problem: Problem, l2: Array, begin: Place, n_tags: Array
) -> tuple[Place, Array]:
    """`minimise`, block by block; padding stays where it is. The iterations are those of all
    blocks.
    """
    bound = _inverse_bound(problem, l2)

    def block(start: Array, size: int, so_far: tuple[Place, Array]) -> tuple[Place, Array]:
        end, iterations = minimise(
            problem.of_tags(start, size), l2, tags_from(begin, start, size), bound
        )
        return with_tags(so_far[0], end, start), so_far[1] + iterations

    return over_blocks(block, (begin, jnp.int32(0)), n_tags, begin.value.size)


def _fit(problem: Problem, at: Place, iterations: Array) -> Fit:
    absent = problem.hopeless()
    norm = jnp.sqrt(jnp.maximum(total(at.gradient * at.gradient_metric), 0.0))
    gap = at.gap / jnp.maximum(at.value, 1e-30)
    norm, gap = (jnp.where(absent, jnp.nan, part) for part in (norm, gap))
    return Fit(at.theta, at.value, norm, gap, iterations)


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
    problem: Problem, l2: Array, begin: Place, bound: lbfgs.FirstGuess
) -> tuple[Place, Array]:
    """(the minimum of f, reached from `begin`; iterations). A tag without a positive or a negative
    clip has no minimum and stays where it is.
    """
    absent = problem.hopeless()
    calm = jnp.zeros(absent.size, jnp.int32)
    end = lbfgs.descend(problem, l2, lbfgs.Descent(begin, calm, absent, jnp.int32(0)), bound, _GAP)
    close = absent | (end.at.gap <= _CLOSE * end.at.value)
    end = newton.finish(problem, l2, end._replace(stalled=calm, done=close), bound, _GAP)
    return end.at, end.iteration


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
