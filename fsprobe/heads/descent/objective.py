"""L2-regularised logistic regression: the objective of all tags of one support set, and what a
descent needs of it.

    f(w, b) = Σ_clip positive·softplus(−z) + negative·softplus(z)  +  (l2 / 2)·‖w‖²    for each tag

with z = x·w + b + offset, and weights that sum to 1 over the clips: with every label known, the
mean of the binary cross-entropy. The bias is not penalised: scikit-learn's LogisticRegression with
C = 1 / (clips·l2). The minimum lies in the span of the support clips, w = Σᵢ aᵢ·xᵢ, so with fewer
clips than dimensions everything is done on coefficients a and the Gram matrix G: logits are G·a,
and w·v is a·G·c. That is the dual problem; the primal one works on w itself.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

_SEARCHES = 40  # trial steps per line search
_BIAS_STEPS = 3
# clips, whose sum XLA's threads do not share: Eigen's shardByInnerDim,
# TensorContractionThreadPool.h
_BLOCK = 64


class TagWeights(NamedTuple):
    """What a label says in the loss. A soft label (q, 1 − q) counts on its likelier side.

    sign: float32 `[clip, tag]`, 1 where positive ≥ negative, else −1. weight: float32
    `[clip, tag]`, or `[clip, 1]` where all tags know the same clips: positive + negative, divided
    by its sum over the clips. soft: float32 `[clip, tag]`, the smaller of both, divided alike, or
    None where every label is hard. The loss of a clip is weight·softplus(−sign·z) + soft·sign·z.
    """

    sign: Array
    weight: Array
    soft: Array | None = None

    def total(self, values: Array) -> Array:
        """Σ_clip weight·values → `[tag]`."""
        if self.weight.shape[1] == 1:
            return self.weight[:, 0] @ values
        return total(self.weight * values)


def tag_weights(
    positive: Array, negative: Array | None, real: Array, tag_mask: Array
) -> TagWeights:
    """From the labels `[clip, tag]` of one support set.

    negative: None where whatever is not positive is negative. real: bool `[clip]`, False for
    padding. tag_mask: bool `[tag]`, False for padding, which gets a label that asks for no fit.
    """
    if negative is None:
        sign = jnp.where((positive > 0) | ~tag_mask, 1.0, -1.0)
        return TagWeights(sign, (real / jnp.maximum(jnp.sum(real), 1))[:, None].astype(jnp.float32))
    hard = negative.dtype == bool
    positive, negative = (jnp.where(real[:, None], part, 0.0) for part in (positive, negative))
    known = positive + negative
    scale = 1.0 / jnp.maximum(jnp.sum(known, axis=0), 1e-30)
    sign = jnp.where((positive >= negative) | ~tag_mask, 1.0, -1.0)
    soft = None if hard else jnp.minimum(positive, negative) * scale
    return TagWeights(sign, known * scale, soft)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Problem:
    """The data of one support set. Columns are tags; a coefficient array has the bias as its last
    row.

    features: float32 `[clip, coef]`, centred: the Gram matrix if `dual`, else the clips themselves.
    curvature: float32 `[coef, coef]`, XᵀX/n in the primal, G/n in the dual. centre: float32
    `[clip]`, with which the features are centred: sums to 1, 0 for padding. offset: float32
    `[clip, tag]`, added to the logits, or None.
    """

    features: Array
    curvature: Array
    centre: Array
    labels: TagWeights
    dual: bool = field(metadata={"static": True})
    offset: Array | None = None

    def of_tags(self, start: Array, count: int) -> "Problem":
        """Of `count` tags, from `start` on."""

        def part(array: Array) -> Array:
            if array.shape[1] < self.labels.sign.shape[1]:  # one for all tags
                return array
            return lax.dynamic_slice_in_dim(array, start, count, 1)

        labels, offset = jax.tree.map(part, (self.labels, self.offset))
        return replace(self, labels=labels, offset=offset)

    def metric(self, theta: Array) -> Array:
        """What makes an inner product of weights a plain one: ⟨u, v⟩ = Σ u·metric(v)."""
        return jnp.concatenate([self.features @ theta[:-1], theta[-1:]]) if self.dual else theta

    def change(self, theta: Array, metric: Array) -> Array:
        """What theta adds to the logits `[clip, tag]`, given metric(theta)."""
        return (metric[:-1] if self.dual else self.features @ theta[:-1]) + theta[-1]

    def logits(self, theta: Array) -> Array:
        """`[clip, tag]`."""
        change = self.change(theta, self.metric(theta))
        return change if self.offset is None else change + self.offset

    def metric_at(self, theta: Array, logits: Array) -> Array:
        """metric(theta), but for the bias, given the logits: without a product."""
        if not self.dual:
            return theta[:-1]
        return (logits if self.offset is None else logits - self.offset) - theta[-1]

    def pull(self, error: Array) -> Array:
        """Coefficients of the gradient of the loss, from ∂loss/∂logits `[clip, tag]`."""
        bias = total(error)[None]
        if self.dual:
            # clips are centred: a multiple of all of them is nothing, but would round to something
            return jnp.concatenate([error - self.centre[:, None] * bias, bias])
        return jnp.concatenate([over_clips(self.features, error), bias])

    def hopeless(self) -> Array:
        """bool `[tag]`: without a positive or without a negative clip there is no minimum."""
        known = self.labels.weight > 0
        one_sided = jnp.all(~known | (self.labels.sign > 0), axis=0) | jnp.all(
            ~known | (self.labels.sign < 0), axis=0
        )
        if self.labels.soft is None:
            return one_sided
        return one_sided & ~jnp.any(self.labels.soft > 0, axis=0)


class Place(NamedTuple):
    """Where a descent stands. theta, gradient, gradient_metric: `[coef + 1, tag]`; logits: `[clip,
    tag]`; value, gap: `[tag]`, f and an estimate of how far it lies above its minimum:

        f − min f ≈ ‖∂f/∂w‖² / (2·l2) + 2·(∂f/∂b)²

    With the bias at its best this is a bound, from strong convexity. The second term takes
    ∂²f/∂b² at its largest, 1/4; of a tag of few positives it is far smaller. So heads get
    `bias_shift`.
    """

    theta: Array
    logits: Array
    value: Array
    gradient: Array
    gradient_metric: Array
    gap: Array


def place(problem: Problem, l2: Array, theta: Array, logits: Array) -> Place:
    """The objective at theta, whose logits are given."""
    labels = problem.labels
    margin = labels.sign * logits
    squared_norm = dot(theta[:-1], problem.metric_at(theta, logits))
    value = labels.total(jax.nn.softplus(-margin)) + 0.5 * l2 * squared_norm
    # the slope keeps its relative precision as it vanishes, which σ(logit) − label would not
    error = -labels.weight * labels.sign * jax.nn.sigmoid(-margin)
    if labels.soft is not None:
        value += total(labels.soft * margin)
        error += labels.soft * labels.sign
    gradient = problem.pull(error).at[:-1].add(l2 * theta[:-1])
    metric = problem.metric(gradient)
    return Place(theta, logits, value, gradient, metric, _gap(gradient, metric, l2))


def at_strength(problem: Problem, at: Place, before: Array, l2: Array) -> Place:
    """The place `at`, whose strength is `before`, at the strength l2: without a product."""
    weights, more = at.theta[:-1], l2 - before
    added = problem.metric_at(at.theta, at.logits)
    gradient = at.gradient.at[:-1].add(more * weights)
    metric = at.gradient_metric.at[:-1].add(more * added)
    value = at.value + 0.5 * more * dot(weights, added)
    return Place(at.theta, at.logits, value, gradient, metric, _gap(gradient, metric, l2))


def _gap(gradient: Array, metric: Array, l2: Array) -> Array:
    squared = gradient * metric
    return total(squared[:-1]) / (2 * l2) + 2 * squared[-1]


def moved(
    problem: Problem, l2: Array, at: Place, direction: Array, metric: Array, frozen: Array
) -> tuple[Place, Array]:
    """The least place along `direction`, and the step taken, `[tag]`. Frozen tags stay, and so do
    tags that rounding would leave worse off. metric: of the direction.
    """
    along = problem.change(direction, metric)
    growth = l2 * jnp.stack([dot(at.theta[:-1], metric[:-1]), dot(direction[:-1], metric[:-1])])
    slope = jnp.where(frozen, 0.0, dot(at.gradient, metric))
    size = _line_search(problem.labels, at.logits, along, growth, slope)
    new = place(problem, l2, at.theta + size * direction, at.logits + size * along)
    better = (new.value <= at.value) | (new.gap < at.gap)
    kept = jax.tree.map(partial(jnp.where, better), new, at)
    return kept, jnp.where(better, size, 0.0)


def bias_shift(problem: Problem, theta: Array) -> Array:
    """What the bias lacks of its best, `[tag]`, the weights as they are: no score changes its rank.
    Newton's method; a step that does not bring the slope nearer to 0 is not taken.
    """
    labels, logits = problem.labels, problem.logits(theta)
    soft = 0.0 if labels.soft is None else total(labels.soft * labels.sign)

    def slopes(shift: Array) -> tuple[Array, Array]:
        miss = jax.nn.sigmoid(-labels.sign * (logits + shift))
        return soft - labels.total(labels.sign * miss), labels.total(miss * (1 - miss))

    def step(_: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        shift, first, second = state
        trial = shift - jnp.clip(first / jnp.maximum(second, 1e-30), -1, 1)
        new = (trial, *slopes(trial))
        better = jnp.abs(new[1]) < jnp.abs(first)
        return jax.tree.map(partial(jnp.where, better), new, state)

    nothing = jnp.zeros(theta.shape[1])
    shift = lax.fori_loop(0, _BIAS_STEPS, step, (nothing, *slopes(nothing)))[0]
    return jnp.where(problem.hopeless(), 0.0, shift)


def _line_search(
    labels: TagWeights, logits: Array, along: Array, growth: Array, downhill: Array
) -> Array:
    """The step `[tag]` where the slope has fallen to a tenth: Newton's method, kept in a bracket.
    None where downhill, the slope at the start `[tag]`, is not negative.

    f is convex along the line, so the sign of its slope says on which side the minimum is. growth
    `[2, tag]`: the penalty's slope at the start, and how it grows.
    """
    margin, gain = labels.sign * logits, labels.sign * along
    start = growth[0] if labels.soft is None else growth[0] + total(labels.soft * gain)

    def slopes(size: Array) -> tuple[Array, Array]:
        miss = jax.nn.sigmoid(-margin - size * gain)
        first = -labels.total(miss * gain) + start + size * growth[1]
        return first, labels.total(miss * (1 - miss) * gain**2) + growth[1]

    one = jnp.ones(along.shape[1])

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


def over_clips(left: Array, right: Array) -> Array:
    """leftᵀ @ right, of `[clip, …]` both.

    On a CPU by blocks of clips: XLA divides a longer sum among its threads, so that its last bits
    depend on their number, and with a weak penalty a fit depends on those bits.
    """
    return lax.platform_dependent(
        left, right, cpu=_over_blocks, default=lambda left, right: left.T @ right
    )


def _over_blocks(left: Array, right: Array) -> Array:
    size = min(_BLOCK, len(left))
    end = len(left) // size * size

    def add(i: Array, so_far: Array) -> Array:
        rows = [lax.dynamic_slice_in_dim(part, i * size, size) for part in (right, left)]
        return so_far + rows[0].T @ rows[1]

    blocks = lax.fori_loop(0, end // size, add, jnp.zeros((right.shape[1], left.shape[1])))
    # at 2816 dimensions twice as fast as left.T @ right
    return (blocks + right[end:].T @ left[end:]).T


def dot(left: Array, right: Array) -> Array:
    """The sum of products over the first axis."""
    return total(left * right)


def total(values: Array) -> Array:
    """Over the first axis. On a CPU as a product: bits of a sum of XLA's depend on the number of
    threads.
    """
    return lax.platform_dependent(
        values,
        cpu=lambda values: jnp.ones(len(values)) @ values,
        default=lambda values: jnp.sum(values, axis=0),
    )
