"""Heads of tags that nobody has labelled, from their words: a map from features to word vectors.

ESZSL (Romera-Paredes & Torr, ICML 2015): with centred features X `[clip, dim]`, standardised labels
Y `[clip, seen]` and word vectors S `[seen, word]`, the map V `[dim, word]` minimises

    ‖X V Sᵀ − Y‖² + γ ‖V Sᵀ‖² + λ ‖X V‖² + γλ ‖V‖²
    V = (XᵀX + γ)⁻¹ XᵀY S (SᵀS + λ)⁻¹, and a tag of word vector s has the kernel V s.

S (SᵀS + λ)⁻¹ s = (SSᵀ + λ)⁻¹ S s, so a kernel is a mixture of the seen tags' ridge kernels, and the
words enter through their Gram matrix alone: `mixing` says which seen tags an unseen one leans on.
With XᵀX = U diag(e) Uᵀ and SSᵀ = Q diag(f) Qᵀ every pair of strengths is a rescaling of both
spectra, by 1/(e + γ) and 1/(f + λ).

Strengths are chosen on seen tags held out as if unseen, one after the other. That takes no further
fits either: with C = (SSᵀ + λ)⁻¹ and the ridge scores F of all seen tags, those of tag t from the
words of the others alone are F_t − (F C)_t / C_tt (Rifkin & Lippert 2007, leave one out).

Labels are 0 or 1, or between; what is not known counts as 0. They are standardised tag by tag, so
that a rare tag weighs as much as a common one. Word vectors are centred on the seen tags' mean and
scaled to length 1. Strengths are in units of the sum of the spectrum that they join.

Everything is written for one embedding and one seed's seen tags; `zero_shot_heads` runs many, in
float64: weak strengths divide small differences of large numbers.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from fsprobe.heads.head import Head
from fsprobe.metrics import both

FEATURE_STRENGTHS = tuple(np.logspace(-6, 0, 7).tolist())
WORD_STRENGTHS = tuple(np.logspace(-4, 2, 7).tolist())


class FeatureSide(NamedTuple):
    """What all seeds share. mean `[dim]`; eigenvalues `[direction]` and basis `[dim, direction]` of
    the centred features' Gram matrix; targets `[direction, tag]`: Uᵀ XᵀY of every tag.
    """

    mean: Array
    eigenvalues: Array
    basis: Array
    targets: Array


class WordSide(NamedTuple):
    """What the seen tags of one seed make of the words. seen: bool `[tag]`. eigenvalues
    `[direction]` and vectors `[tag, direction]` of the seen tags' word Gram matrix, as many as
    there are tags. projected `[direction, wanted]`: Qᵀ S s of the tags whose heads are wanted.
    """

    seen: Array
    eigenvalues: Array
    vectors: Array
    projected: Array


class Strengths(NamedTuple):
    """feature, word: `[]`, γ and λ. score: `[]`, the mean average precision of held-out seen tags
    that chose them.
    """

    feature: Array
    word: Array
    score: Array


def feature_side(features: Array, labels: Array) -> FeatureSide:
    """features `[clip, dim]`, labels `[clip, tag]` in [0, 1]: the training clips'."""
    mean = jnp.mean(features, axis=0)
    x = features - mean
    y = _standardised(labels.astype(x.dtype))
    clips, dim = x.shape
    if dim <= clips:
        eigenvalues, basis = jnp.linalg.eigh(x.T @ x)
        return FeatureSide(mean, jnp.maximum(eigenvalues, 0.0), basis, basis.T @ (x.T @ y))
    eigenvalues, left = jnp.linalg.eigh(x @ x.T)
    eigenvalues = jnp.maximum(eigenvalues, 0.0)
    # directions in which the clips do not differ have no part in any kernel
    lengths = jnp.sqrt(eigenvalues)
    present = lengths > jnp.max(lengths) * jnp.finfo(x.dtype).eps * clips
    scale = jnp.where(present, 1.0 / jnp.where(present, lengths, 1.0), 0.0)
    basis = x.T @ (left * scale)
    return FeatureSide(mean, eigenvalues, basis, basis.T @ (x.T @ y))


def word_side(words: Array, seen: Array, wanted: Array) -> WordSide:
    """words `[tag, word]`, seen bool `[tag]`, wanted int `[wanted]`: the tags to make heads of.
    Words of zeros have no vector: such a tag teaches nothing, and its kernel is zero.
    """
    seen = seen & jnp.any(words != 0, axis=1)
    vectors = centred_words(words, seen)
    taught = vectors * seen[:, None]
    eigenvalues, basis = jnp.linalg.eigh(taught @ taught.T)
    projected = basis.T @ (taught @ vectors[wanted].T)
    return WordSide(seen, jnp.maximum(eigenvalues, 0.0), basis, projected)


