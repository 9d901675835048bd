"""L2-regularised logistic regression to convergence, for all tags of one support set, over a path
of strengths.

    f(w, b) = mean over support clips of BCE(σ(x·w + b), y) + (l2 / 2)·‖w‖²       for each tag

which is scikit-learn's LogisticRegression with C = 1 / (n·l2): the bias is not penalised. L-BFGS
(Nocedal & Wright 2006, algorithm 7.4) made for a model that is linear:

- The minimum lies in the span of the support clips, w = Σᵢ aᵢ·xᵢ, so with fewer clips than
  dimensions everything is done on coefficients a and the Gram matrix G: logits are G·a, and w·v is
  a·G·c. That is the dual problem; the primal one works on w itself. Both descend through the same
  weights.
- The Hessian is at most XᵀX/4n + l2 (Böhning 1992), whose Cholesky factor is the first guess of its
  inverse: how badly the features are scaled then matters little.
- Logits are linear in the coefficients, so trial steps of a line search cost no product with the
  features.
- f is l2-strongly convex in w: f − min f ≤ ‖∇f‖² / (2·l2) says when to stop.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.lax import linalg

WEAKEST_DUAL = 1e-4  # in units of the clips' mean squared distance from their mean
MEMORY = 8  # pairs of steps and gradient differences
_GAP = 1e-6  # stop once f is known to be within this share of its minimum,
_STALL = 1e-7  # or falls by less than this share, while that bound does not halve,
_STALLED = 3  # this many times in a row: float32 resolves no more
_ITERATIONS = 300
_SEARCHES = 12  # trial steps per line search
# clips, whose sum XLA's threads do not share: Eigen's shardByInnerDim,
# TensorContractionThreadPool.h
_BLOCK = 64


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Problem:
    """The data of one support set. Columns are tags; a coefficient array has the bias as its last
    row.

    features: float32 `[clip, coef]`, centred: the Gram matrix if `dual`, else the clips themselves.
    curvature: float32 `[coef, coef]`, XᵀX/n in the primal, G/n in the dual. weight: float32
    `[clip]`, sums to 1, 0 for padding. sign: float32 `[clip, tag]`, 1 where the clip carries the
    tag, else −1: BCE is softplus(−sign·logit), whose slope keeps its relative precision as it
    vanishes, which σ(logit) − label would not.
    """

    features: Array
    curvature: Array
    sign: Array
    weight: Array
    dual: bool = field(metadata={"static": True})

    def metric(self, theta: Array) -> Array:
        """What makes an inner product of weights a plain one: ⟨u, v⟩ = Σ u·metric(v)."""
        return jnp.concatenate([self.features @ theta[:-1], theta[-1:]]) if self.dual else theta

    def logits(self, theta: Array, metric: Array) -> Array:
        """`[clip, tag]`, given metric(theta)."""
        return (metric[:-1] if self.dual else self.features @ theta[:-1]) + theta[-1]

    def squared_norm(self, theta: Array, logits: Array) -> Array:
        """‖w‖² `[tag]`, given the logits."""
        return _dot(theta[:-1], logits - theta[-1] if self.dual else theta[:-1])

    def pull(self, error: Array) -> Array:
        """Coefficients of the gradient of the mean loss, from ∂loss/∂logits `[clip, tag]`."""
        total = _total(error)[None]
        if (
            self.dual
        ):  # clips are centred: a multiple of all of them is nothing, but would round to something
            return jnp.concatenate([error - self.weight[:, None] * total, total])
        return jnp.concatenate([over_clips(self.features, error), total])


class Fit(NamedTuple):
    """A minimum. theta: `[coef + 1, tag]`; value, gradient_norm: `[tag]`; iterations: int32
    `[]`.
    """

    theta: Array
    value: Array
    gradient_norm: Array
    iterations: Array


class _Pairs(NamedTuple):
    """The last MEMORY steps and gradient differences, `[pair, coef + 1, tag]`; inverse: `[pair,
    tag]`, 1 / ⟨step, change⟩, or 0 where the pair is of no use.
    """

    steps: Array
    step_metrics: Array
    changes: Array
    change_metrics: Array
    inverse: Array


class _Descent(NamedTuple):
    theta: Array
    logits: Array
    value: Array
    gradient: Array
    gradient_metric: Array
    gap: Array
    pairs: _Pairs
    stalled: Array
    done: Array
    iteration: Array


def path(problem: Problem, l2s: Array) -> Fit:
    """A minimum for each of l2s `[strength]`, strongest first, each starting at the one before."""

    def one(theta: Array, l2: Array) -> tuple[Array, Fit]:
        fit = minimise(problem, l2, theta)
        return fit.theta, fit

    return lax.scan(one, origin(problem), l2s)[1]


def over_clips(left: Array, right: Array) -> Array:
    """leftᵀ @ right, of `[clip, …]` both.

    On a CPU by blocks of clips: XLA's threads share a longer sum among them, so that bits depend on
    how many they are, and under weak strengths a fit depends on bits.
    """
    return lax.platform_dependent(
        left, right, cpu=_over_blocks, default=lambda left, right: left.T @ right
    )


def _over_blocks(left: Array, right: Array) -> Array:
    size = min(_BLOCK, len(left))
    end = len(left) // size * size

    def add(i: Array, total: Array) -> Array:
        rows = [lax.dynamic_slice_in_dim(part, i * size, size) for part in (right, left)]
        return total + rows[0].T @ rows[1]

    total = lax.fori_loop(0, end // size, add, jnp.zeros((right.shape[1], left.shape[1])))
    return (
        total + right[end:].T @ left[end:]
    ).T  # at 2816 dimensions twice as fast as left.T @ right


def origin(problem: Problem) -> Array:
    """Zero weights, and the bias that fits the prevalence (clipped where a class is absent) →
    `[coef + 1, tag]`.
    """
    balance = jnp.clip(problem.weight @ problem.sign, 1e-4 - 1, 1 - 1e-4)
    zeros = jnp.zeros((problem.features.shape[1], balance.size))
    return jnp.append(zeros, jnp.log((1 + balance) / (1 - balance))[None], axis=0)


def minimise(problem: Problem, l2: Array, theta: Array) -> Fit:
    """Minimise f from theta. A tag without a positive or a negative clip has no minimum and stays
    where it is.
    """
    size = problem.curvature.shape[0]
    ridge = jnp.maximum(
        l2, 1e-5 * jnp.sum(jnp.diagonal(problem.curvature)) / size
    )  # float32 factors no worse a matrix
    bound = problem.curvature / 4 + jnp.maximum(ridge, 1e-30) * jnp.eye(size)
    upper = linalg.cholesky(
        bound, symmetrize_input=False
    ).T  # the factor by columns, as LAPACK reads it: no copies
    real = problem.weight[:, None] > 0
    absent = jnp.all(~real | (problem.sign > 0), axis=0) | jnp.all(
        ~real | (problem.sign < 0), axis=0
    )

    def precondition(gradient: Array) -> Array:
        half = linalg.triangular_solve(upper.T, gradient[:-1].T, lower=True, transpose_a=True)
        return jnp.append(
            linalg.triangular_solve(upper.T, half, lower=True).T, 4 * gradient[-1:], axis=0
        )

    def state(theta: Array, logits: Array) -> tuple[Array, Array, Array, Array]:
        losses = jax.nn.softplus(-problem.sign * logits)
        value = problem.weight @ losses + 0.5 * l2 * problem.squared_norm(theta, logits)
        error = -problem.weight[:, None] * problem.sign * jax.nn.sigmoid(-problem.sign * logits)
        gradient = problem.pull(error).at[:-1].add(l2 * theta[:-1])
        metric = problem.metric(gradient)
        squared = gradient * metric
        return value, gradient, metric, _total(squared[:-1]) / (2 * l2) + 2 * squared[-1]

    def step(at: _Descent) -> _Descent:
        direction = -_two_loop(at.pairs, at.iteration, at.gradient, precondition)
        metric = problem.metric(direction)
        along = problem.logits(direction, metric)
        curve = l2 * jnp.stack(
            [_dot(at.theta[:-1], metric[:-1]), _dot(direction[:-1], metric[:-1])]
        )
        size = jnp.where(at.done, 0.0, _line_search(problem, at.logits, along, curve))
        theta, logits = at.theta + size * direction, at.logits + size * along
        moved = (theta, logits, *state(theta, logits))
        # or else rounding made the step a bad one: stay, and forget the pairs behind it
        better = (moved[2] <= at.value) | (moved[5] < at.gap)
        theta, logits, value, gradient, gradient_metric, gap = (
            jnp.where(better, new, old) for new, old in zip(moved, at[:6], strict=True)
        )
        slow = (at.value - value <= _STALL * at.value) & (gap > 0.5 * at.gap)
        stalled = jnp.where(slow | at.done, at.stalled + 1, 0)
        pairs = _remember(
            at.pairs,
            at.iteration,
            theta - at.theta,
            size * metric,
            gradient - at.gradient,
            gradient_metric - at.gradient_metric,
        )
        pairs = pairs._replace(inverse=jnp.where(better, pairs.inverse, 0.0))
        done = at.done | (stalled >= _STALLED) | (gap <= _GAP * value)
        return _Descent(
            theta,
            logits,
            value,
            gradient,
            gradient_metric,
            gap,
            pairs,
            stalled,
            done,
            at.iteration + 1,
        )

    logits = problem.logits(theta, problem.metric(theta))
    nothing = jnp.zeros((MEMORY, *theta.shape))
    start = _Descent(
        theta,
        logits,
        *state(theta, logits),
        _Pairs(nothing, nothing, nothing, nothing, jnp.zeros((MEMORY, theta.shape[1]))),
        jnp.zeros(theta.shape[1], jnp.int32),
        absent,
        jnp.int32(0),
    )
    end = lax.while_loop(lambda at: ~at.done.all() & (at.iteration < _ITERATIONS), step, start)
    norm = jnp.sqrt(jnp.maximum(_dot(end.gradient, end.gradient_metric), 0.0))
    return Fit(end.theta, end.value, jnp.where(absent, jnp.nan, norm), end.iteration)


def _dot(left: Array, right: Array) -> Array:
    return _total(left * right)


def _total(values: Array) -> Array:
    """Over the first axis. On a CPU as a product: bits of a sum of XLA's depend on the number of
    threads.
    """
    return lax.platform_dependent(
        values,
        cpu=lambda values: jnp.ones(len(values)) @ values,
        default=lambda values: jnp.sum(values, axis=0),
    )


def _remember(pairs: _Pairs, count: Array, *new: Array) -> _Pairs:
    slot = count % MEMORY
    steps, step_metrics, changes, change_metrics = (
        old.at[slot].set(array) for old, array in zip(pairs[:4], new, strict=True)
    )
    product = _dot(new[1], new[2])
    inverse = jnp.where(product > 0, 1.0 / jnp.where(product > 0, product, 1.0), 0.0)
    return _Pairs(steps, step_metrics, changes, change_metrics, pairs.inverse.at[slot].set(inverse))


def _two_loop(
    pairs: _Pairs, count: Array, gradient: Array, precondition: Callable[[Array], Array]
) -> Array:
    """The estimated inverse Hessian times the gradient."""
    kept = jnp.minimum(count, MEMORY)

    def backward(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        remaining, shares = carry
        slot = (count - 1 - i) % MEMORY
        share = pairs.inverse[slot] * _dot(pairs.step_metrics[slot], remaining)
        return remaining - share * pairs.changes[slot], shares.at[slot].set(share)

    def forward(i: Array, result: Array) -> Array:
        slot = (count - kept + i) % MEMORY
        share = shares[slot] - pairs.inverse[slot] * _dot(pairs.change_metrics[slot], result)
        return result + share * pairs.steps[slot]

    remaining, shares = lax.fori_loop(0, kept, backward, (gradient, jnp.zeros_like(pairs.inverse)))
    return lax.fori_loop(0, kept, forward, precondition(remaining))


def _line_search(problem: Problem, logits: Array, along: Array, curve: Array) -> Array:
    """The step `[tag]` where the slope has fallen to a tenth: Newton's method, kept in a bracket.

    f is convex along the line, so the sign of its slope says on which side the minimum is. curve
    `[2, tag]`: the penalty's slope at the start, and its growth.
    """
    margin, gain = problem.sign * logits, problem.sign * along

    def slopes(size: Array) -> tuple[Array, Array]:
        miss = jax.nn.sigmoid(-margin - size * gain)
        first = -problem.weight @ (miss * gain) + curve[0] + size * curve[1]
        return first, problem.weight @ (miss * (1 - miss) * gain**2) + curve[1]

    one = jnp.ones(along.shape[1])
    downhill, _ = slopes(0 * one)

    def open_(slope: Array) -> Array:
        return (jnp.abs(slope) > -0.1 * downhill) & (downhill < 0)

    def search(state: Any) -> Any:
        size, low, high, slope, second, trial = state
        low, high = jnp.where(slope < 0, size, low), jnp.where(slope < 0, high, size)
        newton = size - slope / jnp.maximum(second, 1e-30)
        bisect = jnp.where(jnp.isinf(high), 4 * size, 0.5 * (low + high))
        trial_size = jnp.where((newton > low) & (newton < high), newton, bisect)
        size = jnp.where(open_(slope), trial_size, size)
        return size, low, high, *slopes(size), trial + 1

    begin = (one, 0 * one, jnp.inf * one, *slopes(one), jnp.int32(0))
    size = lax.while_loop(lambda s: open_(s[3]).any() & (s[5] < _SEARCHES), search, begin)[0]
    return jnp.where(downhill < 0, size, 0.0)
