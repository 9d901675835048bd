"""L2-regularised logistic regression to convergence, for one tag: L-BFGS made for a model that is linear.

    f(w, b) = mean over support clips of BCE(σ(x·w + b), y) + (l2 / 2)·‖w‖²

which is scikit-learn's LogisticRegression with C = 1 / (n·l2): the bias is not penalised. Three things the general
algorithm (Nocedal & Wright 2006, algorithm 7.4) cannot know make it fast and robust here:
- logits are linear in the weights, so a line search costs no product with the features;
- the Hessian's diagonal is at most mean(x²)/4 + l2, which scales the first guess of its inverse;
- f is l2-strongly convex in w, so f − min f ≤ ‖∇f‖² / (2·l2) says when to stop.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

MEMORY = 8  # pairs of steps and gradient differences
_GAP = 1e-7  # stop once f is within this share of its minimum; float32 resolves about as much
_SEARCHES = 12  # trial steps per line search


class Problem(NamedTuple):
    """One tag's data. x: float32 `[clip, dim]`, centred; y: float32 `[clip]`; weight: float32 `[clip]`, sums to 1, 0
    for padding; scale: float32 `[dim + 1]`, the inverse of the Hessian's diagonal bound; l2: `[]`."""

    x: Array
    y: Array
    weight: Array
    scale: Array
    l2: Array


class Descent(NamedTuple):
    """Where the descent of one tag stands. theta, gradient: `[dim + 1]`, the bias last; logits: `[clip]`;
    steps, changes: `[MEMORY, dim + 1]`; curvature: `[MEMORY]`, 1 / (step · change) or 0 where there is no pair."""

    theta: Array
    logits: Array
    gradient: Array
    value: Array
    steps: Array
    changes: Array
    curvature: Array
    done: Array


def problem(x: Array, y: Array, weight: Array, l2: Array) -> Problem:
    diagonal = jnp.append(0.25 * (weight @ x**2) + l2, 0.25)
    return Problem(x, y, weight, 1.0 / jnp.maximum(diagonal, 1e-12), l2)


def start(task: Problem) -> Descent:
    """At zero weights, with the bias that fits the prevalence (clipped where a class is absent)."""
    prevalence = jnp.clip(task.weight @ task.y, 1e-4, 1 - 1e-4)
    theta = jnp.zeros(task.x.shape[1] + 1).at[-1].set(jnp.log(prevalence / (1 - prevalence)))
    logits = jnp.full(task.x.shape[0], theta[-1])
    pairs = jnp.zeros((MEMORY, theta.size))
    return Descent(theta, logits, _gradient(task, theta, logits), _value(task, theta, logits), pairs, pairs,
                   jnp.zeros(MEMORY), jnp.bool_(False))


def step(task: Problem, at: Descent, count: Array) -> Descent:
    """One iteration; `count` is how many went before. A descent that is done stays where it is."""
    direction = -_two_loop(task, at, count)
    along = task.x @ direction[:-1] + direction[-1]
    size = jnp.where(at.done, 0.0, _line_search(task, at, direction, along))
    theta, logits = at.theta + size * direction, at.logits + size * along
    value = _value(task, theta, logits)
    gradient = _gradient(task, theta, logits)
    moved, change = theta - at.theta, gradient - at.gradient
    product = moved @ change
    slot = count % MEMORY
    stuck = (value >= at.value) & (size != 1.0) | (size == 0.0)
    gap = jnp.sum(gradient[:-1]**2) / (2 * task.l2) + jnp.sum(gradient[-1]**2) * 2
    return Descent(theta, logits, gradient, value, at.steps.at[slot].set(moved), at.changes.at[slot].set(change),
                   at.curvature.at[slot].set(jnp.where(product > 0, 1.0 / jnp.maximum(product, 1e-30), 0.0)),
                   at.done | stuck | (gap <= _GAP * value))


def _value(task: Problem, theta: Array, logits: Array) -> Array:
    losses = jax.nn.softplus(logits) - task.y * logits
    return task.weight @ losses + 0.5 * task.l2 * jnp.sum(theta[:-1]**2)


def _gradient(task: Problem, theta: Array, logits: Array) -> Array:
    error = task.weight * (jax.nn.sigmoid(logits) - task.y)
    return jnp.append(error @ task.x + task.l2 * theta[:-1], jnp.sum(error))


def _two_loop(task: Problem, at: Descent, count: Array) -> Array:
    """The inverse Hessian's estimate times the gradient. Empty pairs have curvature 0 and fall out."""
    slots = [(count - 1 - i) % MEMORY for i in range(MEMORY)]  # newest first
    remaining, shares = at.gradient, []
    for slot in slots:
        share = at.curvature[slot] * (at.steps[slot] @ remaining)
        remaining = remaining - share * at.changes[slot]
        shares.append(share)
    newest = at.changes[slots[0]]
    scaled = newest @ (task.scale * newest)
    known = (at.curvature[slots[0]] > 0) & (scaled > 0)
    gamma = jnp.where(known, 1.0 / (jnp.where(known, at.curvature[slots[0]] * scaled, 1.0)), 1.0)
    result = gamma * task.scale * remaining
    for slot, share in zip(reversed(slots), reversed(shares), strict=True):
        result = result + (share - at.curvature[slot] * (at.changes[slot] @ result)) * at.steps[slot]
    return result


def _line_search(task: Problem, at: Descent, direction: Array, along: Array) -> Array:
    """The step where the slope along the direction has fallen to a tenth: Newton's method, kept in a bracket.

    f is convex along the line, so the sign of its slope says on which side the minimum is.
    """
    flat = direction[:-1] @ direction[:-1]
    tilt = at.theta[:-1] @ direction[:-1]

    def slopes(size: Array) -> tuple[Array, Array]:
        p = jax.nn.sigmoid(at.logits + size * along)
        first = task.weight @ ((p - task.y) * along) + task.l2 * (tilt + size * flat)
        return first, task.weight @ (p * (1 - p) * along**2) + task.l2 * flat

    downhill, _ = slopes(jnp.float32(0))

    def search(state: tuple[Array, Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array, Array]:
        size, low, high, slope, trial = state
        _, second = slopes(size)
        low, high = jnp.where(slope < 0, size, low), jnp.where(slope < 0, high, size)
        newton = size - slope / jnp.maximum(second, 1e-30)
        bisect = jnp.where(jnp.isinf(high), 4 * size, 0.5 * (low + high))
        size = jnp.where((newton > low) & (newton < high), newton, bisect)
        return size, low, high, slopes(size)[0], trial + 1

    one = jnp.float32(1)
    begin = (one, jnp.float32(0), jnp.float32(jnp.inf), slopes(one)[0], jnp.int32(0))
    size = lax.while_loop(lambda s: (jnp.abs(s[3]) > 0.1 * -downhill) & (s[4] < _SEARCHES), search, begin)[0]
    return jnp.where(downhill < 0, size, 0.0)