def centred_words(words: Array, seen: Array) -> Array:
    """Words of length 1, without the seen ones' mean, scaled to length 1 again; zeros stay."""
    known = jnp.any(words != 0, axis=1, keepdims=True)
    unit = _unit(words)
    counted = seen[:, None] & known
    mean = jnp.sum(unit * counted, axis=0) / jnp.maximum(jnp.sum(counted), 1)
    return _unit(jnp.where(known, unit - mean, 0.0))


def eszsl(features: FeatureSide, words: WordSide, feature_l2: Array, word_l2: Array) -> Head:
    """The heads of the wanted tags, by their words alone; strengths `[]`.

    A score is 0 on average over the training clips, on a scale that all tags share.
    """
    ridge = features.basis @ _ridge(features, words, feature_l2)
    kernel = (ridge @ mixing(words, word_l2)).T
    return Head(kernel, -kernel @ features.mean)


def mixing(words: WordSide, word_l2: Array) -> Array:
    """`[tag, wanted]`: how much of each seen tag's ridge kernel is in each wanted tag's; of unseen
    ones, none.
    """
    scale = words.eigenvalues + word_l2 * _total(words.eigenvalues)
    return words.vectors @ (words.projected / scale[:, None]) * words.seen[:, None]


def held_out_scores(
    side: FeatureSide, words: WordSide, feature_l2: Array, word_l2: Array, features: Array
) -> Array:
    """features `[clip, dim]` → `[clip, tag]`: each seen tag's scores by the words of the other seen
    ones; of no meaning where a tag is unseen.
    """
    ridge = (features - side.mean) @ side.basis @ _ridge(side, words, feature_l2)
    return held_out(words, word_l2, ridge)


def held_out(words: WordSide, word_l2: Array, values: Array) -> Array:
    """values `[…, tag]`, of each tag, mixed by the words from those of the others."""
    scale = words.eigenvalues + word_l2 * _total(words.eigenvalues)
    inverse = (words.vectors / scale) @ words.vectors.T
    return values - (values @ inverse) / jnp.diagonal(inverse)


