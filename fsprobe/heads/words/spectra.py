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
Without validation clips it is the training clips that choose, each scored as if it had not been
learnt from: with h_i its leverage xᵢ (XᵀX + γ)⁻¹ xᵢᵀ, F is (F_i − h_i Y_i) / (1 − h_i) there.

Labels are 0 or 1, or between; what is not known counts as 0. They are standardised tag by tag, so
that a rare tag weighs as much as a common one. Word vectors are centred on the seen tags' mean and
scaled to length 1. Strengths are in units of the sum of the spectrum that they join.

Everything is written for one embedding and one seed's seen tags; `eszsl.zero_shot_heads` runs many,
in float64: weak strengths divide small differences of large numbers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fsprobe.heads.head import Head
from fsprobe.metrics import both


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
    unit = unit_words(words)
    counted = seen[:, None] & known
    mean = jnp.sum(unit * counted, axis=0) / jnp.maximum(jnp.sum(counted), 1)
    return unit_words(jnp.where(known, unit - mean, 0.0))


def unit_words(words: Array) -> Array:
    """Words `[tag, word]` of length 1; zeros stay."""
    norms = jnp.linalg.norm(words, axis=-1, keepdims=True)
    return words / jnp.where(norms > 0, norms, 1.0)


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
    shares = words.projected / _scale(words, word_l2)[:, None]
    return words.vectors @ shares * words.seen[:, None]


def held_out_scores(
    side: FeatureSide,
    words: WordSide,
    feature_l2: Array,
    word_l2: Array,
    features: Array,
    labels: Array | None = None,
) -> Array:
    """features `[clip, dim]` → `[clip, tag]`: each seen tag's scores by the words of the other seen
    ones; of no meaning where a tag is unseen. labels `[clip, tag]`: where the clips are those that
    were learnt from; then each is left out.
    """
    projected = (features - side.mean) @ side.basis
    ridge = projected @ _ridge(side, words, feature_l2)
    if labels is not None:
        leverage = jnp.sum(projected**2 / _scale(side, feature_l2), axis=1)[:, None]
        own = _standardised(labels.astype(ridge.dtype)) * words.seen
        ridge = (ridge - leverage * own) / (1.0 - leverage)
    return held_out(words, word_l2, ridge)


def held_out(words: WordSide, word_l2: Array, values: Array) -> Array:
    """values `[…, tag]`, of each tag, mixed by the words from those of the others."""
    inverse = (words.vectors / _scale(words, word_l2)) @ words.vectors.T
    return values - (values @ inverse) / jnp.diagonal(inverse)


def held_out_precision(scores: Array, labels: Array, words_seen: Array) -> Array:
    """Mean average precision `[]` of the seen tags' scores, float32 `[clip, tag]`; tags that these
    clips all have, or none, do not count.
    """
    precision = jax.vmap(both, in_axes=1)(scores, labels > 0.5)[0]
    counted = words_seen & ~jnp.isnan(precision)
    return jnp.sum(jnp.where(counted, precision, 0.0)) / jnp.maximum(jnp.sum(counted), 1)


def _ridge(features: FeatureSide, words: WordSide, feature_l2: Array) -> Array:
    """`[direction, tag]`: the seen tags' ridge kernels in the basis; unseen labels have no part."""
    return features.targets * words.seen / _scale(features, feature_l2)[:, None]


def _scale(side: FeatureSide | WordSide, l2: Array) -> Array:
    """`[direction]`: e + γ, or f + λ. The unit of strengths is the sum of the spectrum."""
    total = jnp.sum(side.eigenvalues)
    return side.eigenvalues + l2 * jnp.maximum(total, jnp.finfo(total.dtype).tiny)


def _standardised(labels: Array) -> Array:
    """`[clip, tag]` with mean 0 and deviation 1 over the clips; zeros where all are the same."""
    centred = labels - jnp.mean(labels, axis=0)
    deviation = jnp.sqrt(jnp.mean(centred**2, axis=0))
    varied = deviation > 1e-9
    return jnp.where(varied, centred / jnp.where(varied, deviation, 1.0), 0.0)
