"""ConSE: a clip's place among the words is the mean of the seen tags' words, by how likely each is.

    f(x) = Σ_t p_t(x) s_t over the `top` likeliest seen tags t,   score of tag u = cos(f(x), s_u)

with p_t the probability that the seen tags' own heads give (Norouzi et al., ICLR 2014). Only word
Gram matrices are needed: f·s_u = Σ p_t K_tu and ‖f‖² = pᵀ K p.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fsprobe.heads.head import Head
from fsprobe.heads.words.spectra import held_out_precision, unit_words

TOPS = (1, 3, 10, 30, 1000)  # how many seen tags are mixed; more than there are: all


class ConseHead(NamedTuple):
    """head: of every tag; only those of seen tags are asked. seen: bool `[tag]`. similarity `[tag,
    tag]`: cosines of the words. top: int32 `[]`, how many seen tags are mixed.
    """

    head: Head
    seen: Array
    similarity: Array
    top: Array

    @property
    def dim(self) -> int:
        return self.head.dim

    def score(self, features: Array) -> Array:
        """features `[clip, dim]` → cosines `[clip, tag]`, of seen and unseen tags."""
        probability = _probability(self, features)
        mixed = jnp.where(_rank(probability) < self.top, probability, 0.0)
        return _cosine(mixed, mixed @ self.similarity, self.similarity)


def conse(head: Head, words: Array, seen: Array, top: Array | int) -> ConseHead:
    """words `[tag, word]`, zeros where there is no vector: such a tag teaches nothing and is never
    recognised. seen bool `[tag]`.
    """
    unit = unit_words(words)
    seen = seen & jnp.any(words != 0, axis=1)
    return ConseHead(head, seen, unit @ unit.T, jnp.asarray(top, jnp.int32))


def held_out_scores(head: ConseHead, features: Array) -> Array:
    """features `[clip, dim]` → `[clip, tag]`: each seen tag's cosine when it is not one of those
    that are mixed; of no meaning where a tag is unseen.
    """
    probability = _probability(head, features)
    rank = _rank(probability)

    def one(tag: Array) -> Array:
        others = rank - (rank > rank[:, tag][:, None])
        chosen = (others < head.top) & (jnp.arange(rank.shape[1]) != tag)
        mixed = jnp.where(chosen, probability, 0.0)
        return _cosine(mixed, mixed @ head.similarity[tag], head.similarity)

    return jax.lax.map(one, jnp.arange(rank.shape[1])).T


def choose_top(
    head: Head, words: Array, seen: Array, tops: Array, features: Array, labels: Array
) -> tuple[Array, Array]:
    """(top, its score) with the highest mean average precision of held-out seen tags on the given
    clips, features `[clip, dim]`, labels `[clip, tag]`; the first of equals.
    """

    def precision(top: Array) -> Array:
        candidate = conse(head, words, seen, top)
        scores = held_out_scores(candidate, features).astype(jnp.float32)
        return held_out_precision(scores, labels, candidate.seen)

    table = jax.lax.map(precision, tops)
    return tops[jnp.argmax(table)], jnp.max(table)


def _probability(head: ConseHead, features: Array) -> Array:
    """`[clip, tag]`, 0 of unseen tags."""
    return jnp.where(head.seen, jax.nn.sigmoid(head.head.score(features)), 0.0)


def _rank(probability: Array) -> Array:
    """int `[clip, tag]`: 0 of the likeliest tag of a clip; the first of equals first."""
    return jnp.argsort(jnp.argsort(-probability, axis=1), axis=1)


def _cosine(mixed: Array, product: Array, similarity: Array) -> Array:
    """f·s over ‖f‖; 0 where nothing is mixed. product: `[clip]` or `[clip, tag]`."""
    length = jnp.sqrt(jnp.maximum(jnp.einsum("ct,tu,cu->c", mixed, similarity, mixed), 0.0))
    length = length.reshape(length.shape + (1,) * (product.ndim - 1))
    return jnp.where(length > 0, product / jnp.where(length > 0, length, 1.0), 0.0)