def held_out_precision(scores: Array, labels: Array, words_seen: Array) -> Array:
    """Mean average precision `[]` of the seen tags' scores, float32 `[clip, tag]`; tags that these
    clips all have, or none, do not count.
    """
    precision = jax.vmap(both, in_axes=1)(scores, labels > 0.5)[0]
    counted = words_seen & ~jnp.isnan(precision)
    return jnp.sum(jnp.where(counted, precision, 0.0)) / jnp.maximum(jnp.sum(counted), 1)


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
    on which strengths are chosen; None for the training clips. wanted int `[seed, wanted]`: the
    tags to make heads of; None for all, the seen ones too.
    """
    prepared = prepare(features, labels, validation)
    return heads_of(
        prepared, words, seen, wanted=wanted, feature_l2s=feature_l2s, word_l2s=word_l2s
    )


class Prepared(NamedTuple):
    """What features alone say; features, positive `[clip, …]`: of the clips that choose."""

    side: FeatureSide
    features: np.ndarray
    positive: np.ndarray


def prepare(
    features: ArrayLike, labels: ArrayLike, validation: tuple[ArrayLike, ArrayLike] | None = None
) -> Prepared:
    """The part of `zero_shot_heads` that all seen tags and words share."""
    clips, clip_labels = (features, labels) if validation is None else validation
    with jax.enable_x64(True):
        side = _feature_side(*_float64(features, labels))
    return Prepared(side, _float64(clips)[0], np.asarray(clip_labels) > 0.5)


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
    side = prepared.side
    positive = jnp.asarray(prepared.positive)
    with jax.enable_x64(True):
        sides = _word_sides(*_float64(words), *_tags(seen, wanted))
        l2s = tuple(array.ravel() for array in np.meshgrid(*_float64(feature_l2s, word_l2s)))
    best, scores = [], []
    for row in range(len(sides.seen)):
        with jax.enable_x64(True):
            one = jax.tree.map(lambda leaf, row=row: leaf[row], sides)
            held_out = np.asarray(_held_out_grid(side, one, *l2s, prepared.features))
        table = np.asarray(_precisions(held_out, positive, np.asarray(one.seen)))
        best.append(int(np.argmax(table)))
        scores.append(table.max())
    with jax.enable_x64(True):
        chosen = tuple(array[best] for array in l2s)
        head = _as_float32(_per_seed(side, sides, *chosen))
    return head, Strengths(*(jnp.asarray(array, jnp.float32) for array in (*chosen, scores)))


def leaning(words: ArrayLike, seen: ArrayLike, word_l2: ArrayLike) -> np.ndarray:
    """`mixing` of one seed, for every tag: float64 `[seen tag, tag]`, zeros for unseen rows."""
    with jax.enable_x64(True):
        sides = _word_sides(*_float64(words), *_tags(np.asarray(seen)[None], None))
        one = jax.tree.map(lambda leaf: leaf[0], sides)
        return np.asarray(jax.jit(mixing)(one, *_float64(word_l2)))


def grid_of_heads(
    features: ArrayLike,
    labels: ArrayLike,
    words: ArrayLike,
    seen: ArrayLike,
    *,
    wanted: ArrayLike | None = None,
    feature_l2s: tuple[float, ...] = FEATURE_STRENGTHS,
    word_l2s: tuple[float, ...] = WORD_STRENGTHS,
) -> Head:
    """As zero_shot_heads, for every pair of strengths → kernel float32 `[seed, feature_l2, word_l2,
    wanted, dim]`, bias `[seed, feature_l2, word_l2, wanted]`.
    """
    with jax.enable_x64(True):
        side = _feature_side(*_float64(features, labels))
        sides = _word_sides(*_float64(words), *_tags(seen, wanted))
        return _as_float32(_grid(side, sides, *_float64(feature_l2s, word_l2s)))


_feature_side = jax.jit(feature_side)


@jax.jit
def _word_sides(words: Array, seen: Array, wanted: Array) -> WordSide:
    """Of every seed; words `[tag, word]` or `[seed, tag, word]`."""
    return jax.vmap(word_side, in_axes=(None if words.ndim == 2 else 0, 0, 0))(words, seen, wanted)


@jax.jit
def _held_out_grid(
    side: FeatureSide, words: WordSide, feature_l2s: Array, word_l2s: Array, features: Array
) -> Array:
    """float32 `[pair, clip, tag]`, a pair of strengths at a time."""
    one = partial(held_out_scores, side, words, features=features)
    return jax.lax.map(lambda pair: one(*pair).astype(jnp.float32), (feature_l2s, word_l2s))


@jax.jit
def _precisions(scores: Array, labels: Array, seen: Array) -> Array:
    """`[pair, clip, tag]` → `[pair]`."""
    return jax.lax.map(lambda one: held_out_precision(one, labels, seen), scores)


_per_seed = jax.jit(jax.vmap(eszsl, in_axes=(None, 0, 0, 0)))


@jax.jit
def _grid(side: FeatureSide, words: WordSide, feature_l2s: Array, word_l2s: Array) -> Head:
    over_words = jax.vmap(eszsl, in_axes=(None, None, None, 0))
    over_features = jax.vmap(over_words, in_axes=(None, None, 0, None))
    over_seeds = jax.vmap(over_features, in_axes=(None, 0, None, None))
    return over_seeds(side, words, feature_l2s, word_l2s)


def _tags(seen: ArrayLike, wanted: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """(seen bool `[seed, tag]`, wanted int32 `[seed, wanted]`)."""
    seen = np.asarray(seen, bool)
    every = np.broadcast_to(np.arange(seen.shape[1]), seen.shape)
    return seen, np.asarray(every if wanted is None else wanted, np.int32)


def _float64(*arrays: ArrayLike | tuple[float, ...]) -> list[np.ndarray]:
    return [np.asarray(array, np.float64) for array in arrays]


def _as_float32(head: Head) -> Head:
    return Head(head.kernel.astype(jnp.float32), head.bias.astype(jnp.float32))


def _ridge(features: FeatureSide, words: WordSide, feature_l2: Array) -> Array:
    """`[direction, tag]`: the seen tags' ridge kernels in the basis; unseen labels have no part."""
    scale = features.eigenvalues + feature_l2 * _total(features.eigenvalues)
    return features.targets * words.seen / scale[:, None]


def _total(eigenvalues: Array) -> Array:
    """Their sum, the unit of strengths; more than 0."""
    return jnp.maximum(jnp.sum(eigenvalues), jnp.finfo(eigenvalues.dtype).tiny)


def _standardised(labels: Array) -> Array:
    """`[clip, tag]` with mean 0 and deviation 1 over the clips; zeros where all are the same."""
    centred = labels - jnp.mean(labels, axis=0)
    deviation = jnp.sqrt(jnp.mean(centred**2, axis=0))
    varied = deviation > 1e-9
    return jnp.where(varied, centred / jnp.where(varied, deviation, 1.0), 0.0)


def _unit(vectors: Array) -> Array:
    norms = jnp.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / jnp.where(norms > 0, norms, 1.0)
