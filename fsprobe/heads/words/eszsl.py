"""ESZSL for many seeds and strengths at once; `fsprobe.heads.words.spectra` has its equations."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from fsprobe.heads.head import Head
from fsprobe.heads.words.spectra import (
    FeatureSide,
    WordSide,
    eszsl,
    feature_side,
    held_out_precision,
    held_out_scores,
    mixing,
    word_side,
)

FEATURE_STRENGTHS = tuple(np.logspace(-6, 0, 7).tolist())
WORD_STRENGTHS = tuple(np.logspace(-4, 2, 7).tolist())


class Strengths(NamedTuple):
    """feature, word: `[]`, γ and λ. score: `[]`, the mean average precision of held-out seen tags
    that chose them.
    """

    feature: Array
    word: Array
    score: Array


def zero_shot_heads(
    features: ArrayLike,
    labels: ArrayLike,
    words: ArrayLike,
    seen: ArrayLike,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    *,
    wanted: ArrayLike | None = None,
    feature_l2s: tuple[float, ...] = FEATURE_STRENGTHS,
    word_l2s: tuple[float, ...] = WORD_STRENGTHS,
) -> tuple[Head, Strengths]:
    """ESZSL heads for many seeds → kernel float32 `[seed, wanted, dim]`, bias `[seed, wanted]`, and
    the strengths chosen for each seed, `[seed]`: the pair with the highest `held_out_precision`,
    the first of equals.

    features `[clip, dim]`, labels `[clip, tag]`: the training clips'. words `[tag, word]`, zeros
    where there is no vector. seen bool `[seed, tag]`. validation: (features, labels) of the clips
    on which strengths are chosen; None for the training clips, each left out in turn. wanted int
    `[seed, wanted]`: the tags to make heads of; None for all, the seen ones too.
    """
    prepared = prepare(features, labels, validation)
    return heads_of(
        prepared, words, seen, wanted=wanted, feature_l2s=feature_l2s, word_l2s=word_l2s
    )


class Prepared(NamedTuple):
    """What features alone say; features, positive `[clip, …]`: of the clips that choose. learnt
    `[clip, tag]`: what was learnt from these very clips, None if others choose.
    """

    side: FeatureSide
    features: np.ndarray
    positive: np.ndarray
    learnt: np.ndarray | None


def prepare(
    features: ArrayLike, labels: ArrayLike, validation: tuple[ArrayLike, ArrayLike] | None = None
) -> Prepared:
    """The part of `zero_shot_heads` that all seen tags and words share."""
    clips, clip_labels = (features, labels) if validation is None else validation
    with jax.enable_x64(True):
        side = _feature_side(*_float64(features, labels))
    learnt = _float64(labels)[0] if validation is None else None
    return Prepared(side, _float64(clips)[0], np.asarray(clip_labels) > 0.5, learnt)


def heads_of(
    prepared: Prepared,
    words: ArrayLike,
    seen: ArrayLike,
    *,
    wanted: ArrayLike | None = None,
    feature_l2s: tuple[float, ...] = FEATURE_STRENGTHS,
    word_l2s: tuple[float, ...] = WORD_STRENGTHS,
) -> tuple[Head, Strengths]:
    """The rest of `zero_shot_heads`. words: `[tag, word]`, or `[seed, tag, word]` of each seed."""
    side, clips = prepared.side, (prepared.features, prepared.learnt)
    positive = jnp.asarray(prepared.positive)
    with jax.enable_x64(True):
        sides = _word_sides(*_float64(words), *_tags(seen, wanted))
        l2s = tuple(array.ravel() for array in np.meshgrid(*_float64(feature_l2s, word_l2s)))
    best, scores = [], []
    for row in range(len(sides.seen)):
        with jax.enable_x64(True):
            one = jax.tree.map(lambda leaf, row=row: leaf[row], sides)
            held_out = np.asarray(_held_out_grid(side, one, *l2s, *clips))
        table = np.asarray(_precisions(held_out, positive, np.asarray(one.seen)))
        best.append(int(np.argmax(table)))
        scores.append(table.max())
    with jax.enable_x64(True):
        chosen = tuple(array[best] for array in l2s)
        head = Head(*(leaf.astype(jnp.float32) for leaf in _per_seed(side, sides, *chosen)))
    return head, Strengths(*(jnp.asarray(array, jnp.float32) for array in (*chosen, scores)))


def leaning(words: ArrayLike, seen: ArrayLike, word_l2: ArrayLike) -> np.ndarray:
    """`mixing` of one seed, for every tag: float64 `[seen tag, tag]`, zeros for unseen rows."""
    with jax.enable_x64(True):
        sides = _word_sides(*_float64(words), *_tags(np.asarray(seen)[None], None))
        one = jax.tree.map(lambda leaf: leaf[0], sides)
        return np.asarray(jax.jit(mixing)(one, *_float64(word_l2)))


_feature_side = jax.jit(feature_side)


@jax.jit
def _word_sides(words: Array, seen: Array, wanted: Array) -> WordSide:
    """Of every seed; words `[tag, word]` or `[seed, tag, word]`."""
    return jax.vmap(word_side, in_axes=(None if words.ndim == 2 else 0, 0, 0))(words, seen, wanted)


@jax.jit
def _held_out_grid(
    side: FeatureSide,
    words: WordSide,
    feature_l2s: Array,
    word_l2s: Array,
    features: Array,
    labels: Array | None,
) -> Array:
    """float32 `[pair, clip, tag]`, a pair of strengths at a time."""
    one = partial(held_out_scores, side, words, features=features, labels=labels)
    return jax.lax.map(lambda pair: one(*pair).astype(jnp.float32), (feature_l2s, word_l2s))


@jax.jit
def _precisions(scores: Array, labels: Array, seen: Array) -> Array:
    """`[pair, clip, tag]` → `[pair]`."""
    return jax.lax.map(lambda one: held_out_precision(one, labels, seen), scores)


_per_seed = jax.jit(jax.vmap(eszsl, in_axes=(None, 0, 0, 0)))


def _tags(seen: ArrayLike, wanted: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """(seen bool `[seed, tag]`, wanted int32 `[seed, wanted]`)."""
    seen = np.asarray(seen, bool)
    every = np.broadcast_to(np.arange(seen.shape[1]), seen.shape)
    return seen, np.asarray(every if wanted is None else wanted, np.int32)


def _float64(*arrays: ArrayLike | tuple[float, ...]) -> list[np.ndarray]:
    return [np.asarray(array, np.float64) for array in arrays]
