"""Exact average precision and ROC-AUC in JAX: no thresholds, no bins, ties as scikit-learn treats them.

Both are functions of ranks alone. With clips sorted by descending score and ties taken as one group,
let tp(g) and fp(g) count the positives and negatives scored at least as high as group g:

    average precision = Σ_g (tp(g) − tp(g−1)) / P · tp(g) / (tp(g) + fp(g))
    ROC-AUC           = Σ_g (tp(g) − tp(g−1)) / P · (1 − (fp(g) + fp(g−1)) / 2N)

with P positives and N negatives; the second is the Mann–Whitney statistic, a tie counting one half.
Source: `sklearn.metrics.average_precision_score` and `roc_auc_score`, scikit-learn 1.9.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike


def average_precision(scores: ArrayLike, labels: ArrayLike) -> Array:
    """Average precision of `[..., clip]` scores against 0/1 labels of the same shape → float32 `[...]`.

    NaN where there is no positive or no negative clip, or a score is NaN. Raises ValueError if the shapes differ.
    """
    return _per_row(_average_precision, scores, labels)


def roc_auc(scores: ArrayLike, labels: ArrayLike) -> Array:
    """Area under the ROC curve of `[..., clip]` scores against 0/1 labels of the same shape → float32 `[...]`.

    NaN where there is no positive or no negative clip, or a score is NaN. Raises ValueError if the shapes differ.
    """
    return _per_row(_roc_auc, scores, labels)


def both(scores: Array, labels: Array) -> tuple[Array, Array]:
    """(average precision, ROC-AUC) of one tag, `[clip]` → `[]`, from a single sort."""
    groups = _tie_groups(scores, labels)
    return _average_precision(*groups), _roc_auc(*groups)


def _per_row(metric: Callable[..., Array], scores: ArrayLike, labels: ArrayLike) -> Array:
    scores, labels = _exact_float32(scores), jnp.asarray(labels, bool)
    if scores.shape != labels.shape:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} differ in shape")
    rows = _of_rows(metric, scores.reshape(-1, scores.shape[-1]), labels.reshape(-1, labels.shape[-1]))
    return rows.reshape(scores.shape[:-1])


@partial(jax.jit, static_argnums=0)
def _of_rows(metric: Callable[..., Array], scores: Array, labels: Array) -> Array:
    return jax.vmap(lambda s, y: metric(*_tie_groups(s, y)))(scores, labels)


def _exact_float32(scores: ArrayLike) -> Array:
    """Scores as float32 without making new ties: wider NumPy types become their dense ranks."""
    if isinstance(scores, (np.ndarray, list, tuple)):
        array = np.asarray(scores)
        if array.dtype not in (np.float32, np.float16) and not np.isnan(array).any():
            array = np.unique(array, return_inverse=True)[1].reshape(array.shape)
        return jnp.asarray(array, jnp.float32)
    return jnp.asarray(scores, jnp.float32)


def _tie_groups(scores: Array, labels: Array) -> tuple[Array, Array, Array]:
    """For each clip in descending order of score: (is positive, tp of its group, fp of its group and above).

    All `[clip]`; tp and fp are int32.
    """
    descending, hits = lax.sort((~_order(scores), labels.astype(jnp.int32)), num_keys=1)
    rank = jnp.arange(1, scores.size + 1)
    last_of_group = jnp.append(descending[1:] != descending[:-1], True)

    def at_group_end(count: Array) -> Array:  # counts only grow, so the group's end is the least end to the right
        return lax.cummin(jnp.where(last_of_group, count, jnp.iinfo(jnp.int32).max), reverse=True)

    tp = at_group_end(jnp.cumsum(hits))
    return jnp.where(jnp.isnan(scores).any(), 0, hits), tp, at_group_end(rank) - tp  # NaN: no class, so no metric


def _order(scores: Array) -> Array:
    """int32 that compare as the float32 do; subnormals, which arithmetic may flush to zero, included. −0.0 is 0.0."""
    bits = lax.bitcast_convert_type(scores, jnp.int32)
    order = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return jnp.where(order == -1, 0, order)


def _average_precision(hits: Array, tp: Array, fp: Array) -> Array:
    # each positive of a group contributes the precision at the group's end
    return _defined(jnp.sum(hits * tp / (tp + fp)) / jnp.sum(hits), hits)


def _roc_auc(hits: Array, tp: Array, fp: Array) -> Array:
    negatives = hits.size - jnp.sum(hits)
    # fp of the group above: what precedes this group's first clip; walking down, the greatest fp below one's own
    above = lax.cummax(jnp.where(jnp.append(True, fp[1:] + tp[1:] != fp[:-1] + tp[:-1]),
                                 jnp.append(0, fp[:-1]), 0))
    share_below = 1.0 - 0.5 * (fp / negatives + above / negatives)
    return _defined(jnp.sum(hits * share_below) / jnp.sum(hits), hits)


def _defined(value: Array, hits: Array) -> Array:
    return jnp.where((jnp.sum(hits) > 0) & (jnp.sum(hits) < hits.size), value, jnp.nan)
