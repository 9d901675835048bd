"""Heads of words out of the heads of tags: for a new tag among those there are, or for a text.

    w_u = Σ_t c_tu w_t,   c_·u = (SSᵀ + λ)⁻¹ S s_u

This is `eszsl` with the tags' own heads w_t in place of their ridge kernels: no labels are needed,
only the heads, and the vectors S `[tag, word]` of their names. λ is the strength under which heads
mixed from all others' are most like the tags' own: their logits correlate best over the clips.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from fsprobe.heads.head import Head
from fsprobe.heads.words.eszsl import WORD_STRENGTHS, leaning
from fsprobe.heads.words.spectra import held_out, word_side


def heads_from_words(head: Head, words: ArrayLike, queries: ArrayLike, features: ArrayLike) -> Head:
    """Heads of queries, vectors `[query, word]` of words that are no tag of `head`'s. words `[tag,
    word]`: of its tags, zeros where there is no vector; such a tag has no part. features `[clip,
    dim]`: clips to choose λ on. A query without a vector (zeros) gets a head of zeros.
    """
    words, queries = np.asarray(words), np.asarray(queries)
    both = np.concatenate([words, queries])
    seen = np.arange(len(both)) < len(words)
    shares = leaning(both, seen, choose_strength(head, words, features))[seen][:, ~seen]
    mixed = (shares.T @ np.asarray(part, np.float64) for part in head)
    return Head(*(jnp.asarray(part, jnp.float32) for part in mixed))


def leave_one_out(head: Head, words: ArrayLike, features: ArrayLike) -> Head:
    """Each tag's head out of all others', by its words; arguments as in heads_from_words. Heads of
    zeros where fewer than two tags have a vector.
    """
    if np.count_nonzero(np.asarray(words).any(axis=1)) < 2:
        return Head(*(jnp.zeros_like(part, jnp.float32) for part in head))
    mixed = _held_out(head, np.asarray(words), choose_strength(head, words, features))
    return Head(*(jnp.asarray(part, jnp.float32) for part in mixed))


def choose_strength(head: Head, words: ArrayLike, features: ArrayLike) -> float:
    """λ of WORD_STRENGTHS, relative to the sum of SSᵀ's eigenvalues; the first of equals."""
    x = np.asarray(features, np.float64)
    x = x - x.mean(axis=0)
    own = x @ np.asarray(head.kernel, np.float64).T
    scores = []
    for word_l2 in WORD_STRENGTHS:
        mixed = x @ _held_out(head, np.asarray(words), word_l2)[0].T
        lengths = np.linalg.norm(own, axis=0) * np.linalg.norm(mixed, axis=0)
        alike = np.where(lengths > 0, (own * mixed).sum(axis=0) / np.maximum(lengths, 1e-300), 0)
        scores.append(alike.mean())
    return WORD_STRENGTHS[int(np.argmax(scores))]


def _held_out(head: Head, words: np.ndarray, word_l2: float) -> tuple[np.ndarray, np.ndarray]:
    """(kernel, bias) of every tag, mixed from the others', float64."""
    with jax.enable_x64(True):
        parts = (np.asarray(part, np.float64) for part in head)
        kernel, bias = _mixed(*parts, np.asarray(words, np.float64), np.float64(word_l2))
        return np.asarray(kernel), np.asarray(bias)


@jax.jit
def _mixed(kernel: Array, bias: Array, words: Array, word_l2: Array) -> tuple[Array, Array]:
    side = word_side(words, jnp.ones(len(words), bool), jnp.arange(len(words)))
    without = partial(held_out, side, word_l2)
    named = jnp.any(words != 0, axis=1)  # else rounding would be all there is
    return without(kernel.T).T * named[:, None], without(bias[None])[0] * named
