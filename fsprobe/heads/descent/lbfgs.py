"""L-BFGS (Nocedal & Wright 2006, algorithm 7.4) for all tags of one support set at once, made for a
model that is linear: trial steps of a line search cost no product with the features.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from fsprobe.heads.descent.objective import Place, Problem, dot, moved

MEMORY = 8  # pairs of steps and gradient differences
_STALLED = 3  # times in a row that the value hardly falls: float32 resolves no more
_STALL = 1e-7  # share of the value that counts as hardly, while the gap does not halve
_ITERATIONS = 300


# the inverse of a bound on the Hessian applied to a gradient, and that vector's metric
FirstGuess = Callable[[Array], tuple[Array, Array]]


class _Pairs(NamedTuple):
    """The last MEMORY steps and gradient differences, `[pair, coef + 1, tag]`; inverse: `[pair,
    tag]`, 1 / ⟨step, change⟩, or 0 where the pair is of no use.
    """

    steps: Array
    step_metrics: Array
    changes: Array
    inverse: Array


class Descent(NamedTuple):
    """at: where it stands. stalled: int32 `[tag]`, steps in a row that hardly helped. done: bool
    `[tag]`. iteration: int32 `[]`.
    """

    at: Place
    stalled: Array
    done: Array
    iteration: Array


def after_step(descent: Descent, at: Place, gap: float) -> Descent:
    """The descent once it has moved to `at`; a tag is done at a gap of that share of its value."""
    before = descent.at
    slow = (before.value - at.value <= _STALL * before.value) & (at.gap > 0.5 * before.gap)
    stalled = jnp.where(slow | descent.done, descent.stalled + 1, 0)
    done = descent.done | (stalled >= _STALLED) | (at.gap <= gap * at.value)
    return Descent(at, stalled, done, descent.iteration + 1)


def descend(
    problem: Problem,
    l2: Array,
    start: Descent,
    first_guess: FirstGuess,
    gap: float,
) -> Descent:
    """Descend until every tag is done or stalls. first_guess: of the inverse Hessian."""

    def step(state: tuple[Descent, _Pairs]) -> tuple[Descent, _Pairs]:
        descent, pairs = state
        old = descent.at
        uphill, metric = _two_loop(pairs, descent.iteration, old.gradient, first_guess)
        new, size = moved(problem, l2, old, -uphill, -metric, descent.done)
        pairs = _remember(pairs, descent.iteration, old, new, size, -metric)
        return after_step(descent, new, gap), pairs

    def unfinished(state: tuple[Descent, _Pairs]) -> Array:
        return ~state[0].done.all() & (state[0].iteration < _ITERATIONS)

    shape = (MEMORY, *start.at.theta.shape)
    nothing = jnp.zeros(shape)
    pairs = _Pairs(nothing, nothing, nothing, jnp.zeros((MEMORY, shape[2])))
    return lax.while_loop(unfinished, step, (start, pairs))[0]


def _remember(
    pairs: _Pairs, count: Array, old: Place, new: Place, size: Array, metric: Array
) -> _Pairs:
    """metric: of the direction, along which the step was `size` `[tag]`, 0 where it was refused."""
    step_metric, change = size * metric, new.gradient - old.gradient
    product = dot(step_metric, change)
    inverse = jnp.where(product > 0, 1.0 / jnp.where(product > 0, product, 1.0), 0.0)
    pair = _Pairs(new.theta - old.theta, step_metric, change, inverse)
    kept = jax.tree.map(lambda part, latest: part.at[count % MEMORY].set(latest), pairs, pair)
    # a refused step made the pairs behind it doubtful
    return kept._replace(inverse=jnp.where(size > 0, kept.inverse, 0.0))


def _two_loop(
    pairs: _Pairs, count: Array, gradient: Array, first_guess: FirstGuess
) -> tuple[Array, Array]:
    """The estimated inverse Hessian times the gradient, and its metric: a sum of vectors whose
    metrics are known takes no product with the features.
    """
    kept = jnp.minimum(count, MEMORY)

    def backward(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        remaining, shares = carry
        slot = (count - 1 - i) % MEMORY
        share = pairs.inverse[slot] * dot(pairs.step_metrics[slot], remaining)
        return remaining - share * pairs.changes[slot], shares.at[slot].set(share)

    def forward(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        result, metric = carry
        slot = (count - kept + i) % MEMORY
        share = shares[slot] - pairs.inverse[slot] * dot(pairs.changes[slot], metric)
        return result + share * pairs.steps[slot], metric + share * pairs.step_metrics[slot]

    remaining, shares = lax.fori_loop(0, kept, backward, (gradient, jnp.zeros_like(pairs.inverse)))
    return lax.fori_loop(0, kept, forward, first_guess(remaining))
