"""Exact average precision and ROC-AUC in JAX: no thresholds, no bins, ties as scikit-learn treats
them.

Both are means over the P positives of how one positive, scored s, compares with all clips:

    average precision = mean of #{positives ≥ s} / #{clips ≥ s}
    ROC-AUC           = mean of (#{negatives < s} + #{negatives = s} / 2) / N

with N negatives; the second is the Mann–Whitney statistic. The counts are positions in two sorted
arrays, all scores and the positives' alone: two sorts of plain integers and a search cost less than
one sort that carries the labels along (python -m tests.benchmarks.sweep).
Source: `sklearn.metrics.average_precision_score` and `roc_auc_score`, scikit-learn 1.9.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

_LAST = jnp.iinfo(jnp.int32).max  # sorts behind every score, infinity included
# Types of which every value is a float32.
_EXACT_IN_FLOAT32 = frozenset(
    jnp.dtype(name)
    for name in ("float32", "float16", "bfloat16", "bool", "int8", "uint8", "int16", "uint16")
)
_BLOCK = 256  # positives looked up at a time; there are few of most tags


class _Counts(NamedTuple):
    """What both metrics count, for one tag. Positives come first, in ascending order of score;
    `real` marks them.

    All int32 `[clip]` but for real, bool `[clip]`, and positives, negatives, int32 `[]`: how many
    there are.
    """

    real: Array
    order: Array  # of their scores, as `_order` has it
    positives_above: Array  # positives scored at least as high
    clips_above: Array  # clips scored at least as high
    negatives_below: Array  # negatives scored lower
    negatives_tied: Array
    positives: Array
    negatives: Array


def average_precision(scores: ArrayLike, labels: ArrayLike) -> Array:
    """Average precision of `[..., clip]` scores against 0/1 labels of the same shape → float32
    `[...]`.

    NaN where there is no positive or no negative clip, or a score is NaN. Labels of −1 and 1 do as
    well. Raises ValueError if the shapes differ, on other labels, or on scores inside jit that
    float32 cannot hold.
    """
    return _per_row(_average_precision, scores, labels)


def roc_auc(scores: ArrayLike, labels: ArrayLike) -> Array:
    """Area under the ROC curve of `[..., clip]` scores against 0/1 labels of the same shape →
    float32 `[...]`.

    NaN where there is no positive or no negative clip, or a score is NaN. Labels of −1 and 1 do as
    well. Raises ValueError if the shapes differ, on other labels, or on scores inside jit that
    float32 cannot hold.
    """
    return _per_row(_roc_auc, scores, labels)


def both(scores: Array, labels: Array, counted: Array | None = None) -> tuple[Array, Array]:
    """(average precision, ROC-AUC) of one tag, `[clip]` → `[]`. counted: bool `[clip]`, the clips
    that take part.
    """
    counts = _counts(scores, labels, counted)
    return _average_precision(counts), _roc_auc(counts)


def best_threshold(scores: Array, positive: Array, known: Array) -> Array:
    """The threshold of best F1 of one tag, `[clip]` → `[]`: midway between the lowest score that is
    accepted and the highest that is not; of equally good ones the highest.

    known: bool `[clip]`, the clips that take part. +inf without a positive, −inf where all are
    accepted.
    """
    counts = _counts(scores, positive, known)
    f1 = 2 * counts.positives_above / (counts.clips_above + counts.positives)
    f1 = jnp.where(counts.real, f1, -1.0)
    best = scores.size - 1 - jnp.argmax(f1[::-1])  # it ends with a positive clip
    lowest = _score(counts.order[best])
    highest = jnp.max(jnp.where(known & (scores < lowest), scores, -jnp.inf))
    midway = (lowest + highest) / 2
    # between neighbouring float32 there is nothing
    midway = jnp.where(jnp.isfinite(highest) & (midway <= highest), lowest, midway)
    return jnp.where(counts.positives > 0, midway, jnp.inf)


def weighted(scores: ArrayLike, positive: ArrayLike, negative: ArrayLike) -> tuple[Array, Array]:
    """(average precision, ROC-AUC) of `[..., clip]` scores, float32 `[...]`, where each clip counts
    as a positive with one weight and as a negative with another, all `[..., clip]`: scikit-learn's
    sample_weight. NaN where all positive or all negative weights are 0, or a score is NaN.
    """
    scores = _exact_float32(scores)
    parts = [jnp.asarray(part, jnp.float32) for part in (positive, negative)]
    if not scores.shape == parts[0].shape == parts[1].shape or not scores.ndim:
        raise ValueError(f"scores {scores.shape} and weights {parts[0].shape} differ in shape")
    if not scores.size:
        return (jnp.full(scores.shape[:-1], jnp.nan),) * 2
    flat = (array.reshape(-1, scores.shape[-1]) for array in (scores, *parts))
    return tuple(row.reshape(scores.shape[:-1]) for row in _weighted_rows(*flat))


def mean_of_defined(values: np.ndarray) -> float:
    """The mean of those values `[row]` that are finite, in float64; NaN if none is."""
    defined = values[np.isfinite(values)]
    return float(np.mean(defined, dtype=np.float64)) if defined.size else float("nan")


@jax.jit
@jax.vmap
def _weighted_rows(scores: Array, positive: Array, negative: Array) -> tuple[Array, Array]:
    key = _order(scores)
    order = jnp.argsort(key)
    ascending = key[order]
    # summed from the highest score on: what few clips weigh is no difference of large sums
    sums = (jnp.cumsum(part[order[::-1]]) for part in (positive, negative))
    highest = [jnp.append(0.0, part) for part in sums]  # weight of the i highest scores
    above, higher = (
        key.size - jnp.searchsorted(ascending, key, side=side) for side in ("left", "right")
    )
    positives, negatives = (part[-1] for part in highest)
    positives_above, negatives_above = (part[above] for part in highest)
    negatives_below = negatives - negatives_above
    tied = negatives_above - highest[1][higher]
    precision = positives_above / jnp.maximum(positives_above + negatives_above, 1e-30)
    defined = (positives > 0) & (negatives > 0) & ~jnp.isnan(scores).any()
    total, pairs = jnp.where(positives > 0, positives, 1.0), positives * negatives
    average = jnp.sum(positive * precision) / total
    auc = jnp.sum(positive * (negatives_below + tied / 2)) / jnp.where(pairs > 0, pairs, 1.0)
    return jnp.where(defined, average, jnp.nan), jnp.where(defined, auc, jnp.nan)


def _per_row(metric: Callable[[_Counts], Array], scores: ArrayLike, labels: ArrayLike) -> Array:
    scores, labels = _exact_float32(scores), _positive(labels)
    if scores.shape != labels.shape or not scores.ndim:
        raise ValueError(
            f"scores {scores.shape} and labels {labels.shape} differ in shape, or have none"
        )
    if not scores.size:
        return jnp.full(scores.shape[:-1], jnp.nan)
    rows = _of_rows(
        metric, scores.reshape(-1, scores.shape[-1]), labels.reshape(-1, labels.shape[-1])
    )
    return rows.reshape(scores.shape[:-1])


def _positive(labels: ArrayLike) -> Array:
    """Labels as bool; where their values are known, they must be 0 and 1 or −1 and 1."""
    if not isinstance(labels, jax.core.Tracer):
        values = np.unique(np.asarray(labels))
        if not (np.isin(values, (0, 1)).all() or np.isin(values, (-1, 1)).all()):
            raise ValueError(f"labels must be 0 and 1, or -1 and 1; found {values[:5]}")
    return jnp.asarray(labels) > 0


@partial(jax.jit, static_argnums=0)
def _of_rows(metric: Callable[[_Counts], Array], scores: Array, labels: Array) -> Array:
    return jax.vmap(lambda s, y: metric(_counts(s, y)))(scores, labels)


def _exact_float32(scores: ArrayLike) -> Array:
    """Scores as float32 without making new ties: wider types become their ranks within a row, NaN
    stays NaN. Raises ValueError on wider types inside jit, where ranks would be needed unseen.
    """
    dtype = scores.dtype if isinstance(scores, Array) else np.asarray(scores).dtype
    if dtype in _EXACT_IN_FLOAT32:
        return jnp.asarray(scores, jnp.float32)
    if isinstance(scores, jax.core.Tracer):
        raise ValueError(
            f"scores of {dtype} do not fit into float32: different ones may become equal; inside "
            "jit, give float32"
        )
    array = np.asarray(scores)
    ranks = np.empty(array.shape, np.float32)
    for row in np.ndindex(array.shape[:-1]):
        ranks[row] = np.unique(array[row], return_inverse=True)[1]
    ranks[np.isnan(array)] = np.nan
    return jnp.asarray(ranks)


def _counts(scores: Array, labels: Array, counted: Array | None = None) -> _Counts:
    counted = jnp.ones(scores.shape, bool) if counted is None else counted
    counted &= ~jnp.isnan(scores).any()  # NaN: no clip counts, so there is no metric
    labels = labels.astype(bool) & counted
    order = _order(scores)
    everything = lax.sort(jnp.where(counted, order, _LAST))
    hits = lax.sort(jnp.where(labels, order, _LAST))
    positives, clips = jnp.sum(labels), jnp.sum(counted)
    below, not_above = _search(everything, hits, positives)
    first, last = _tie_bounds(hits)
    tied = last - first
    return _Counts(
        jnp.arange(scores.size) < positives,
        hits,
        positives - first,
        clips - below,
        below - first,
        not_above - below - tied,
        positives,
        clips - positives,
    )


def _search(everything: Array, hits: Array, positives: Array) -> Array:
    """How many of everything lie below each hit, and how many not above, `[2, hit]`; of the first
    `positives` only.
    """
    blocks = -(-hits.size // _BLOCK)
    hits = jnp.pad(hits, (0, blocks * _BLOCK - hits.size), constant_values=_LAST)

    def look_up(state: tuple[Array, Array]) -> tuple[Array, Array]:
        block, found = state
        wanted = lax.dynamic_slice(hits, (block * _BLOCK,), (_BLOCK,))
        below = jnp.searchsorted(everything, jnp.stack([wanted, wanted + 1]), method="scan")
        return block + 1, lax.dynamic_update_slice(
            found, below.astype(jnp.int32), (jnp.int32(0), block * _BLOCK)
        )

    nothing = jnp.zeros((2, hits.size), jnp.int32)
    found = lax.while_loop(
        lambda state: state[0] * _BLOCK < positives, look_up, (jnp.int32(0), nothing)
    )[1]
    return found[:, : everything.size]


def _tie_bounds(ascending: Array) -> tuple[Array, Array]:
    """Where the group of equal values begins that each element belongs to, and where the next group
    begins.
    """
    position = jnp.arange(ascending.size)
    new = ascending[1:] != ascending[:-1]
    first = lax.cummax(jnp.where(jnp.append(True, new), position, 0))
    last = lax.cummin(jnp.where(jnp.append(new, True), position + 1, ascending.size), reverse=True)
    return first, last


def _order(scores: Array) -> Array:
    """int32 that compare as the float32 do; subnormals, which arithmetic may flush to zero,
    included. −0.0 is 0.0.
    """
    bits = lax.bitcast_convert_type(scores, jnp.int32)
    order = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return jnp.where(order == -1, 0, order)


def _score(order: Array) -> Array:
    """The score whose `_order` it is."""
    return lax.bitcast_convert_type(order ^ ((order >> 31) & 0x7FFFFFFF), jnp.float32)


def _average_precision(counts: _Counts) -> Array:
    return _mean(counts, counts.positives_above / counts.clips_above)


def _roc_auc(counts: _Counts) -> Array:
    share = lambda negatives: negatives / counts.negatives  # noqa: E731
    return _mean(counts, share(counts.negatives_below) + 0.5 * share(counts.negatives_tied))


def _mean(counts: _Counts, values: Array) -> Array:
    """Over the positives; NaN where a class is absent."""
    total = jnp.sum(jnp.where(counts.real, values, 0.0))
    return jnp.where(
        (counts.positives > 0) & (counts.negatives > 0), total / counts.positives, jnp.nan
    )
