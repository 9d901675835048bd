"""How well tags are found for clips, and clips for tags, where some tags were never labelled.

Retrieval asks, per tag, for its clips; annotation asks, per clip, for its tags. Both rank one row
of scores: a tag's over clips, or a clip's over the tags that compete. In the unseen setting only
unseen tags compete; in the generalised one all do (Choi et al., ISMIR 2019; Xian et al., TPAMI
2019).

Ties are broken at random, and the expected value is reported, so that equal scores earn chance.
A row without a positive or without a negative has no metric: NaN, left out of means.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from fsprobe.metrics import both, mean_of_defined

K = 10  # of precision at k and hit at k


class Ranking(NamedTuple):
    """Metrics of one row's ranking, each `[]`; of many rows, each `[row]`."""

    roc_auc: Array
    average_precision: Array
    precision_at_k: Array
    hit_at_k: Array


class ClipKinds(NamedTuple):
    """bool `[clip]` each: does a clip carry seen tags alone, unseen ones alone, or both."""

    seen: Array
    unseen: Array
    both: Array


def rank_row(scores: Array, labels: Array, counted: Array, k: int = K) -> Ranking:
    """Metrics of one ranking. scores: float32; labels and counted: bool; all `[candidate]`.
    counted: which candidates take part.
    """
    precision, area = both(scores, labels, counted)
    positives, slots_filled = _top(scores, labels & counted, counted, k)
    defined = ~jnp.isnan(area)
    return Ranking(
        area,
        precision,
        jnp.where(defined, positives / k, jnp.nan),
        jnp.where(defined, slots_filled, jnp.nan),
    )


def retrieval(scores: ArrayLike, labels: ArrayLike, clips: ArrayLike, k: int = K) -> Ranking:
    """Each tag's ranking of the clips, `[tag]`. scores, labels: `[clip, tag]`; clips: bool
    `[clip]` or `[tag, clip]`, the clips to rank.
    """
    scores, labels, clips = _arrays(scores, labels, clips)
    return _rows(scores.T, labels.T, jnp.broadcast_to(clips, scores.T.shape), k)


def annotation(scores: ArrayLike, labels: ArrayLike, tags: ArrayLike, k: int = K) -> Ranking:
    """Each clip's ranking of the tags, `[clip]`. scores, labels: `[clip, tag]`; tags: bool `[tag]`
    or `[clip, tag]`, the tags that compete.
    """
    scores, labels, tags = _arrays(scores, labels, tags)
    return _rows(scores, labels, jnp.broadcast_to(tags, scores.shape), k)


def clip_kinds(labels: ArrayLike, seen: ArrayLike, unseen: ArrayLike | None = None) -> ClipKinds:
    """labels bool `[clip, tag]`; seen, unseen bool `[tag]`, by default all others. A clip without
    tags is of no kind.
    """
    labels, seen = jnp.asarray(labels, bool), jnp.asarray(seen, bool)
    unseen = ~seen if unseen is None else jnp.asarray(unseen, bool)
    has_seen, has_unseen = jnp.any(labels & seen, axis=1), jnp.any(labels & unseen, axis=1)
    return ClipKinds(has_seen & ~has_unseen, has_unseen & ~has_seen, has_seen & has_unseen)


def evaluate_zero_shot(
    scores: ArrayLike,
    labels: ArrayLike,
    seen: ArrayLike,
    k: int = K,
    *,
    unseen: ArrayLike | None = None,
    known: ArrayLike | None = None,
) -> dict[str, float]:
    """Means of all of it for one seed: scores and labels `[clip, tag]` of all tags, seen bool
    `[tag]`. unseen: bool `[tag]`, by default all others; what is neither takes no part. known: bool
    `[clip, tag]`, the labels that count, by default all.

    Keys are TASK/TAGS/CLIPS/METRIC. retrieval/unseen/all and retrieval/seen/all: over those tags;
    retrieval/all/…: over all tags. annotation/unseen/CLIPS: only unseen tags compete, over the
    clips that carry one: all, unseen alone, or both. annotation/generalised/CLIPS: all tags
    compete, over all clips, or those that carry seen tags alone, unseen ones alone, or both.
    """
    scores, labels, seen = _arrays(scores, labels, seen)
    new = ~seen if unseen is None else jnp.asarray(unseen, bool)
    counted = jnp.ones(labels.shape, bool) if known is None else jnp.asarray(known, bool)
    kinds = clip_kinds(labels & counted, seen, new)
    every_clip = jnp.ones(scores.shape[0], bool)
    per_tag = retrieval(scores, labels, counted.T, k)
    among_new = annotation(scores, labels, counted & new, k)
    generalised = annotation(scores, labels, counted & (seen | new), k)
    groups = {
        "retrieval/unseen/all": (per_tag, new),
        "retrieval/seen/all": (per_tag, seen),
        "retrieval/all/all": (per_tag, seen | new),
        "annotation/unseen/all": (among_new, every_clip),
        "annotation/unseen/unseen": (among_new, kinds.unseen),
        "annotation/unseen/both": (among_new, kinds.both),
        "annotation/generalised/all": (generalised, every_clip),
        "annotation/generalised/seen": (generalised, kinds.seen),
        "annotation/generalised/unseen": (generalised, kinds.unseen),
        "annotation/generalised/both": (generalised, kinds.both),
    }
    metrics = ("roc_auc", "mAP", f"precision_at_{k}", f"hit_at_{k}")
    return {
        f"{group}/{metric}": mean_of_defined(np.asarray(values, np.float64)[np.asarray(rows)])
        for group, (ranking, rows) in groups.items()
        for metric, values in zip(metrics, ranking, strict=True)
    }


@partial(jax.jit, static_argnames="k")
def _rows(scores: Array, labels: Array, counted: Array, k: int) -> Ranking:
    return jax.vmap(partial(rank_row, k=k))(scores, labels, counted)


def _arrays(scores: ArrayLike, labels: ArrayLike, mask: ArrayLike) -> tuple[Array, Array, Array]:
    scores, labels = jnp.asarray(scores, jnp.float32), jnp.asarray(labels, bool)
    if scores.shape != labels.shape or scores.ndim != 2:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} must be [clip, tag]")
    return scores, labels, jnp.asarray(mask, bool)


def _top(scores: Array, positive: Array, counted: Array, k: int) -> tuple[Array, Array]:
    """(expected positives among the first k, probability of one at least).

    What lies above the k-th score is in; the places left go to those tied with it, drawn at random:
    none of m draws is positive with probability Π_{i<m} (tied − positive − i) / (tied − i).
    """
    k = min(k, scores.size)
    last = -jnp.sort(-jnp.where(counted, scores, -jnp.inf))[k - 1]
    above, tied = counted & (scores > last), counted & (scores == last)
    hits, tied_hits = jnp.sum(positive & above), jnp.sum(positive & tied)
    num_tied = jnp.sum(tied)
    places = jnp.minimum(k - jnp.sum(above), num_tied)
    i = jnp.arange(k)
    missed = jnp.clip(num_tied - tied_hits - i, 0) / jnp.maximum(num_tied - i, 1)
    none = jnp.prod(jnp.where(i < places, missed, 1.0))
    expected = hits + places * tied_hits / jnp.maximum(num_tied, 1)
    return expected, jnp.where(hits > 0, 1.0, 1.0 - none)
