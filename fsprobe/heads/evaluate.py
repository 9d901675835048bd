"""How good a head is: metrics from its scores, in one place for every solver."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from fsprobe import metrics
from fsprobe.heads.data import (
    Data,
    Labelled,
    Task,
    on_real_clips,
    over_blocks,
    tags_from,
    with_tags,
)

_CLIPS = 128  # of the support, scored at a time


class TagMetrics(NamedTuple):
    """A probe on the test clips, per tag. average_precision, roc_auc: float32 `[tag]`, NaN where a
    class is absent. Numbers of clips, int32 `[tag]`: given, those that get the tag at the threshold
    of the support set; hits, those of them that carry it; true, all that carry it.
    """

    average_precision: Any
    roc_auc: Any
    hits: Any
    given: Any
    true: Any


def evaluate(
    scores: ArrayLike, positive: ArrayLike, negative: ArrayLike | None = None
) -> dict[str, Any]:
    """Metrics of scores `[clip, tag]`, logits or probabilities, against labels as weights.

    positive, negative: `[clip, tag]`, as in `fsprobe.fit`; None: whatever is not positive is
    negative. A clip unknown for a tag (0, 0) is left out of the tag's metrics; one of a soft label
    counts as a positive and as a negative clip, with those weights (scikit-learn's sample_weight).

    Returns average_precision and roc_auc_per_tag, float32 `[tag]`, NaN where a class is absent, and
    mAP and roc_auc, their means over the tags that have one. Raises ValueError on shapes that
    differ and on weights below 0.
    """
    scores = np.asarray(scores)
    positive, negative = label_weights(positive, negative)
    if scores.ndim != 2 or scores.shape != positive.shape:
        raise ValueError(f"scores {scores.shape} and labels {positive.shape} must be [clip, tag]")
    precision, auc = (
        np.asarray(values) for values in metrics.weighted(scores.T, positive.T, negative.T)
    )
    return {
        "mAP": metrics.mean_of_defined(precision),
        "roc_auc": metrics.mean_of_defined(auc),
        "average_precision": precision,
        "roc_auc_per_tag": auc,
    }


def label_weights(positive: ArrayLike, negative: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """Both weights as float32 `[clip, tag]`. Raises ValueError on values below 0 or not finite, or
    on shapes that differ.
    """
    positive = np.asarray(positive).astype(np.float32)
    negative = 1 - positive if negative is None else np.asarray(negative).astype(np.float32)
    if positive.ndim != 2 or positive.shape != negative.shape:
        raise ValueError(
            f"positive and negative {positive.shape} and {negative.shape} must both be [clip, tag]"
        )
    for name, weights in (("positive", positive), ("negative", negative)):
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise ValueError(f"{name} holds weights below 0 or not finite")
    return positive, negative


def evaluate_task(head: Any, task: Task, data: Data, tagged: bool) -> TagMetrics:
    """A probe's head on the test clips.

    tagged: on the clips with at least one of the probe's tags, as the authors' code does; else on
    all. Scores are logits, because a sigmoid would make ties.
    """
    counted = None
    if tagged:
        test = data.test.of_tags(task.tags)
        counted = jnp.any(_hard(test.positive, test.negative)[0] & task.tag_mask, axis=1)

    def block(start: Array, size: int, found: TagMetrics) -> TagMetrics:
        mine = task._replace(tags=tags_from(task.tags, start, size))
        new = _evaluate_tags(head.block(start, size), mine, data, counted)
        return with_tags(found, new, start)

    n_tags = task.tags.size
    nan, zeros = jnp.full(n_tags, jnp.nan), jnp.zeros((3, n_tags), jnp.int32)
    return over_blocks(block, TagMetrics(nan, nan, *zeros), task.n_way, n_tags)


def _evaluate_tags(head: Any, task: Task, data: Data, counted: Array | None) -> TagMetrics:
    """All of the task's tags. counted: bool `[clip]`, the test clips that take part."""
    test = data.test.of_tags(task.tags)
    positive, known = _hard(test.positive, test.negative)
    if counted is not None:
        known &= counted[:, None]
    scores = head.score(test.features)
    precision, auc = jax.vmap(metrics.both, in_axes=1)(scores, positive, known)
    given = (scores >= support_thresholds(head, task, data.train)) & known
    positive &= known
    counts = (jnp.sum(part, axis=0) for part in (given & positive, given, positive))
    return TagMetrics(precision, auc, *counts)


def support_thresholds(head: Any, task: Task, train: Labelled) -> Array:
    """`[tag]`: the scores that give each tag its best F1 on the support set."""
    count = task.support.size
    positive, known = _hard(*task.labels(train))

    def block(start: Array, size: int, scores: Array) -> Array:
        rows = lax.dynamic_slice_in_dim(task.support, start, size)
        return lax.dynamic_update_slice_in_dim(scores, head.score(train.features[rows]), start, 0)

    scores = over_blocks(block, jnp.zeros(positive.shape), task.num_support, count, _CLIPS)
    known &= task.clip_mask[:, None]

    def of(size: int) -> Array:
        return jax.vmap(metrics.best_threshold, in_axes=1)(
            scores[:size], positive[:size], known[:size]
        )

    return on_real_clips(of, task.num_support, count)


def _hard(positive: Array, negative: Array | None) -> tuple[Array, Array]:
    """(positive, known), bool `[clip, tag]`: a soft label counts as its likelier one."""
    if negative is None:
        positive = positive > 0
        return positive, jnp.ones_like(positive)
    return positive > negative, positive + negative > 0
