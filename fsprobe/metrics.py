"""Exact average precision and ROC-AUC in JAX: no thresholds, no bins, ties as scikit-learn treats them.

Both are functions of ranks alone. With clips sorted by descending score and ties taken as one group,
let tp(g) and fp(g) count the positives and negatives scored at least as high as group g:

    average precision = Σ_g (tp(g) − tp(g−1)) / P · tp(g) / (tp(g) + fp(g))
    ROC-AUC           = Σ_g (tp(g) − tp(g−1)) / P · (1 − (fp(g) + fp(g−1)) / 2N)

with P positives and N negatives; the second is the Mann–Whitney statistic, a tie counting one half.
Source: `sklearn.metrics.average_precision_score` and `roc_auc_score`, scikit-learn 1.9.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike


def average_precision(scores: ArrayLike, labels: ArrayLike) -> Array:
    """Average precision of `[..., clip]` scores against 0/1 labels of the same shape → float32 `[...]`.

    NaN where there is no positive or no negative clip. Raises ValueError if the shapes differ.
    """
    return _per_row(_average_precision, scores, labels)


def roc_auc(scores: ArrayLike, labels: ArrayLike) -> Array:
    """Area under the ROC curve of `[..., clip]` scores against 0/1 labels of the same shape → float32 `[...]`.

    NaN where there is no positive or no negative clip. Raises ValueError if the shapes differ.
    """
    return _per_row(_roc_auc, scores, labels)


def both(scores: Array, labels: Array) -> tuple[Array, Array]:
    """(average precision, ROC-AUC) of one tag, `[clip]` → `[]`, from a single sort."""
    counts = _tie_groups(scores, labels)
    return _average_precision(*counts), _roc_auc(*counts)


def _per_row(metric: Callable[..., Array], scores: ArrayLike, labels: ArrayLike) -> Array:
    scores, labels = _exact_float32(scores), jnp.asarray(labels, bool)
    if scores.shape != labels.shape:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} differ in shape")
    one = lambda s, y: metric(*_tie_groups(s, y))  # noqa: E731
    rows = jax.vmap(one)(scores.reshape(-1, scores.shape[-1]), labels.reshape(-1, labels.shape[-1]))
    return rows.reshape(scores.shape[:-1])


def _exact_float32(scores: ArrayLike) -> Array:
    """Scores as float32 without making new ties: wider NumPy types become their dense ranks."""
    if isinstance(scores, (np.ndarray, list, tuple)):
        array = np.asarray(scores)
        if array.dtype not in (np.float32, np.float16):
            if np.isnan(array).any():
                raise ValueError("scores hold NaN")
            array = np.unique(array, return_inverse=True)[1].reshape(array.shape)
        return jnp.asarray(array, jnp.float32)
    return jnp.asarray(scores, jnp.float32)


def _tie_groups(scores: Array, labels: Array) -> tuple[Array, Array, Array]:
    """For each clip in descending order of score: (is positive, tp of its group, fp of its group and above).

    All `[clip]`; tp and fp are int32. Zero is made unsigned first: −0.0 and 0.0 are a tie.
    """
    descending, hits = lax.sort((-(scores + 0.0), labels.astype(jnp.int32)), num_keys=1)
    rank = jnp.arange(1, scores.size + 1)
    last_of_group = jnp.append(descending[1:] != descending[:-1], True)

    def at_group_end(count: Array) -> Array:  # counts only grow, so the group's end is the least end to the right
        return lax.cummin(jnp.where(last_of_group, count, jnp.iinfo(jnp.int32).max), reverse=True)

    tp = at_group_end(jnp.cumsum(hits))
    return hits, tp, at_group_end(rank) - tp


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
