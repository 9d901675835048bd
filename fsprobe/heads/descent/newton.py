"""Newton's method with conjugate gradients, for the tags that L-BFGS has not brought to their
minimum.

Where a tag's clips are separable, nearly all of them are classified right by a wide margin, and the
Hessian XᵀDX + l2, D = weight·σ(z)·σ(−z), is far below Böhning's bound XᵀX/4 + l2, which is L-BFGS's
first guess. Then l2 alone is the better guess: the Hessian lies between l2 and l2 + trace(XᵀDX).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from fsprobe.heads.descent.lbfgs import Descent, FirstGuess, after_step
from fsprobe.heads.descent.objective import Place, Problem, dot, moved, total

_ITERATIONS = 60
_PRODUCTS = 100  # with the Hessian, per iteration
_ACCURACY = 0.1  # of a direction: the residual's norm over the gradient's


class _Solution(NamedTuple):
    """Conjugate gradients under way, all `[coef + 1, tag]` but squared `[tag]` and products
    `[]`.
    """

    direction: Array
    residual: Array
    search: Array
    search_metric: Array
    squared: Array
    products: Array


def finish(
    problem: Problem,
    l2: Array,
    start: Descent,
    bound: FirstGuess,
    gap: float,
) -> Descent:
    """Descend until every tag is done or stalls; no tag ends worse than it began.

    bound: the inverse of Böhning's bound.
    """
    clips = problem.features
    squares = jnp.diagonal(clips) if problem.dual else jnp.sum(clips**2, axis=1)

    def step(descent: Descent) -> Descent:
        direction = _direction(problem, l2, descent.at, descent.done, squares, bound)
        at, _ = moved(problem, l2, descent.at, direction, problem.metric(direction), descent.done)
        return after_step(descent, at, gap)

    def unfinished(descent: Descent) -> Array:
        return ~descent.done.all() & (descent.iteration < start.iteration + _ITERATIONS)

    return lax.while_loop(unfinished, step, start)


def _direction(
    problem: Problem,
    l2: Array,
    at: Place,
    frozen: Array,
    squares: Array,
    bound: FirstGuess,
) -> Array:
    """−H⁻¹∇f, nearly. squares: `[clip]`, squared norms of the clips."""
    miss = jax.nn.sigmoid(-problem.labels.sign * at.logits)
    bend = problem.labels.weight * miss * (1 - miss)
    mean, trace = jnp.maximum(total(bend), 1e-30), squares @ bend
    separated = 1 + trace / l2 < 0.25 / mean  # how far each guess may be from the Hessian

    def precondition(gradient: Array) -> Array:
        plain = jnp.append(gradient[:-1] / (l2 + trace), gradient[-1:] / mean, axis=0)
        return jnp.where(separated, plain, bound(gradient)[0])

    def hessian(theta: Array, metric: Array) -> Array:
        return problem.pull(bend * problem.change(theta, metric)).at[:-1].add(l2 * theta[:-1])

    def unfinished(state: _Solution) -> Array:
        return (state.squared > enough).any() & (state.products < _PRODUCTS)

    def step(state: _Solution) -> _Solution:
        image = hessian(state.search, state.search_metric)
        active = state.squared > enough
        curvature = jnp.maximum(dot(image, state.search_metric), 1e-37)
        size = jnp.where(active, state.squared / curvature, 0.0)
        residual = state.residual - size * image
        change = precondition(residual)
        metric = problem.metric(change)
        squared = dot(residual, metric)
        share = squared / jnp.maximum(state.squared, 1e-37)
        return _Solution(
            state.direction + size * state.search,
            residual,
            jnp.where(active, change + share * state.search, state.search),
            jnp.where(active, metric + share * state.search_metric, state.search_metric),
            jnp.where(active, squared, state.squared),
            state.products + 1,
        )

    search = precondition(-at.gradient)
    metric = problem.metric(search)
    squared = dot(-at.gradient, metric)
    enough = jnp.where(frozen, jnp.inf, _ACCURACY**2 * squared)
    begin = _Solution(jnp.zeros_like(search), -at.gradient, search, metric, squared, jnp.int32(0))
    return lax.while_loop(unfinished, step, begin).direction
